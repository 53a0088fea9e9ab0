"""Speculative decoding in numbers: steps from acceptance, against plain simulators and by hand."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.drafts.speculative import MOST, Accepted, Latency, best, expected_steps, step_list


def simulated(target: list[int], draft: list[int], k: int, limit: int) -> list[int]:
    """Assisted generation over texts that are known: the draft says `draft[i]` behind `target[:i]`."""
    text: list[int] = []
    steps: list[int] = []
    while len(text) < len(target):
        most = min(k, limit - len(text) - 1)  # one token is the target's own
        kept = 0
        while kept < most and draft[len(text) + kept] == target[len(text) + kept]:
            kept += 1
            if len(text) + kept == len(target):  # the stop token: it was proposed, and counts as the target's
                kept -= 1
                break
        text += target[len(text) : len(text) + kept + 1]
        steps.append(kept)
    return steps


@given(
    pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40),
    k=st.integers(1, MOST),
    room=st.integers(0, 12),
)
def test_steps_follow_from_the_flags(pairs: list[tuple[int, int]], k: int, room: int) -> None:
    target, draft = [one for one, _ in pairs], [other for _, other in pairs]
    flags = [one == other for one, other in pairs]
    assert step_list(flags, k) == simulated(target, draft, k, len(target) + room)


@given(texts=st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=5))
def test_certain_flags_have_their_list_as_expectation(texts: list[list[bool]]) -> None:
    found = expected_steps([np.array(flags, float) for flags in texts])
    for row, flags in zip(found, texts, strict=True):
        assert [len(step_list(flags, k)) for k in range(1, MOST + 1)] == pytest.approx(row.tolist())


def test_expected_steps_by_hand() -> None:
    # Three tokens, the last never accepted. K = 1: after a proposal that is kept one more is the target's.
    a, b = 0.5, 0.25
    one = expected_steps([np.array([a, b, 0.9])])[0]
    # from token 0: kept (a) -> token 2, else token 1; from token 1: kept (b) -> the end, else token 2
    assert one[0] == pytest.approx(1 + (1 - a) + (a + (1 - a) * (1 - b)))
    # K = 2: both kept ends the text in one step
    assert one[1] == pytest.approx(1 + (1 - a) + (a * (1 - b) + (1 - a) * (1 - b)))


def draw(weights: list[float], chance: random.Random) -> int:
    return chance.choices(range(len(weights)), weights)[0]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_sampled_steps_are_those_of_the_rejection_rule(k: int) -> None:
    """A chain over three tokens: what texts of the target tell, against speculative sampling itself."""
    p = [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]
    q = [[0.3, 0.5, 0.2], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1]]
    chance, length, rounds = random.Random(3), 12, 6000
    told = []
    for _ in range(rounds):
        last, chances = 0, []
        for _ in range(length):
            token = draw(p[last], chance)
            chances.append(min(1.0, q[last][token] / p[last][token]))
            last = token
        told.append(np.array(chances))
    steps = 0
    for _ in range(rounds):
        text = [0]
        while len(text) <= length:
            steps += 1
            proposed = []
            for _ in range(min(k, length - len(text))):
                proposed.append(draw(q[[*text, *proposed][-1]], chance))
            for token in proposed:
                last = text[-1]
                if chance.random() < p[last][token] / q[last][token]:
                    text.append(token)
                else:
                    text.append(
                        draw([max(0.0, x - y) for x, y in zip(p[last], q[last], strict=True)], chance)
                    )
                    break
            else:
                text.append(draw(p[text[-1]], chance))
    assert expected_steps(told)[:, k - 1].mean() == pytest.approx(steps / rounds, rel=0.01)


def accepted(flags: list[list[bool]]) -> Accepted:
    chances = [np.array(one, float) for one in flags]
    rates = np.array([one.sum() for one in chances])
    return Accepted(np.array([float(len(one)) for one in chances]), rates, expected_steps(chances))


def test_figures_are_sums_over_texts_and_not_means_of_means() -> None:
    flags = [[True, True, False, True], [False] * 9]
    found = accepted(flags).summary()
    steps = [step_list(one, 2) for one in flags]
    total = sum(map(len, steps))
    assert found["rate"]["value"] == pytest.approx(3 / 13)
    assert found["k"][1]["accepted"]["value"] == pytest.approx(sum(map(sum, steps)) / total)
    assert found["k"][1]["tokens"]["value"] == pytest.approx(13 / total)
    assert (found["texts"], found["tokens"], found["rate"]["n"]) == (2, 13, 2)


def test_intervals_enclose_the_figure_and_narrow_with_more_texts() -> None:
    chance = random.Random(1)
    texts = [[chance.random() < 0.6 for _ in range(20)] for _ in range(400)]
    few, many = accepted(texts[:40]).summary(), accepted(texts).summary()
    for found in (few, many):
        for one in (found["rate"], *(row["accepted"] for row in found["k"])):
            assert one["low"] < one["value"] < one["high"]
    width = [found["rate"]["high"] - found["rate"]["low"] for found in (few, many)]
    assert width[1] < 0.6 * width[0]


def test_how_many_texts_each_set_has_is_no_chance() -> None:
    # Of two sets as different as can be little is left to chance: of neither a text was seen to differ.
    sure, never = np.ones(10), np.zeros(10)
    chances = [sure] * 20 + [never] * 20
    found = Accepted(np.full(40, 10.0), np.array([one.sum() for one in chances]), expected_steps(chances))
    apart, together = found.summary(["a"] * 20 + ["b"] * 20), found.summary()
    widths = [found["rate"]["high"] - found["rate"]["low"] for found in (apart, together)]
    assert 0 < widths[0] < 0.7 * widths[1]


@pytest.mark.parametrize("accepted_all", [True, False])
def test_all_accepted_or_nothing_is_no_certainty(accepted_all: bool) -> None:
    found = accepted([[accepted_all] * 12 for _ in range(20)]).summary()
    assert found["rate"]["value"] == float(accepted_all)
    for one in (found["rate"], *(row[name] for row in found["k"] for name in ("accepted", "tokens"))):
        assert one["high"] - one["low"] > 0.1
    assert all(row["accepted"]["low"] >= 0 and row["accepted"]["high"] <= row["k"] for row in found["k"])


def summary(tokens: list[float]) -> dict[str, object]:
    return {
        "k": [
            {"k": k, "tokens": {"value": found, "low": found, "high": found}}
            for k, found in enumerate(tokens, 1)
        ]
    }


def test_speed_up_is_tokens_over_the_time_of_a_step() -> None:
    latency = Latency(draft=1.0, target=10.0, verify=(12.0,) * MOST)
    by_k = latency.by_k(summary([1.8, 2.4, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5]))
    assert by_k[0]["value"] == pytest.approx(18 / 13)
    assert best(by_k) == {
        "k": 2,
        "value": pytest.approx(24 / 14),
        "low": pytest.approx(24 / 14),
        "high": pytest.approx(24 / 14),
    }


def test_what_generating_costs_besides_gives_the_speed_that_was_measured() -> None:
    latency = Latency(draft=2.0, target=10.0, verify=(12.0,) * MOST)
    # 14 a token alone, 30 a step of 3 proposed: 4 more a token, and 30 - 3 * (2 + 4) - 12 = 0 a step
    whole = latency.generating(14.0, {3: 30.0})
    assert (whole.a_token, whole.a_step) == (4.0, 0.0)
    assert whole.speed_up(2.5, 3) == pytest.approx(2.5 * 14 / 30)
    assert latency.generating(14.0, {3: 33.0}).a_step == pytest.approx(3.0)
    # with several K the one in the middle: 3, 0 and 9 a step
    assert latency.generating(14.0, {3: 33.0, 1: 18.0, 2: 33.0}).a_step == pytest.approx(3.0)


def test_a_draft_pays_later_for_what_generating_costs_besides() -> None:
    latency = Latency(draft=10.0, target=14.0, verify=(14.0,) * MOST)
    tokens = summary([1.5] * MOST)
    whole = latency.generating(16.0, {1: 28.0})  # 2 more a token, and 2 more a step
    # 1.5 * 16 > draft + 2 + 14 + 2 where draft < 6, which is 9 blocks less; without those 8
    assert whole.pays_from(tokens, of=12, removed=4)["removed"] == 9
    assert latency.generating(14.0, {1: 40.0}).pays_from(tokens, of=12, removed=4)["removed"] is None


def test_noise_does_not_make_more_tokens_cheaper() -> None:
    found = Latency.measured(1.0, [4.0, 6.0, 5.0, 4.0, 8.0, 8.0, 9.0, 9.0, 9.5])
    assert found.target == 4.0
    assert found.verify[:3] == (5.0, 5.0, 5.0) and found.verify[3:] == (8.0, 8.0, 9.0, 9.0, 9.5)


def test_a_draft_pays_from_the_block_on_at_which_its_time_does() -> None:
    # 12 blocks at 1, and 2 besides: a draft that lacks 4 takes 10 of 14. At K = 1 it gives 1.5 tokens a step.
    latency = Latency(draft=10.0, target=14.0, verify=(14.0,) * MOST)
    tokens = summary([1.5] * MOST)
    found = latency.pays_from(tokens, of=12, removed=4)
    # 1.5 * 14 > draft + 14 where draft < 7, which is 8 blocks less
    assert (found["removed"], found["k"], found["per_block"], found["besides"]) == (8, 1, 1.0, 2.0)
    assert latency.pays_from(summary([1.05] * MOST), of=12, removed=4)["removed"] is None
    deeper = Latency(draft=6.0, target=14.0, verify=(14.0,) * MOST)  # 1.7 * 14 > draft + 14 from 5 blocks on
    assert deeper.pays_from(summary([1.7] * MOST), of=12, removed=8)["removed"] == 5
    same = Latency(draft=14.0, target=14.0, verify=(14.0,) * MOST)
    assert same.pays_from(tokens, of=12, removed=4)["removed"] is None


@settings(max_examples=30)
@given(chances=st.lists(st.floats(0, 1), min_size=1, max_size=25))
def test_more_proposals_never_take_more_steps(chances: list[float]) -> None:
    steps = expected_steps([np.array(chances)])[0]
    assert all(more <= less + 1e-9 for less, more in pairwise(steps))
    assert steps[-1] >= 1 and steps[0] <= len(chances) + 1e-9
