"""Intervals of shares: what is never seen to vary is not certain, few prompts and several strata or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from factory.tasks.shares import difference, share

Z2 = 1.959964**2
ONES = [1.0] * 60


def no_width(n: float) -> float:
    """Wilson's limit of 0 of n."""
    return Z2 / (n + Z2)


@given(right=st.lists(st.booleans(), min_size=2, max_size=60))
def test_of_rows_wholly_right_or_wrong_the_interval_is_wilsons(right: list[bool]) -> None:
    found = share([float(one) for one in right], [1.0] * len(right), ["a"] * len(right))
    wanted = stats.binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    assert (found.value, found.n) == (pytest.approx(np.mean(right)), len(right))
    assert (found.low, found.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    assert (found.stderr is None) == (len(set(right)) == 1)


def test_a_stratum_that_is_sure_by_chance_widens_the_whole() -> None:
    right = [1.0] * 20 + [1.0, 0.0] * 10
    found = share(right, [1.0] * 40, ["a"] * 20 + ["b"] * 20)
    half = stats.binomtest(10, 20).proportion_ci(method="wilson")
    down = np.hypot(0.5 * no_width(20), 0.5 * (0.5 - half.low))
    assert found.low == pytest.approx(0.75 - down) and found.stderr is None
    assert found.high == pytest.approx(0.75 + 0.5 * (half.high - 0.5))


def test_of_many_tokens_of_many_rows_the_standard_error_is_the_linearised_one() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(5, 60, 400)
    kept = random.binomial(tokens, random.beta(4, 2, 400))
    found = share(kept.astype(float), tokens.astype(float), ["a"] * 400)
    rest = kept - found.value * tokens
    error = np.sqrt((rest @ rest) * 400 / 399) / tokens.sum()  # Cochran 1977, 2.45
    assert found.stderr == pytest.approx(error)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_strata_of_unequal_weight_do_not_vary_less_than_their_weights() -> None:
    # Nobody knows how many tokens the next texts of either have, so neither what the whole share is.
    random = np.random.default_rng(1)
    tokens = random.integers(1, 100, 80).astype(float)
    kept = np.where(np.arange(80) < 40, tokens, 0.0)
    apart = share(kept, tokens, ["a"] * 40 + ["b"] * 40)
    alike = share(np.where(np.arange(80) < 40, 30.0, 0.0), [30.0] * 80, ["a"] * 40 + ["b"] * 40)
    assert apart.high - apart.value > 1.5 * (alike.high - alike.value) > 0


def test_models_that_are_alike_on_all_rows_may_still_differ() -> None:
    right = [1.0, 0.0] * 30
    found = difference(right, right, ONES, ["a"] * 60)
    assert (found.value, found.low, found.high) == (
        0.0, pytest.approx(-no_width(60)), pytest.approx(no_width(60)),
    )  # fmt: skip
    apart = difference(ONES, [0.0] * 60, ONES, ["a"] * 60)
    assert apart.high == 1.0 and apart.low == pytest.approx(1 - np.sqrt(2) * no_width(60))


def test_what_two_models_share_makes_their_difference_surer() -> None:
    random = np.random.default_rng(2)
    ours = random.random(60) < 0.6
    paired = difference(ours.astype(float), np.where(np.arange(60) < 3, 0.0, ours), ONES, ["a"] * 60)
    alone = share(ours.astype(float), ONES, ["a"] * 60)
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)


def test_one_row_is_no_certainty_and_rows_of_nothing_are_no_rows() -> None:
    one = share([3.0, 0.0, 0.0], [3.0, 0.0, 0.0], ["a", "a", "b"])
    assert (one.low, one.high, one.n) == (pytest.approx(1 - no_width(1)), 1.0, 3)
    some = share([3.0, 2.0, 1.0], [4.0] * 3, ["a"] * 3)
    more = share([3.0, 2.0, 1.0, 0.0, 0.0], [4.0] * 3 + [0.0] * 2, ["a"] * 5)
    assert replace(more, n=3) == some
    lone = share([1.0, 0.0, 1.0], [1.0] * 3, ["a", "a", "b"])  # joined by the smallest other stratum
    assert lone == share([1.0, 0.0, 1.0], [1.0] * 3, ["a"] * 3)


