"""Side by side with lm-evaluation-harness on real rows: the same requests, answers and scores as v1.

Given v1's solved examples, today's harness asks what v1 asked; where it has drifted, the last tests say
in what.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

lm_eval = pytest.importorskip(
    "lm_eval.tasks", reason="lm-evaluation-harness is not installed ([test] has it)"
)

from harness import Case, asked, case, prepare  # noqa: E402
from lighteval.tasks.requests import Doc  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.evaluator import evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from real import V1, hub_lookalike, needs_rows, rows  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402
from tokenizers.processors import TemplateProcessing  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast  # noqa: E402

from factory import sandbox  # noqa: E402
from factory.tasks import gsm8k, truthfulqa  # noqa: E402
from factory.tasks import lighteval_compat as compat  # noqa: E402
from factory.tasks.encoding import Encoder  # noqa: E402
from factory.tasks.mmlu import SUBJECTS  # noqa: E402
from factory.tasks.runner import Runner  # noqa: E402

pytestmark = needs_rows

CASES = (
    "arc", "hellaswag", "mmlu:abstract_algebra", "mmlu:high_school_geography", "truthfulqa", "winogrande",
    "gsm8k",
)  # fmt: skip


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """The harness's task of a name, on the real rows; a new one every time."""
    before, manager = Path.cwd(), TaskManager()
    os.chdir(hub_lookalike(tmp_path_factory.mktemp("hub")))
    yield lambda name: manager.load([name])["tasks"][name]
    os.chdir(before)


@pytest.mark.parametrize("name", [*CASES, *(f"mmlu:{s}" for s in SUBJECTS if f"mmlu:{s}" not in CASES)])
def test_the_same_contexts_and_continuations(name: str, harness: Callable[[str], Any]) -> None:
    one, count = case(name), 4 if name not in CASES else 60
    theirs = harness(one.name)
    indices = prepare(theirs, one, count)
    questions = one.questions(count)
    assert [question.index for question in questions] == indices
    assert len(indices) == min(count, len(one.split(one.task.split)))
    for question, requests in zip(questions, asked(theirs, indices), strict=True):
        contexts, choices = question.contexts, question.document.choices
        if one.task.metric == "exact_match":
            assert [context for context, _ in requests] == list(contexts)
            continue
        several = contexts if len(contexts) > 1 else contexts * len(choices)
        assert requests == list(zip(several, choices, strict=True))


