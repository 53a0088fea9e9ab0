"""lighteval's shots and metrics give v1's, and each workaround is still needed."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from lighteval.metrics.metrics_sample import NormalizedMultiChoiceProbability
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager

from factory.tasks import lighteval_compat as compat
from factory.tasks.document import Document
from factory.tasks.suites import SUITES, Metric

V1 = SUITES["openllm_v1"]


def documents(name: str, count: int) -> list[Document]:
    return [
        Document((f"{name}{i}:",), (" x", " y"), (i % 2,), f"{name}{i}: {'xy'[i % 2]}") for i in range(count)
    ]


def ask(choices: list[str], gold: list[int], contexts: tuple[str, ...] = ("c",)) -> compat.Question:
    document = Document(contexts, tuple(choices), tuple(gold), "")
    (question,) = compat.questions(V1["arc"], "arc", [document], [], 0, None)
    return question


def scored(metric: Metric, question: compat.Question, logprobs: list[float]) -> float:
    return compat.score(metric, question, ModelResponse(logprobs=logprobs))


def test_random_shots_are_drawn_as_the_harness_draws_them() -> None:
    rows, pool = documents("q", 7), documents("s", 9)
    found = compat.questions(V1["arc"], "arc", rows, pool, 3, 5)
    generator = random.Random(42)
    order = list(range(7))
    generator.shuffle(order)
    for question, index in zip(found, order[:5], strict=True):
        shots = [shot.shot for shot in generator.sample(pool, 3)]
        assert question.index == index
        assert question.contexts == ("\n\n".join([*shots, rows[index].contexts[0]]),)
    assert len(found) == 5


def test_mmlu_takes_the_first_rows_of_dev_for_every_question() -> None:
    rows = [replace(row, instruction="About art.") for row in documents("q", 3)]
    for question in compat.questions(V1["mmlu"], "art", rows, documents("s", 5), 2, None):
        assert question.contexts == (f"About art.\n\ns0: x\n\ns1: y\n\nq{question.index}:",)
        assert question.group == "art"


def test_acc_takes_the_likeliest_choice_and_acc_norm_the_likeliest_per_character() -> None:
    question = ask([" ab", " abcdefgh"], [1])
    assert scored("acc", question, [-4.0, -5.0]) == 0  # -4 > -5
    assert scored("acc_norm", question, [-4.0, -5.0]) == 1  # -4 / 2 < -5 / 8: the space does not count
    # Between 3 / 2 and 9 / 8 per character the leading space would turn the answer round.
    assert scored("acc_norm", ask([" a", " abc"], [0]), [-1.0, -2.5]) == 0


def test_mc2_is_the_share_of_the_true_answers() -> None:
    question = ask([" a", " b", " c"], [0, 1])
    expected = (math.exp(-1) + math.exp(-2)) / (math.exp(-1) + math.exp(-2) + math.exp(-1.5))
    assert scored("mc2", question, [-1.0, -2.0, -1.5]) == pytest.approx(expected)


def test_mc2_outlives_underflow_which_lighteval_does_not() -> None:
    question, logprobs = ask([" a", " b"], [0]), [-1000.0, -1001.0]
    assert scored("mc2", question, logprobs) == pytest.approx(1 / (1 + math.exp(-1)))
    theirs = NormalizedMultiChoiceProbability(aggregation_function=np.sum)
    with pytest.warns(RuntimeWarning):  # fails once workaround 4 is no longer needed
        assert theirs.compute(question.doc, ModelResponse(logprobs=logprobs)) == 0


@pytest.mark.parametrize(
    ("text", "score"), [("4 #### 1,004", 1), ("#### 1004.", 0), ("1004", 0), ("#### 7", 0), ("", 0)]
)
def test_a_word_problem_is_right_when_the_numbers_are_equal_as_text(text: str, score: float) -> None:
    question = ask([" so #### 1004"], [0])
    assert compat.score("exact_match", question, ModelResponse(text=[text])) == score


def test_two_contexts_become_two_requests_and_one_response() -> None:
    question = ask([" ran.", " ran."], [1], ("Ann", "Bea"))
    first, second = compat.requests(question)
    assert [(doc.query, doc.choices, doc.id) for doc in (first, second)] == [
        ("Ann", [" ran."], "arc/0"),
        ("Bea", [" ran."], "arc/0"),
    ]
    response = compat.joined([ModelResponse(logprobs=[-2.0]), ModelResponse(logprobs=[-1.0])])
    assert compat.score("acc", question, response) == 1
    assert compat.prediction("acc", question, response) == "Bea ran."


def test_lighteval_still_strips_the_answers_of_shots() -> None:
    # Fails once workaround 2 is no longer needed.
    shot = Document(("s:",), (" x ",), (0,), "s: x ")
    (question,) = compat.questions(V1["arc"], "arc", documents("q", 1), [shot], 1, None)
    assert question.contexts == ("s: x \n\nq0:",)
    assert PromptManager().prepare_prompt(question.doc) == "s: x\n\nq0:"
    (request,) = compat.requests(question)
    assert PromptManager().prepare_prompt(request) == "s: x \n\nq0:"