@pytest.mark.parametrize(
    ("shares", "n"), [((0.97, 0.6), 6), ((0.97, 0.97), 6), ((0.5, 0.95, 0.02), 4), ((0.97, 0.6), 20)]
)
@pytest.mark.parametrize("hang", [0.3, 1.0])
def test_intervals_hold_the_truth_as_often_as_they_say(
    shares: tuple[float, ...], n: int, hang: float
) -> None:
    """Of 5 to 59 tokens a row, that hang together; wholly, they are one row that is right or wrong."""
    random, held, samples = np.random.default_rng(3), 0, 150
    groups = [str(i) for i in range(len(shares)) for _ in range(n)]
    for _ in range(samples):
        tokens = random.integers(5, 60, len(groups)) if hang < 1 else np.ones(len(groups), int)
        chance = np.repeat(shares, n)
        if hang < 1:
            chance = random.beta(chance * (1 / hang - 1), (1 - chance) * (1 / hang - 1))
        found = share(random.binomial(tokens, chance).astype(float), tokens.astype(float), groups)
        held += found.low <= np.mean(shares) <= found.high
    assert held >= 0.91 * samples


def test_a_few_tokens_lost_are_no_leap_from_none() -> None:
    rows = [30.0] * 40
    found = [share([30.0 - (row < lost) for row in range(40)], rows, ["a"] * 40) for lost in (0, 1, 5)]
    none, one, five = (each.low for each in found)
    assert none == pytest.approx(1 - no_width(40))  # nothing tells that rows are not all or nothing
    assert none < one < five < found[2].value  # each row that varies tells of it
    assert one - none < 0.05 and five - one < 0.04  # were the rows that vary believed at once: 0.083


def test_what_nearly_all_rows_lose_alike_is_no_leap_from_all() -> None:
    rows = [30.0] * 40
    alike = share([29.0] * 40, rows, ["a"] * 40).low
    but_one = share([29.0] * 39 + [30.0], rows, ["a"] * 40).low
    assert alike < but_one < alike + 0.06


def test_a_side_of_which_nothing_is_seen_borrows_from_the_other() -> None:
    random = np.random.default_rng(4)
    tokens = np.full(40, 30.0)
    tokens[:6] += 1
    gained = random.multinomial(115, np.full(40, 1 / 40)).astype(float)
    found = difference(tokens - 5, tokens - 5 - gained, tokens, ["a"] * 40)
    assert found.value == pytest.approx(115 / 1206)
    assert 0.05 < found.low < found.value < found.high < 0.15
    other = difference(tokens - 5 - gained, tokens - 5, tokens, ["a"] * 40)
    assert (other.low, other.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


ROW = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.sampled_from("abc"))


@given(rows=st.lists(ROW, min_size=1, max_size=12))
@example(rows=[(1, 0, 1, "b"), (6, 0, 6, "a"), (1, 0, 1, "a"), (0, 6, 6, "b")])  # 1.5 were it not cut
def test_no_interval_leaves_what_can_be(rows: list[tuple[int, int, int, str]]) -> None:
    below = [float(max(row[:3])) for row in rows]
    if not sum(below):
        return
    ours, theirs, groups = (
        [float(row[0]) for row in rows],
        [float(row[1]) for row in rows],
        [r[3] for r in rows],
    )
    apart, alone = difference(ours, theirs, below, groups), share(ours, below, groups)
    assert -1 <= apart.low <= apart.value <= apart.high <= 1 and apart.low < apart.high
    assert 0 <= alone.low <= alone.value <= alone.high <= 1 and alone.low < alone.high
