"""Every benchmark's rendered form, character by character, as Open LLM Leaderboard v1 had it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from factory.tasks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from factory.tasks.document import with_shots

ARC = {
    "question": "Which is hot?",
    "choices": {"text": ["ice", "fire", "snow"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}
ARC_SHOT = {
    "question": "What falls?",
    "choices": {"text": ["rain", "sun"], "label": ["A", "B"]},
    "answerKey": "A",
}


def test_arc_reads_letters_and_digits_as_labels() -> None:
    document = arc.document(ARC)
    assert document.choices == (" ice", " fire", " snow")
    assert document.gold == (1,)
    assert with_shots(document, [arc.document(ARC_SHOT)]) == (
        "Question: What falls?\nAnswer: rain\n\nQuestion: Which is hot?\nAnswer:",
    )


def test_hellaswag_cleans_texts_but_not_the_spaces_that_brackets_leave() -> None:
    row = {
        "activity_label": "Baking",
        "ctx_a": "[header] How to bake [title] Heat the oven.",
        "ctx_b": "she",
        "endings": ["[substeps] Stir it.", "runs away [note]", "a", "b"],
        "label": "0",
    }
    document = hellaswag.document(row)
    # v1's clean() strips before it drops brackets, so what stood beside a bracket keeps its space.
    assert document.contexts == ("Baking: How to bake. Heat the oven. She",)
    assert document.choices == ("  Stir it.", " runs away ", " a", " b")
    assert document.shot == "Baking: How to bake. Heat the oven. She  Stir it."
    assert document.gold == (0,)


def test_mmlu_says_its_instruction_once_before_the_shots() -> None:
    first = {"question": " One? ", "subject": "high_school_art", "choices": ["a", "b", "c", "d"], "answer": 3}
    second = {**first, "question": "Two?", "answer": 0}
    document = mmlu.document(second)
    assert with_shots(document, [mmlu.document(first)]) == (
        "The following are multiple choice questions (with answers) about high school art.\n\n"
        "One?\nA. a\nB. b\nC. c\nD. d\nAnswer: D\n\n"
        "Two?\nA. a\nB. b\nC. c\nD. d\nAnswer:",
    )
    assert (document.choices, document.gold) == ((" A", " B", " C", " D"), (0,))


def test_truthfulqa_stands_behind_the_six_questions_of_its_authors() -> None:
    row = {"question": "Why?", "mc2_targets": {"choices": ["So", "Thus", "No"], "labels": [1, 1, 0]}}
    (context,) = with_shots(truthfulqa.document(row), [])
    assert context.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert context.endswith("The 1992 Olympics were held in Barcelona, Spain.\n\nQ: Why?\nA:")
    assert context.count("Q: ") == 7
    assert truthfulqa.document(row).choices == (" So", " Thus", " No")
    assert truthfulqa.document(row).gold == (0, 1)


def test_truthfulqa_counts_true_answers_only_up_to_the_first_false_one() -> None:
    row = {"question": "Why?", "mc2_targets": {"choices": list("abcd"), "labels": [1, 1, 0, 1]}}
    assert truthfulqa.document(row).gold == (0, 1)


def test_winogrande_puts_each_option_into_the_context() -> None:
    row = {"sentence": "Ann saw Bea as _ left.", "option1": "Ann", "option2": "Bea", "answer": "2"}
    shot = {"sentence": "_ sat.", "option1": "Cy", "option2": "Di", "answer": "1"}
    document = winogrande.document(row)
    assert with_shots(document, [winogrande.document(shot)]) == (
        "Cy sat.\n\nAnn saw Bea as Ann",
        "Cy sat.\n\nAnn saw Bea as Bea",
    )
    assert (document.choices, document.gold) == ((" left.", " left."), (1,))


def test_gsm8k_shows_whole_solutions() -> None:
    row = {"question": "How many?", "answer": "2 + 2 = 4\n#### 4"}
    assert with_shots(gsm8k.document(row), [gsm8k.document(row)]) == (
        "Question: How many?\nAnswer: 2 + 2 = 4\n#### 4\n\nQuestion: How many?\nAnswer:",
    )
    assert gsm8k.STOP == (":", "Question:", "Question")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so #### 1,234", "1234"),
        ("#### -3.5 euros", "-3.5"),
        ("#### 1 #### 2", "1"),
        ("####7", None),
        ("7", None),
    ],
)
def test_gsm8k_takes_the_first_number_behind_the_mark(text: str, number: str | None) -> None:
    assert gsm8k.final_number(text) == number


def test_the_suites_can_be_read_without_heavy_libraries() -> None:
    code = "import factory.tasks.suites, sys; print({'torch', 'lighteval', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
