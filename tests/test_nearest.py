"""The mend for a misspelt name is the name that was meant, and never a wall of names."""

from __future__ import annotations

import pytest

from factory.nearest import nearest, suggest

TASKS = ("arc", "gsm8k", "hellaswag", "mmlu", "truthfulqa", "winogrande")


@pytest.mark.parametrize(("word", "meant"), [("gsm8", "gsm8k"), ("MMLU", "mmlu"), ("xyz", None)])
def test_the_nearest_name(word: str, meant: str | None) -> None:
    assert nearest(word, TASKS) == meant


def test_a_likely_name_is_offered_beside_the_few_there_are() -> None:
    assert suggest("arcc", TASKS) == f"Write 'arc', if that is meant; known are {', '.join(TASKS)}"
    assert suggest("xyz", TASKS) == f"Known are {', '.join(TASKS)}"
    assert suggest("xyz", ["arc"]) == "Known is arc"


def test_many_names_are_not_listed_beside_a_likely_one_and_cut_without() -> None:
    many = [f"dataset-{i:02d}" for i in range(40)]
    assert suggest("datset-07", many) == "Write 'dataset-07', if that is meant"
    assert suggest("xyz", many).endswith("dataset-11 and 28 more")


def test_nothing_to_choose_from_is_said() -> None:
    assert suggest("arc", ()) == "There is none to choose from"
