"""Bootstrap intervals of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.tasks.bootstrap import draw_means, estimate, mean_of_groups, standard_error


def test_the_statistic_is_the_mean_of_the_groups_means() -> None:
    assert mean_of_groups([1, 1, 1, 0], ["a", "a", "a", "b"]) == 0.5


def test_replicates_keep_every_group() -> None:
    # Within a group all scores are equal, so no draw can move a group's mean.
    assert (draw_means([1.0, 1.0, 0.0, 0.0, 0.0], [*"aabbb"], 50, seed=0) == 0.5).all()


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


@settings(deadline=None, max_examples=30)
@given(
    per_subject=st.sampled_from([1, 2, 5, 50]),
    subjects=st.integers(20, 60),
    seed=st.integers(0, 1000),
    binary=st.booleans(),
)
def test_the_interval_is_as_wide_as_the_standard_error_says(
    per_subject: int, subjects: int, seed: int, binary: bool
) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((subjects, per_subject))
    if binary:
        scores = (scores < random.uniform(0.2, 0.8, (subjects, 1))).astype(float)
    groups = [str(subject) for subject in range(subjects) for _ in range(per_subject)]
    # Inside subjects; with one document of each, across them.
    within = scores.var(axis=1, ddof=1).sum() / per_subject / subjects**2 if per_subject > 1 else 0
    exact = np.sqrt(within if per_subject > 1 else scores.var(ddof=1) / subjects)
    assert standard_error(scores.ravel(), groups) == pytest.approx(exact)
    found = estimate(scores.mean(), draw_means(scores.ravel(), groups, 4000, seed), scores.size)
    assert found.stderr == pytest.approx(exact, rel=0.08)
    step = 1 / subjects / max(1, per_subject - 1)  # quantiles of whole numbers of right answers
    assert found.high - found.low == pytest.approx(2 * 1.96 * exact, abs=0.3 * exact + step)
    assert 0 <= found.low <= found.high <= 1


def test_one_document_a_subject_is_no_sure_score() -> None:
    """`--limit 1` on MMLU: 10 of 57 right says little of the other documents."""
    scores, groups = [1.0] * 10 + [0.0] * 47, [str(subject) for subject in range(57)]
    found = estimate(10 / 57, draw_means(scores, groups, 4000, seed=0), 57)
    assert found.low < 0.1 < 0.25 < found.high
    assert standard_error(scores, groups) == pytest.approx(np.std(scores, ddof=1) / np.sqrt(57))


def test_a_lone_subject_of_one_document_joins_the_smallest_other() -> None:
    scores, groups = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0], [*"abbcccc"]
    within = np.var([1, 0, 1, 0], ddof=1) / 4 / 9
    across = np.var([1, 0], ddof=1) / 2 * (2 / 3) ** 2
    assert standard_error(scores, groups) == pytest.approx(np.sqrt(within + across))
    draws = draw_means(scores, groups, 4000, seed=0)
    assert draws.std() == pytest.approx(np.sqrt(within + across), rel=0.05)
    assert draws.mean() == pytest.approx(mean_of_groups(scores, groups), abs=0.02)


def test_a_single_document_has_no_standard_error() -> None:
    assert standard_error([1.0], ["x"]) is None
    assert (draw_means([1.0], ["x"], 20, seed=0) == 1).all()
