"""Paired intervals: reproducible, and narrow where two models agree."""

from __future__ import annotations

import numpy as np
import pytest

from factory.errors import FactoryError
from factory.paired import Counts, Paired, TaskSamples


def samples(*scores: float) -> TaskSamples:
    return TaskSamples(range(len(scores)), ["task"] * len(scores), scores)


RIGHT = tuple(float(x) for x in np.random.default_rng(0).random(80) < 0.6)
MODELS = {
    "base": {"one": samples(*RIGHT), "two": samples(*RIGHT)},
    "same": {"one": samples(*RIGHT), "two": samples(*RIGHT)},
    "half": {"one": samples(*(x / 2 for x in RIGHT)), "two": samples(*(x / 2 for x in RIGHT))},
    "wrong": {"one": samples(*(1 - x for x in RIGHT)), "two": samples(*(1 - x for x in RIGHT))},
}


def test_what_two_models_share_cancels() -> None:
    paired = Paired(MODELS, replicates=200, seed=0)
    for model, recovery in (("same", 1.0), ("half", 0.5)):
        found = paired.recovery(model, "base")
        assert found is not None
        assert (found.value, found.low, found.high) == pytest.approx((recovery, recovery, recovery))
    assert paired.difference("same", "base").stderr == 0
    apart = paired.difference("wrong", "base", "one")
    assert apart.low < apart.value < apart.high
    assert apart.n == 80


def test_won_and_lost_documents_are_counted_and_ties_are_neither() -> None:
    right = sum(RIGHT)
    paired = Paired(MODELS, replicates=2, seed=0)
    assert paired.counts("same", "base") == Counts(0, 0)
    assert paired.counts("half", "base", "one") == Counts(0, right)
    assert paired.counts("wrong", "base", "one") == Counts(80 - right, right)
    assert paired.counts("base", "wrong") == Counts(2 * right, 2 * (80 - right))


def test_shares_win_a_document_only_where_the_answer_turns() -> None:
    def shares(*scores: float) -> dict[str, TaskSamples]:
        correct = [score > 0.5 for score in scores]
        return {"one": TaskSamples(range(3), ["one"] * 3, scores, correct=correct)}

    models = {"base": shares(0.99999984, 0.6, 0.2), "other": shares(0.99996931, 0.4, 0.3)}
    assert Paired(models, replicates=2, seed=0).counts("other", "base") == Counts(0, 1)


def test_other_prompts_are_other_documents() -> None:
    def asked(prompt: str) -> dict[str, TaskSamples]:
        return {"one": TaskSamples([0, 1], ["one", "one"], [0.0, 1.0], ["same", prompt])}

    Paired({"base": asked("a"), "other": asked("a")}, replicates=2, seed=0)
    with pytest.raises(FactoryError, match="were scored on different documents of one"):
        Paired({"base": asked("a"), "other": asked("b")}, replicates=2, seed=0)


def test_the_seed_decides_the_draws_and_tasks_have_their_own() -> None:
    first, again, other = (Paired(MODELS, replicates=200, seed=seed) for seed in (1, 1, 2))
    assert first.difference("wrong", "base") == again.difference("wrong", "base")
    assert first.difference("wrong", "base") != other.difference("wrong", "base")
    # The two tasks hold the same scores: only draws of their own tell their errors apart.
    assert first.difference("wrong", "base", "one") != first.difference("wrong", "base", "two")


def test_no_recovery_where_the_base_may_be_zero() -> None:
    rarely = {"one": samples(*[0.0] * 79, 1.0)}
    paired = Paired({"base": rarely, "other": rarely}, replicates=200, seed=0)
    assert paired.recovery("other", "base") is None
    assert paired.recovery_difference("other", "other", "base") is None
