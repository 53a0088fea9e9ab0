"""Bootstrap intervals of scores."""

from __future__ import annotations

import numpy as np
import pytest

from factory.tasks.bootstrap import draw_means, estimate, mean_of_groups


def test_the_statistic_is_the_mean_of_the_groups_means() -> None:
    assert mean_of_groups([1, 1, 1, 0], ["a", "a", "a", "b"]) == 0.5


def test_replicates_keep_every_group() -> None:
    # Within a group all scores are equal, so no draw can move a group's mean.
    assert (draw_means([1.0, 1.0, 0.0], ["a", "a", "b"], 50, seed=0) == 0.5).all()


def test_the_standard_error_is_that_of_a_mean() -> None:
    scores = [1.0] * 60 + [0.0] * 140
    found = estimate(0.3, draw_means(scores, ["x"] * 200, 4000, seed=1), 200)
    exact = np.sqrt(0.3 * 0.7 / 200)
    assert found.stderr == pytest.approx(exact, rel=0.05)
    assert found.n == 200
    assert found.low == pytest.approx(0.3 - 1.96 * exact, abs=0.01)
    assert found.high == pytest.approx(0.3 + 1.96 * exact, abs=0.01)


def test_the_same_seed_draws_the_same_documents_for_every_model() -> None:
    scores, groups = np.random.default_rng(0).random(40), ["x"] * 40
    ours, theirs = (draw_means(values, groups, 100, seed=3) for values in (scores + 0.25, scores))
    assert np.allclose(ours - theirs, 0.25)
    assert not np.allclose(theirs, draw_means(scores, groups, 100, seed=4))


def test_a_large_task_is_drawn_in_blocks_and_no_replicate_is_left_out() -> None:
    """MMLU has 14,042 documents: 1,000 replicates at once would hold 112 MB of indices."""
    scores = np.random.default_rng(0).random(14_042)
    means = draw_means(scores, ["x"] * len(scores), 700, seed=0)
    assert means.shape == (700,)
    assert np.abs(means - scores.mean()).max() < 6 * scores.std() / np.sqrt(len(scores))
    assert means.std() == pytest.approx(scores.std() / np.sqrt(len(scores)), rel=0.15)
    assert len(set(means)) == 700


def test_all_alike_has_an_interval_without_width() -> None:
    found = estimate(1.0, draw_means([1.0] * 60, ["x"] * 60, 200, seed=0), 60)
    assert (found.low, found.high, found.stderr, found.n) == (1.0, 1.0, 0.0, 60)
