"""Figures with their intervals: ratios over prompts, paired differences, rank correlations."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from factory.drift.figures import Rows, Sure, difference, figure, perplexity, rank_correlation, ratio
from factory.tasks import shares

RANDOM = np.random.default_rng(0)
N = 60
TOKENS = RANDOM.integers(1, 40, N)


def rows(kl: np.ndarray, datasets: list[str] | None = None) -> Rows:
    columns = {
        "tokens": TOKENS.tolist(), "kl": (kl * TOKENS).tolist(), "agreed": (TOKENS // 2).tolist(),
        "nll": (kl * TOKENS).tolist(), "nll_base": (0.5 * kl * TOKENS).tolist(),
        "similarity": kl.tolist(), "identical": (kl > 0.5).astype(float).tolist(),
    }  # fmt: skip
    return Rows(datasets or ["a"] * N, columns)


def test_a_figure_weighs_every_token_alike_and_draws_prompts() -> None:
    kl = RANDOM.random(N)
    found = figure(rows(kl), "kl", 4000, 0)
    assert found and found.value == pytest.approx((kl * TOKENS).sum() / TOKENS.sum())
    # The delta method's standard error of a ratio of means (Cochran 1977, 2.45).
    rest = kl * TOKENS - found.value * TOKENS
    error = math.sqrt((rest**2).sum() / (N - 1) / N) / TOKENS.mean()
    assert found.estimate["stderr"] == pytest.approx(error, rel=0.1)
    assert found.estimate["low"] < found.value < found.estimate["high"]


def test_perplexity_is_exp_of_the_mean_and_its_interval_with_it() -> None:
    kl = RANDOM.random(N)
    mean, grown = figure(rows(kl), "kl", 500, 0), figure(rows(kl), "perplexity", 500, 0)
    assert mean and grown
    for key in ("value", "low", "high"):
        assert grown.estimate[key] == pytest.approx(math.exp(mean.estimate[key]), rel=1e-3)
    half = figure(rows(kl), "perplexity_base", 500, 0)
    assert half and half.value == pytest.approx(math.sqrt(grown.value))


def test_what_two_models_share_cancels() -> None:
    kl = RANDOM.random(N)
    one, other = figure(rows(kl), "kl", 500, 0), figure(rows(kl + 0.25), "kl", 500, 0)
    assert isinstance(one, Sure) and isinstance(other, Sure)
    apart = other.minus(one)
    assert apart["low"] == pytest.approx(0.25) and apart["high"] == pytest.approx(0.25)


def test_nothing_judged_gives_no_figure() -> None:
    empty = Rows(["a"], {name: [0] for name in ("tokens", "kl", "agreed", "nll", "nll_base")})
    assert figure(empty, "kl", 100, 0) is None and figure(empty, "perplexity", 100, 0) is None
    assert perplexity([], [], 100, 0) is None


def test_one_prompt_of_a_dataset_is_a_figure_without_width() -> None:
    found = figure(rows(RANDOM.random(N), ["a"] * (N - 1) + ["b"]).of("b"), "kl", 100, 0)
    assert found and found.estimate["low"] == found.estimate["high"] and found.n == 1


def test_shares_have_the_intervals_of_shares() -> None:
    agreed, each = (TOKENS // 2).astype(float), [1.0] * N
    found = figure(rows(RANDOM.random(N)), "agreement", 100, 0)
    assert found and found.estimate == asdict(shares.share(agreed, TOKENS, ["a"] * N))
    same = figure(rows(np.ones(N)), "identical", 100, 0)
    assert same and same.estimate == asdict(shares.share(each, each, ["a"] * N))
    assert same.estimate["low"] < same.value == 1.0


def test_a_share_is_compared_as_pairs() -> None:
    ours, theirs = rows(RANDOM.random(N)), rows(RANDOM.random(N))
    both = [one.columns["identical"] for one in (ours, theirs)]
    told = difference(ours, theirs, "identical", 100, 0)
    assert told == asdict(shares.difference(*both, [1.0] * N, ["a"] * N))
    kl = difference(ours, theirs, "kl", 100, 0)
    one, other = figure(ours, "kl", 100, 0), figure(theirs, "kl", 100, 0)
    assert kl and one and other and kl["value"] == pytest.approx(one.value - other.value)


def test_groups_of_one_row_are_no_certainty() -> None:
    over, under = (RANDOM.random(N) > 0.5).astype(float).tolist(), [1.0] * N
    alone = ratio(over, under, [str(i) for i in range(N)], 2000, 0)
    whole = ratio(over, under, ["all"] * N, 2000, 0)
    assert alone and whole
    assert alone.estimate["stderr"] == pytest.approx(whole.estimate["stderr"], rel=0.1)
    lone = ratio(over[:3], under[:3], ["a", "a", "b"], 2000, 0)  # joined by the smallest other group
    every = ratio(over[:3], under[:3], ["a"] * 3, 2000, 0)
    assert lone and every and lone.estimate == every.estimate


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=7))
def test_rank_correlation_is_scipys_and_its_chance_that_of_all_orders(pairs: list[tuple[int, int]]) -> None:
    first, second = (list(map(float, side)) for side in zip(*pairs, strict=True))
    found = rank_correlation(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert found is None
        return
    assert found is not None and found["n"] == len(pairs)
    assert found["rho"] == pytest.approx(stats.spearmanr(first, second).statistic)
    if len(pairs) > 5:
        return
    ours = stats.rankdata(first)
    tested = stats.permutation_test(
        (second,), lambda other: np.corrcoef(ours, stats.rankdata(other))[0, 1],
        permutation_type="pairings", n_resamples=np.inf,
    )  # fmt: skip
    two_sided = np.mean(np.abs(tested.null_distribution) >= abs(found["rho"]) - 1e-12)
    assert found["p"] == pytest.approx(two_sided)


def test_what_goes_with_the_group_is_no_correlation_inside_groups() -> None:
    # Over all, more of one is less of the other; inside each group it is the other way round.
    first, second = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0], [21.0, 22.0, 23.0, 1.0, 2.0, 3.0]
    over_all, inside = rank_correlation(first, second), rank_correlation(first, second, "aaabbb")
    assert over_all and over_all["rho"] < 0
    assert inside and inside["rho"] == pytest.approx(1.0)
    assert inside["p"] == pytest.approx(2 / 36)  # of 3! * 3! orders the one and its mirror image
    assert rank_correlation(first, second, "abcdef") is None
    many = rank_correlation([*first, *first], [*second, *second], "aaabbbcccddd")
    assert many and many["n"] == 12 and many["p"] < 0.01


def test_two_models_have_no_rank_correlation_and_many_are_tried_by_chance() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    found = rank_correlation(list(range(12)), [-i for i in range(12)])
    assert found and found["rho"] == pytest.approx(-1.0) and found["p"] < 0.001
