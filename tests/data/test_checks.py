"""What counts as the same answer, and which response a row is trained on."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.checks import CHECKS, choice_letter, final_number, find, judge, speaks_of_reference
from factory.engines import Generated

ROW = {"instruction": "2 + 5?", "context": "", "response": "It is 7. #### 7", "answer": ""}
words = st.text(string.ascii_letters + " .\n", max_size=30)
fillers = st.lists(st.sampled_from(["", "so ", "it costs $", "= ", "is\n", "("]), max_size=3).map("".join)


def generated(text: str, finish: str = "stop") -> Generated:
    return Generated(0, text, finish, 5, 5 if text else 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "7"),
        ("#### 1,234,567.50", "1234567.5"),
        ("#### $18", "18"),
        ("#### -3", "-3"),
        ("#### 3\nor rather\n#### 4 of 9", "4"),
        ("First 12, then 30.", "30"),
        ("10-3", "3"),
        ("It is \u22124 degrees", "-4"),
        ("7.", "7"),
        (".50", "0.5"),
        ("-0.0", "0"),
        ("007", "7"),
        ("1,2", "2"),
        ("#### none of it, so 5", "5"),
        ("####\nno, 6", "6"),
        ("seven", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == number


@given(st.integers(-(10**30), 10**30), words)
def test_a_marked_number_is_found_behind_any_words_in_any_spelling(number: int, before: str) -> None:
    spellings = (f"{number}", f"{number:,}", f"{number}.00", f"{number:,}.0 apples")
    assert {final_number(f"{before}#### {spelling}") for spelling in spellings} == {str(number)}


@given(st.decimals(-1000, 1000, places=2), fillers)
def test_the_last_number_counts_without_a_mark(number: object, before: str) -> None:
    mine = final_number(f"12 {before} {number} apples.")
    assert mine is not None
    assert float(mine) == float(str(number))


@given(*[st.text(string.ascii_lowercase + " .\n", max_size=30)] * 2)
def test_nothing_found_never_equals_nothing_found(one: str, other: str) -> None:
    row = {**ROW, "response": one}
    for name in ("final_number", "choice_letter", "contains"):
        assert CHECKS[name](row, other) == "no answer found"
    assert CHECKS["exact"]({**ROW, "response": " "}, "") == "no answer found"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("C. because it is hot", "C"),
        ("The answer is (D).", "D"),
        ("Answer: A", "A"),
        ("It may be (A) or (B). The answer is B, not A.", "B"),
        ("They say\nB) the sun", "B"),
        ("A dog ran", None),
        ("I like it", None),
        ("", None),
    ],
)
def test_choice_letter(text: str, letter: str | None) -> None:
    assert choice_letter(text) == letter


@given(st.text(min_size=1), st.text(max_size=20), st.text(max_size=20))
def test_a_contained_answer_is_found_as_whole_words_whatever_the_case(
    answer: str, before: str, behind: str
) -> None:
    row = {**ROW, "answer": answer}
    found = CHECKS["contains"](row, f"{before} \n{answer.upper()}\t {behind}")
    if not answer.split():
        assert found == "no answer found"
    elif answer.upper().casefold() == answer.casefold():  # a few letters have no such pair
        assert found == "ok"


def test_a_part_of_a_word_is_not_the_answer() -> None:
    row = {**ROW, "answer": "art"}
    assert CHECKS["contains"](row, "The ART of war") == "ok"
    assert CHECKS["contains"](row, "The smart party starts") == "answer differs"


def test_exact_overlooks_white_space_only() -> None:
    assert CHECKS["exact"]({**ROW, "answer": "a  b"}, " a\nb ") == "ok"
    assert CHECKS["exact"]({**ROW, "answer": "a b"}, "A b") == "answer differs"


def test_the_answer_column_counts_before_the_response() -> None:
    assert CHECKS["final_number"]({**ROW, "answer": "9"}, "so 9") == "ok"
    assert CHECKS["final_number"](ROW, "so 7.0") == "ok"


def test_talk_of_the_reference_is_seen_unless_the_row_talks_so_itself() -> None:
    assert speaks_of_reference(ROW, "As the Reference\nsolution says, 7.")
    assert not speaks_of_reference(ROW, "Two and five are seven.")
    row = {**ROW, "instruction": "Judge the given answer: 3."}
    assert not speaks_of_reference(row, "The given answer is wrong.")
    assert speaks_of_reference(row, "The given answer is wrong, see the reference answer.")


@pytest.mark.parametrize(
    ("check", "reference", "text", "outcome"),
    [
        ("regex:Answer: (.+)", "Answer: a  b", "Answer: x\nAnswer: a b ", "ok"),
        ("regex:Answer: (.+)", "Answer: a", "Answer: b", "answer differs"),
        ("regex:Answer: (.+)", "so a", "so a", "no answer found"),
        ("regex:Answer: (.*)", "Answer: ", "Answer: ", "no answer found"),
        (r"regex:\d+ km", "it is 7 km", "3 km, no, 7 km", "ok"),
        (r"regex:^(?:yes|no)$", "well\nyes", "no\nyes\nperhaps", "ok"),
        (r"regex:(a)|b", "b", "b", "no answer found"),
    ],
)
def test_a_pattern_compares_what_its_first_group_holds_last(
    check: str, reference: str, text: str, outcome: str
) -> None:
    assert find(check)({**ROW, "response": reference}, text) == outcome


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("Two and five: #### 7", "stop", "ok"),
        ("#### 8", "stop", "answer differs"),
        ("no idea", "stop", "no answer found"),
        ("#### 7", "length", "truncated"),
        ("", "length", "prompt leaves no room"),
        (" \n", "stop", "empty"),
        ("In my own words: #### 7", "stop", "speaks of the reference"),
    ],
)
def test_every_flaw_has_its_reason(text: str, finish: str, reason: str) -> None:
    assert judge(ROW, generated(text, finish), "final_number") == reason
