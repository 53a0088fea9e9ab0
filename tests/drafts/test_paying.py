"""From how many removed blocks a draft pays: by one timing, and by those of all drafts of its shape."""

from __future__ import annotations

from typing import Any

import pytest

from factory.drafts.paying import pays, pooled
from factory.drafts.speculative import MOST


def facts(draft: float = 10.0, step: float = 24.0, target: str = "base", kept: int = 8) -> dict[str, Any]:
    """Of a draft of 8 of 12 blocks of a target that takes 14, of which 2 are for no block.

    At K = 1 a step writes 1.5 tokens, and takes what its forward passes take: 10 + 14.
    """
    found = {"value": 1.5, "low": 1.5, "high": 1.5}
    return {
        "target": target,
        "blocks": {"draft": kept, "target": 12},
        "parameters": {"draft": 8, "target": 12},
        "greedy": {"all": {"k": [{"k": k, "tokens": found} for k in range(1, MOST + 1)]}},
        "latency": {"draft": draft, "target": 14.0, "verify": [14.0] * MOST},
        "measured": {"token": 14.0, "by_k": [{"k": 1, "step": step}]},
    }


def test_one_timing_tells_by_itself() -> None:
    found = pays(facts())
    # 1.5 * 14 > draft + 14 where draft < 7, which is 8 blocks less
    assert (found["removed"], found["forward"], found["each"]) == (8, 8, [8])
    assert (found["per_block"], found["besides"], found["of"]) == (1.0, 2.0, 12)
    assert (found["a_token"], found["a_step"]) == (0.0, 0.0)


def test_what_generation_costs_besides_is_in_one_figure_and_not_in_the_other() -> None:
    found = pays(facts(step=26.0))
    assert (found["removed"], found["forward"], found["a_step"]) == (10, 8, 2.0)


def test_drafts_of_one_shape_are_told_one_number_by_all_their_timings() -> None:
    steps = {"a": 24.0, "b": 25.0, "c": 40.0}
    rows = pooled([{"name": name, "facts": facts(step=step)} for name, step in steps.items()])
    told = [row["facts"]["pays"] for row in rows]
    assert [one["removed"] for one in told] == [9, 9, 9] and told[0] == told[1] == told[2]
    assert told[0]["each"] == [8, 9, None] and told[0]["a_step"] == 1.0
    assert [row["name"] for row in rows] == ["a", "b", "c"]


def test_drafts_of_another_shape_are_told_apart() -> None:
    rows = pooled([{"facts": facts()}, {"facts": facts(draft=6.0, step=20.0, kept=4)}])
    assert [row["facts"]["pays"]["each"] for row in rows] == [[8], [8]]
    assert rows[0]["facts"]["pays"] == pays(facts())


def test_a_draft_faster_than_its_blocks_is_noise_and_left_out() -> None:
    noise = facts(draft=4.0)
    alone = pays(noise)
    assert alone["per_block"] is None and alone["removed"] is None and "noise" in alone["why"]
    assert pays(noise, [noise, facts()]) == pays(facts())


@pytest.mark.parametrize("changes", [{"target": "org/larger"}, {"kept": 12}])
def test_what_is_not_made_of_the_target_has_no_such_number(changes: dict[str, Any]) -> None:
    found = pays(facts(**changes))
    assert found["removed"] is None and found["why"] == "the draft is not the target with blocks removed"


def test_a_draft_as_slow_as_its_target_tells_no_blocks_cost() -> None:
    found = pays(facts(draft=14.0))
    assert found["removed"] is None and "no faster than the target's" in found["why"]