@pytest.fixture(scope="module", params=["bpe", "sandbox"])
def model(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    folder = sandbox.model_folder() if request.param == "sandbox" else request.getfixturevalue("bpe_model")
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", CASES)
def test_the_same_answers_and_scores(
    name: str, harness: Callable[[str], Any], model: tuple[Any, Any]
) -> None:
    compare(case(name), 3, harness, model)


def test_a_mark_that_the_tokenizer_puts_first_stands_there_once(
    harness: Callable[[str], Any], bpe_model: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(bpe_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(bpe_model, bos_token="<|end|>")
    first = TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
    tokenizer.backend_tokenizer.post_processor = first
    assert tokenizer("a b")["input_ids"][0] == 0
    for name in ("winogrande", "gsm8k"):
        compare(case(name), 2, harness, (model, tokenizer))


def compare(one: Case, count: int, harness: Callable[[str], Any], model: tuple[Any, Any]) -> None:
    """Log-probabilities or texts, predictions, and scores of both, document by document."""
    theirs = harness(one.name)
    indices = prepare(theirs, one, count)
    if one.task.metric == "exact_match":  # see the drifts below
        theirs.set_config("generation_kwargs", {"until": list(gsm8k.STOP), "do_sample": False})
    ended = evaluate(
        lm=HFLM(pretrained=model[0], tokenizer=model[1], batch_size=2),
        task_dict={"tasks": {one.name: theirs}, "groups": {}, "group_map": {}},
        samples={one.name: indices},
        bootstrap_iters=0,
    )
    samples = {sample["doc_id"]: sample for sample in ended["samples"][one.name]}  # gsm8k: the last filter
    metric = {"mc2": "acc"}.get(one.task.metric, one.task.metric)
    runner, scores = Runner(*model, 2), []
    ask = runner.greedy_until if one.task.metric == "exact_match" else runner.loglikelihood
    for question in one.questions(count):
        response = compat.joined(ask(compat.requests(question)))
        sample = samples[question.index]
        if one.task.metric == "exact_match":
            assert response.text == sample["resps"][0]
        else:
            values = np.array([value for value, _ in sample["filtered_resps"]])
            # Sums over a long text, in float32: the last digits depend on the processor's kernels.
            assert response.logprobs == pytest.approx(values, rel=1e-6, abs=1e-4)
            lengths = [len(choice) - 1 for choice in question.document.choices]
            best = int(np.argmax(values / lengths if metric == "acc_norm" else values))
            prediction = compat.prediction(one.task.metric, question, response)
            assert prediction == compat.answer(question.document, best)
        scores.append(compat.score(one.task.metric, question, response))
        assert scores[-1] == pytest.approx(sample[metric], abs=1e-4)
    key = f"{metric},{'strict-match' if metric == 'exact_match' else 'none'}"
    assert np.mean(scores) == pytest.approx(ended["results"][one.name][key], abs=1e-4)


def judged(theirs: Any, row: dict[str, Any], text: str) -> dict[str, float]:
    """The harness's score of a generated text by each of its filters."""
    theirs.build_all_requests(samples=[0])
    (instance,) = theirs.instances
    instance.resps = [text]
    theirs.apply_filters()
    return {
        name: theirs.process_results(row, [found])["exact_match"]
        for name, found in instance.filtered_resps.items()
    }


def test_drift_solved_examples_are_drawn_from_another_stream(harness: Callable[[str], Any]) -> None:
    """v1: seed 42, after the documents were shuffled. Today: seed 1234, in file order."""
    one = case("arc")
    theirs = harness(one.name)
    theirs.set_config("num_fewshot", one.task.shots)
    theirs.set_fewshot_seed(1234)
    indices = [question.index for question in one.questions(5)]
    for question, requests in zip(one.questions(5), asked(theirs, indices), strict=True):
        ((theirs_shots, theirs_question), (ours_shots, ours_question)) = (
            context.rsplit("\n\n", 1) for context in (requests[0][0], question.contexts[0])
        )
        assert theirs_question == ours_question
        assert theirs_shots != ours_shots


def test_drift_gsm8k_stops_elsewhere(harness: Callable[[str], Any]) -> None:
    """v1 stops at every colon; version 3 at `Question:` and two end marks. Both make 256 tokens at most."""
    config = harness("gsm8k").config
    assert config.metadata["version"] == 3.0
    assert config.generation_kwargs["until"] == ["Question:", "</s>", "<|im_end|>"]
    assert gsm8k.STOP == (":", "Question:", "Question")
    assert HFLM.max_gen_toks.fget(None) == gsm8k.MAX_NEW_TOKENS


@pytest.mark.parametrize(
    ("text", "v1", "strict", "flexible"),
    [
        ("#### 18", 1, 1, 1),
        ("#### 18.", 0, 1, 1),  # a full stop at the end is part of v1's number
        ("so it is 18", 0, 0, 1),  # flexible extraction takes the last number anywhere
        ("#### 18 and then 7", 1, 1, 0),
        ("#### $18", 0, 0, 1),
        ("nothing", 0, 0, 0),
    ],
)
def test_drift_gsm8k_forgives_more(
    text: str, v1: float, strict: float, flexible: float, harness: Callable[[str], Any]
) -> None:
    row = {"question": "q", "answer": "9 * 2 = 18\n#### 18"}
    assert float(gsm8k.final_number(text) == gsm8k.final_number(row["answer"])) == v1
    found = judged(harness("gsm8k"), row, text)
    assert found == {"strict-match": strict, "flexible-extract": flexible}


def test_drift_truthfulqa_counts_true_answers_behind_a_false_one(harness: Callable[[str], Any]) -> None:
    """v1 splits the list at the first false answer; two of the 817 rows have a true one further down."""
    theirs, apart = harness("truthfulqa_mc2"), []
    for row in rows(V1["truthfulqa"], "validation"):
        document = truthfulqa.document(row)
        values = -np.arange(1.0, 1 + len(document.choices))
        share = np.exp(values)[list(document.gold)].sum() / np.exp(values).sum()
        today = theirs.process_results(row, [(value, False) for value in values])["acc"]
        if abs(today - share) > 1e-9:
            apart.append(sum(row["mc2_targets"]["labels"]) - len(document.gold))
    assert len(apart) == 2
    assert min(apart) > 0


def test_drift_truthfulqa_is_lost_when_every_answer_underflows(harness: Callable[[str], Any]) -> None:
    """A weak model's long answers: the harness divides 0 by 0, ours shifts all by the largest first."""
    row = {"question": "q", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}}
    with pytest.warns(RuntimeWarning):
        today = harness("truthfulqa_mc2").process_results(row, [(-1000.0, False), (-1000.0, False)])
    assert np.isnan(today["acc"])


def test_drift_a_mark_that_the_tokenizer_puts_first_is_read(bpe_model: Path) -> None:
    """v1's causal models read none (read in a pre-0.4 copy); today's harness adds it, and so do we."""
    tokenizer = AutoTokenizer.from_pretrained(bpe_model, bos_token="<|end|>")
    first = TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
    tokenizer.backend_tokenizer.post_processor = first
    model = AutoModelForCausalLM.from_pretrained(bpe_model, dtype=torch.float32).eval()
    today = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    (ours,) = Encoder(tokenizer, 4096, len(tokenizer)).prompts([Doc("a b", [""], 0)])
    assert (
        ours.tolist() == today.tok_encode("a b") == [0, *tokenizer("a b", add_special_tokens=False).input_ids]
    )


def test_what_merges_over_the_border_of_prompt_and_choice_is_read_as_the_harness_reads_it(
    bpe_model: Path,
) -> None:
    """A tokenizer that keeps no word apart; and prompts that are empty, or end in blanks."""
    vocabulary = {piece: i for i, piece in enumerate(["<|end|>", "a", "b", ":", " ", "d", ": ", " d"])}
    backend = Tokenizer(models.BPE(vocabulary, [(":", " "), (" ", "d")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    assert tokenizer.tokenize("a: d") == ["a", ": ", "d"] and tokenizer.tokenize("a:") == ["a", ":"]
    model = AutoModelForCausalLM.from_pretrained(bpe_model, dtype=torch.float32).eval()
    today = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    pairs = [("a:", " d"), ("a:", " ba"), ("ab: ", "dab"), ("ab", " d"), ("", "ab d")]
    asked = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    theirs = [value for value, _ in today.loglikelihood(asked)]
    ours = Runner(model, tokenizer, 2).loglikelihood([Doc(prompt, [text], 0) for prompt, text in pairs])
    assert [one.logprobs[0] for one in ours] == pytest.approx(theirs, rel=1e-6, abs=1e-4)


def test_drift_mmlu_weights_subjects_by_their_size() -> None:
    """v1's score is the plain mean over the 57 subjects' means."""
    written = Path(lm_eval.__file__).parent / "mmlu" / "default" / "_mmlu.yaml"
    (aggregate,) = YAML(typ="safe").load(written)["aggregate_metric_list"]
    assert (aggregate["metric"], aggregate["weight_by_size"]) == ("acc", True)


def test_case_names_cover_the_suite() -> None:
    assert {name.split(":")[0] for name in CASES} == set(V1)
    assert isinstance(case("mmlu:anatomy"), Case)
