"""Two models on the same documents."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.compare import Side, compare
from factory.errors import FactoryError
from factory.paired import TaskSamples


def samples(right: list[bool], prompt: str = "p") -> TaskSamples:
    n = len(right)
    return TaskSamples(
        range(n), ["t"] * n, [float(one) for one in right], [f"{prompt}{i}" for i in range(n)], right
    )


def side(name: str, suite: str = "s", **tasks: list[bool]) -> Side:
    return Side(name, suite, {task: samples(right) for task, right in tasks.items()})


def test_documents_are_counted_and_a_difference_beyond_chance_is_told() -> None:
    ours = side("a", t=[True] * 60 + [False] * 40, u=[True, False] * 50)
    theirs = side("b", t=[True] * 30 + [False] * 69 + [True], u=[True, False] * 50)
    found = compare(ours, theirs)
    line = found.tasks["t"]
    assert (line.counts.won, line.counts.lost, line.difference.n) == (30, 1, 100)
    assert line.difference.value == pytest.approx(0.29) and line.beyond_chance
    assert not found.tasks["u"].beyond_chance
    assert found.average.difference.value == pytest.approx(0.145) and found.average.difference.n == 200


def test_a_task_with_other_documents_or_prompts_is_left_out_and_named() -> None:
    ours, theirs = side("a", t=[True, False], u=[True], v=[True, False]), side("b", t=[True, False], v=[True])
    prompts = Side("c", "s", {"t": samples([True, False], "q"), "v": samples([True, False])})
    assert list(compare(ours, theirs).tasks) == ["t"]
    assert compare(ours, theirs).left_out.keys() == {"u", "v"}
    assert "different prompts" in compare(ours, prompts).left_out["t"]


def test_one_model_is_not_compared_with_itself() -> None:
    with pytest.raises(FactoryError, match="'a' is one and the same model"):
        compare(side("a", t=[True, False]), side("a", t=[True, False]))
    assert compare(side("a", t=[True, False]), side("a", t=[True, True])).tasks  # a base evaluated twice


def test_nothing_in_common_is_refused_in_one_line() -> None:
    with pytest.raises(FactoryError, match="different suites, s and other"):
        compare(side("a", t=[True]), side("b", "other", t=[True]))
    with pytest.raises(FactoryError, match="no task in common") as told:
        compare(side("a", t=[True]), side("b", u=[True]))
    assert "\n" not in str(told.value)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_turned_round_everything_changes_its_sign(answers: list[tuple[bool, bool]]) -> None:
    a, b = (side(name, t=[pair[i] for pair in answers]) for i, name in enumerate("ab"))
    one, other = compare(a, b).average, compare(b, a).average
    assert one.difference.value == pytest.approx(-other.difference.value)
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert (one.counts.won, one.counts.lost) == (other.counts.lost, other.counts.won)
    assert one.beyond_chance == other.beyond_chance
    assert not compare(a, replace(a, name="c")).average.beyond_chance
