"""Between our benchmark files and lighteval 0.13: every place where it cannot express v1 is here.

lighteval's `LightevalTask` shuffles the scored rows and draws the solved examples (its scheme is v1's:
one `random.Random(42)` a task), its `Doc`s go through any `LightevalModel`, and its metrics score. Four
workarounds, each with its cause:

1. `LightevalTask.download_dataset_worker` calls `datasets.load_dataset`, which copies local rows into a
   cache under the home folder and asks the Hub about the rest. The rows are put into `task.dataset`,
   the attribute `LightevalTask.load_datasets` fills. (lighteval/tasks/lighteval_task.py)
2. `PromptManager._prepare_plain_text` strips the right answer of a solved example. v1 does not, and
   HellaSwag's cleaned endings often begin or end with a space. So the whole prompt is rendered here
   and handed over as a `Doc` without examples. (lighteval/tasks/prompt_manager.py)
3. A `Doc` has one query, Winogrande two contexts with one continuation. Each context becomes a `Doc` of
   its own with a single choice; their responses are joined before scoring. (lighteval/tasks/requests.py)
4. `TruthfulqaMCMetrics` wants the mc1 list in front and `NormalizedMultiChoiceProbability` is 0 / 0 once
   every probability underflows. mc2 is a ratio, so all log-probabilities are first shifted by the
   largest. (lighteval/metrics/harness_compatibility/truthful_qa.py, metrics_sample.py)

For lighteval's own models the same definitions are put otherwise: lighteval_tasks.py. Its
`TransformersModel` is not used here: it keeps its answers in a cache keyed by the model's name
and not its weights, wraps prompts in the chat template whenever the tokenizer has one, and cuts too long
prompts otherwise than v1. With the template off and prompts that fit, runner.py gives the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lighteval.metrics import apply_metric
from lighteval.metrics.metrics_sample import (
    ExactMatches,
    LoglikelihoodAcc,
    NormalizedMultiChoiceProbability,
    SampleLevelComputation,
)
from lighteval.metrics.normalizations import LogProbCharNorm, normalize_log_probs
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTask, LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from factory.tasks import gsm8k
from factory.tasks.document import Document, with_shots
from factory.tasks.suites import Metric, Task

SAMPLING = {"random": "random_sampling_from_train", "first": "sequential"}
_NO_NUMBER = "[invalid]"  # v1's word for a completion without `#### n`
_CHARACTERS = LogProbCharNorm(ignore_first_space=True)


@dataclass(frozen=True)
class Question:
    """One row to be scored.

    Attributes:
        index: its place in the scored split.
        group: its MMLU subject, else the task.
        document: the row rendered without examples.
        contexts: the full texts before the answer, examples included; one, or one per choice.
        doc: lighteval's view of it, for the metrics.
    """

    index: int
    group: str
    document: Document
    contexts: tuple[str, ...]
    doc: Doc


def final_number(text: str) -> str:
    """The number behind `####`, or v1's mark for none."""
    return gsm8k.final_number(text) or _NO_NUMBER


class _Share(NormalizedMultiChoiceProbability):
    """The true answers' share of the probability of all, whatever underflows (workaround 4)."""

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> float:
        top = max(model_response.logprobs)
        shifted = [value - top for value in model_response.logprobs]
        response = ModelResponse(logprobs=shifted, output_tokens=model_response.output_tokens)
        return float(super().compute(doc, response, **kwargs))


# `metric` of a suite's row -> lighteval's computation. v1: acc and acc_norm are an argmax over (length
# normalised) log-probabilities, mc2 the share of the true answers' probability, exact_match compares
# the extracted numbers; the gold of a word problem always has one, so two misses never count as equal.
COMPUTATIONS: dict[Metric, SampleLevelComputation] = {
    "acc": LoglikelihoodAcc(),
    "acc_norm": LoglikelihoodAcc(logprob_normalization=_CHARACTERS),
    "mc2": _Share(aggregation_function=np.sum),
    "exact_match": ExactMatches(normalize_gold=final_number, normalize_pred=final_number),
}


