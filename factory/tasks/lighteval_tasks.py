"""A suite as a lighteval task module: what its `--custom-tasks` takes and its own `Pipeline` runs.

`openllm_v1.py` is such a module for the leaderboard's suite; one for a suite of your own is two lines:

    from factory.tasks.lighteval_tasks import table
    TASKS_TABLE = table("mine", my_tasks, revisions={"google/boolq": "<commit>"})

The factory's own evaluation asks the same questions through lighteval_compat.py and runner.py, which is
several times faster. Here lighteval renders the prompts, runs its own model and scores, so each
definition is put so that what comes out of lighteval is v1's:

- a solved example: lighteval joins its query and its answer by a space and strips the answer, which
  would lose spaces (HellaSwag's cleaned endings). So the text is cut where neither matters.
- Winogrande has two contexts and one continuation, lighteval's `Doc` one query. By the rule of
  conditional probability log P(rest | text + option) = log P(option + rest | text) - log P(option |
  text): both are asked for as choices, and `_SharedEnding` subtracts before the metric looks.
- mc2 underflows in lighteval: the metric is lighteval_compat's.

lighteval 0.13 tokenises prompt and continuation apart, whatever `pairwise_tokenization` says
(`TransformersModel._loglikelihood_tokens` passes `pairwise=True`); v1 together. Byte-level BPE, which
never merges across a space, gives the same tokens; SentencePiece without such a rule may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lighteval.metrics.metrics_sample import SampleLevelComputation
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc

from factory.errors import FactoryError
from factory.tasks import gsm8k, lighteval_compat
from factory.tasks.document import Document
from factory.tasks.suites import Task


def table(
    suite: str, tasks: Iterable[Task], revisions: Mapping[str, str] | None = None
) -> list[LightevalTaskConfig]:
    """A suite's tasks for lighteval, named `<suite>_<task>`; an MMLU subject `<suite>_mmlu:<subject>`.

    lighteval averages what shares the name before a colon, which is v1's mean over the subjects.

    Args:
        suite: what the names begin with; lighteval refuses names it has itself.
        tasks: rows of a suite.
        revisions: dataset -> Hub commit, where it differs from the task's own `revision`.

    Raises:
        FactoryError: a task by subject does not name its subjects.
    """
    configs = []
    for task in tasks:
        revision = (revisions or {}).get(task.dataset, task.revision)
        if not task.by_subject:
            configs.append(_config(task, f"{suite}_{task.task}", task.config, revision))
            continue
        if not task.subjects:
            raise FactoryError(f"task '{task.task}' names no subjects", mend="Give its row `subjects`")
        named = f"{suite}_{task.task}"
        configs += [_config(task, f"{named}:{subject}", subject, revision) for subject in task.subjects]
    return configs


def names(suite: str, tasks: Iterable[Task]) -> str:
    """The tasks with their shots as lighteval's commands take them: `<suite>_arc|25,<suite>_mmlu|5`."""
    return ",".join(f"{suite}_{task.task}|{task.shots}" for task in tasks)


def _config(task: Task, name: str, subset: str | None, revision: str | None) -> LightevalTaskConfig:
    generative = task.metric == "exact_match"
    return LightevalTaskConfig(
        name=name,
        prompt_function=partial(prompt, task),
        hf_repo=task.dataset,
        hf_subset=subset,  # type: ignore[arg-type]  # None is the only one there is, to `datasets` too
        hf_revision=revision,
        hf_avail_splits=sorted({task.split, task.shots_split}),
        evaluation_splits=[task.split],
        few_shots_split=task.shots_split,
        few_shots_select=lighteval_compat.SAMPLING[task.sampling],
        num_fewshots=task.shots,
        metrics=[_metric(task)],
        generation_size=gsm8k.MAX_NEW_TOKENS if generative else None,
        stop_sequence=list(gsm8k.STOP) if generative else None,
        version=task.version,
    )


def prompt(task: Task, line: Mapping[str, Any], task_name: str) -> Doc:
    """lighteval's prompt function of a task: a question, or with `__few_shots` in the row an example."""
    document = task.document(line)
    if line.get("__few_shots"):
        return _example(document.shot, task_name)
    instruction = task.preamble or document.instruction
    return _question(replace(document, instruction=instruction), task_name)


def _example(shot: str, task_name: str) -> Doc:
    """A solved example that lighteval's `PromptManager` renders as exactly `shot`.

    Raises:
        ValueError: it ends in white space other than blanks, which lighteval cannot show.
    """
    cut = len(shot)
    while (cut := shot.rfind(" ", 0, cut)) >= 0:
        if (answer := shot[cut + 1 :]) == answer.strip():
            return Doc(query=shot[:cut], choices=[answer], gold_index=0, task_name=task_name)
    raise ValueError("an example must not end in a line break")


def _question(document: Document, task_name: str) -> Doc:
    contexts, choices = document.contexts, document.choices
    query = contexts[0]
    if len(contexts) > 1:
        # Up to a space, so that no word is cut: tokens of the parts are then those of the whole.
        query = query[: _common_start(*contexts).rfind(" ") + 1].removesuffix(" ")
        options = [context[len(query) :] for context in contexts]
        choices = (*map("".join, zip(options, choices, strict=True)), *options)
    return Doc(
        query=query,
        choices=list(choices),
        gold_index=list(document.gold),
        instruction=document.instruction or None,
        task_name=task_name,
        specific={"contexts": len(contexts)},
    )


def _common_start(*texts: str) -> str:
    """What all texts begin with."""
    shortest = min(texts, key=len)
    alike = (i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1)
    return shortest[: next(alike, len(shortest))]


class _SharedEnding(SampleLevelComputation):
    """Takes log P(option) from log P(option + rest) where each context has a choice of its own."""

    def __init__(self, then: SampleLevelComputation) -> None:
        self.then = then

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> float:
        contexts = (doc.specific or {}).get("contexts", 1)
        if contexts > 1:
            whole, option = model_response.logprobs[:contexts], model_response.logprobs[contexts:]
            model_response = ModelResponse(
                logprobs=[a - b for a, b in zip(whole, option, strict=True)],
                output_tokens=model_response.output_tokens[:contexts],
            )
            doc = replace(doc, choices=doc.choices[:contexts])
        return self.then.compute(doc=doc, model_response=model_response, **kwargs)


def _metric(task: Task) -> SampleLevelMetric:
    metric = lighteval_compat.metric(task.metric)
    return replace(metric, sample_level_fn=_SharedEnding(lighteval_compat.COMPUTATIONS[task.metric]))
