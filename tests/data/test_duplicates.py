"""Rows that stand there twice: what makes no difference between two, and which one was first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data import duplicates
from factory.data.duplicates import FirstRows, digest, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where do bears live?", "  where do\nbears live "),
        ("Say “hello”, please.", 'say "hello" please'),
        ('It said: "Stop!"', "It said 'stop'".replace("'", '"')),
        ("caf\u00e9", "CAFE\u0301"),
    ],
)
def test_case_white_space_and_the_ends_of_words_make_no_difference(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is 3 - 2?", "What is 3 + 2?"), ("5!", "5"), ("3.5", "35"), ("x\u00b2", "x2"), ("a.b", "ab")],
)
def test_signs_that_may_mean_something_do(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_the_parts_of_a_row_are_not_run_together() -> None:
    row = {"instruction": "a b", "context": "c", "response": "x", "answer": ""}
    moved = {**row, "instruction": "a", "context": "b c"}
    assert digest(row, "questions") != digest(moved, "questions")
    assert digest(row, "questions") == digest({**row, "response": "y"}, "questions")
    assert digest(row, "rows") != digest({**row, "response": "y"}, "rows")


@given(st.lists(st.lists(st.integers(0, 40) | st.integers(2**63, 2**63 + 9), max_size=12), max_size=12))
def test_the_first_row_is_found_however_the_rows_come(batches: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_NEW", 5)  # so that many are sorted in
        rows, known, number = FirstRows(), dict[int, int](), 0
        for batch in batches:
            numbers = list(range(number, number + len(batch)))
            number += len(batch)
            expected = [known.setdefault(d, i) for d, i in zip(batch, numbers, strict=True)]
            assert rows.first(batch, numbers) == expected
        assert len(rows) == len(known)
