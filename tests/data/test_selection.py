"""Which response a row is trained on, under every policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.checks import CHECKS
from factory.data.selection import POLICIES, REASONS, Likelihoods, choose
from factory.engines import Generated

ROW = {"instruction": "2 + 5?", "context": "", "response": "It is 7. #### 7", "answer": ""}
RIGHT, OTHER, WRONG = "Seven: #### 7", "Yes, 7: #### 7", "#### 8"


def generated(text: str, finish: Any = "stop") -> Generated:
    return Generated(0, text, finish, 5, 5)


def chosen(policy: Any, *texts: str, likelihoods: Likelihoods | None = None) -> tuple[str, str, str, int]:
    return tuple(choose(ROW, [generated(text) for text in texts], "final_number", policy, likelihoods))


ORIGINAL = ROW["response"]


def test_verify_takes_what_checks_out_and_else_the_original_with_the_reason() -> None:
    assert chosen("verify", RIGHT) == (RIGHT, "regenerated", "ok", 0)
    assert chosen("verify", WRONG) == (ORIGINAL, "original", "answer differs", 0)


def test_always_takes_every_whole_response_and_says_what_the_check_found() -> None:
    assert chosen("always", WRONG) == (WRONG, "regenerated", "answer differs", 0)
    assert choose(ROW, [generated(RIGHT, "length")], "final_number", "always")[1:3] == (
        "original",
        "truncated",
    )
    assert chosen("always", " ")[1:3] == ("original", "empty")


def test_best_of_takes_the_first_sample_that_checks_out() -> None:
    assert chosen("best_of", WRONG, OTHER, RIGHT) == (OTHER, "regenerated", "ok", 1)
    assert chosen("best_of", WRONG, "no idea") == (ORIGINAL, "original", "answer differs", 0)


def test_likeliest_takes_the_likeliest_of_those_that_check_out_and_the_original() -> None:
    def taken(original: float, *samples: float) -> tuple[str, str, str, int]:
        found = Likelihoods(original, dict(enumerate(samples)))
        return chosen("likeliest", RIGHT, WRONG, OTHER, likelihoods=found)

    assert taken(-3, -2, -0.1, -1) == (OTHER, "regenerated", "ok", 2)
    assert taken(-3, -1, -0.1, -2) == (RIGHT, "regenerated", "ok", 0)
    assert taken(-0.5, -1, -0.1, -2) == (ORIGINAL, "original", "original likelier", 0)
    assert taken(-1, -1, -0.1, -2)[1] == "original"
    assert taken(float("-inf"), -9, -0.1, -10)[1] == "regenerated"


@given(
    st.lists(st.tuples(st.text(), st.sampled_from(["stop", "length"])), min_size=1, max_size=4),
    st.sampled_from(sorted(CHECKS)),
    st.sampled_from(POLICIES),
    st.text(min_size=1),
)
def test_a_row_always_has_a_response_and_never_one_that_was_cut_off(
    candidates: list[tuple[str, str]], check: str, policy: Any, original: str
) -> None:
    given = [generated(text, finish) for text, finish in candidates]
    likelihoods = Likelihoods(-1.0, {i: -0.5 * i for i in range(len(given))})
    result = choose({**ROW, "response": original}, given, check, policy, likelihoods)
    assert result.reason in REASONS
    if result.kept == "original":
        assert result.response == original
    else:
        assert (result.response, given[result.sample].finish) == (given[result.sample].text, "stop")
        assert result.response.strip()
    if policy != "always":
        assert (result.kept == "regenerated") == (result.reason == "ok")


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_found_on_both_sides_is_no_answer(policy: Any) -> None:
    row = {**ROW, "response": "seven"}
    result = choose(row, [generated("seven it is")], "final_number", policy)
    assert result.reason == "no answer found"