def metric(name: Metric) -> SampleLevelMetric:
    """lighteval's metric for a suite's `metric`."""
    return SampleLevelMetric(
        metric_name=name,
        higher_is_better=True,
        category=SamplingMethod.GENERATIVE if name == "exact_match" else SamplingMethod.LOGPROBS,
        sample_level_fn=COMPUTATIONS[name],
        corpus_level_fn=np.mean,
    )


def questions(
    task: Task,
    group: str,
    scored: Sequence[Document],
    examples: Sequence[Document],
    shots: int,
    limit: int | None,
) -> list[Question]:
    """The first `limit` questions of a task (of a subject), in v1's shuffled order, with their examples.

    Args:
        task: row of a suite.
        group: MMLU subject, else the task's name.
        scored: the rendered rows of the scored split, in file order.
        examples: the rendered rows the solved examples are drawn from; at least `shots`.
        shots: examples a question.
        limit: None scores all.
    """
    generative = task.metric == "exact_match"
    config = LightevalTaskConfig(
        name=group,
        prompt_function=_as_doc,
        hf_repo=task.dataset,
        hf_subset=group,
        metrics=[metric(task.metric)],
        hf_avail_splits=["scored", "examples"],
        evaluation_splits=["scored"],
        few_shots_split="examples",
        few_shots_select=SAMPLING[task.sampling],
        num_fewshots=shots,
        generation_size=gsm8k.MAX_NEW_TOKENS if generative else None,
        stop_sequence=list(gsm8k.STOP) if generative else None,
    )
    lighteval_task = LightevalTask(config)
    lighteval_task.dataset = {  # type: ignore[assignment]  # workaround 1; only ever indexed by split
        "scored": [{"document": document} for document in scored],
        "examples": [{"document": document} for document in examples],
    }
    return [_question(doc, group) for doc in lighteval_task.get_docs(limit)]


def requests(question: Question) -> list[Doc]:
    """What to ask a `LightevalModel`: one `Doc` a context, its query the whole prompt (workarounds 2, 3)."""
    doc = question.doc
    one_each = len(question.contexts) > 1
    return [
        Doc(
            query=context,
            choices=[doc.choices[i]] if one_each else list(doc.choices),
            gold_index=0 if one_each else doc.gold_index,
            id=f"{question.group}/{question.index}",
            task_name=doc.task_name,
            sampling_methods=list(doc.sampling_methods),
            generation_size=doc.generation_size,
            stop_sequences=doc.stop_sequences,
        )
        for i, context in enumerate(question.contexts)
    ]


def joined(responses: Sequence[ModelResponse]) -> ModelResponse:
    """The responses to one question's requests as the response to the question (workaround 3)."""
    if len(responses) == 1:
        return responses[0]
    return ModelResponse(
        logprobs=[value for response in responses for value in response.logprobs],
        output_tokens=[tokens for response in responses for tokens in response.output_tokens],
    )


def score(name: Metric, question: Question, response: ModelResponse) -> float:
    """The question's score, 0 to 1, by lighteval's metric."""
    (values,) = apply_metric([response], [question.doc], [metric(name)])
    return float(values[name])


def prediction(name: Metric, question: Question, response: ModelResponse) -> str:
    """What the model answered, as text: the generated text, or the choice its log-probabilities prefer."""
    if name == "exact_match":
        return response.text[0].strip()
    values = response.logprobs
    if name == "acc_norm":
        values = normalize_log_probs(_CHARACTERS, values, None, question.doc.choices, None)
    return answer(question.document, int(np.argmax(values)))


def answer(document: Document, index: int) -> str:
    """A choice as a reader would see it: with its context where that is what tells choices apart."""
    if len(document.contexts) > 1:
        return document.contexts[index] + document.choices[index]
    return document.choices[index].strip()


def _as_doc(row: Mapping[str, Any], task_name: str) -> Doc:
    document: Document = row["document"]
    return Doc(
        query=document.contexts[0],
        choices=list(document.choices),
        gold_index=list(document.gold),
        instruction=document.instruction or None,
        specific={"document": document},
    )


def _question(doc: Doc, group: str) -> Question:
    document: Document = (doc.specific or {})["document"]
    shots = [shot.specific["document"] for shot in doc.fewshot_samples]
    return Question(int(doc.id), group, document, with_shots(document, shots), doc)
