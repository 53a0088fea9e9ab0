"""From how many removed blocks drafts pay, by what forward passes and generation were measured to cost.

Over speculative.py; for the stage draft, which has one timing, and for the report and cards, which have those
of all drafts of a run. Drafts of one shape cost the same, whatever they were trained on, so their timings
differ by noise alone: each is told by the medians of all, with what every single one would have told.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from factory.drafts import ALL
from factory.drafts.speculative import Latency

Facts = Mapping[str, Any]
SHARE = 0.9
"""A draft has its share of the target's blocks, and embeddings besides: it cannot take less than that."""
_OTHER = "the draft is not the target with blocks removed"
_NOISE = (
    "the draft's forward pass took much less than its share of the target's blocks, so the times are noise "
    "and tell no block's cost"
)
_NO_FASTER = "the draft's forward pass was no faster than the target's, so a block's cost cannot be told"
_HELD = "a block's cost as measured, acceptance held at this draft's, though it falls as more blocks go"


def pays(facts: Facts, alike: Sequence[Facts] = ()) -> dict[str, Any]:
    """From how many removed blocks a draft would make decoding faster; see `pays` in stages/draft.py.

    Args:
        facts: of the stage draft, but for `pays`.
        alike: of all drafts of its shape that were timed, itself among them; none for itself alone.
    """
    blocks = facts["blocks"]
    gone = blocks["target"] - blocks["draft"]
    names = ("removed", "k", "per_block", "besides", "forward", "a_token", "a_step")
    found: dict[str, Any] = {**dict.fromkeys(names), "of": blocks["target"], "each": []}
    if facts["target"] != "base" or gone < 1:
        return {**found, "why": _OTHER}
    timed = [_latency(one) for one in alike or [facts]]
    told = [one for one in timed if one.draft >= SHARE * one.target * blocks["draft"] / blocks["target"]]
    if not told:
        return {**found, "why": _NOISE}
    greedy, of = facts["greedy"][ALL], blocks["target"]
    whole = _median(told)
    found |= whole.pays_from(greedy, of, gone)
    found |= {"a_token": whole.a_token, "a_step": whole.a_step}
    found["forward"] = replace(whole, a_token=0.0, a_step=0.0).pays_from(greedy, of, gone)["removed"]
    found["each"] = [one.pays_from(greedy, of, gone)["removed"] for one in told]
    return {**found, "why": _HELD if found["per_block"] > 0 else _NO_FASTER}


def pooled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Drafts of a run, `pays` told by the timings of all of their shape.

    Args:
        rows: each with `facts`.
    """

    def shape(facts: Facts) -> Any:
        return facts["target"], *facts["blocks"].values(), *facts["parameters"].values()

    found = []
    for row in rows:
        alike = [other["facts"] for other in rows if shape(other["facts"]) == shape(row["facts"])]
        found.append({**row, "facts": {**row["facts"], "pays": pays(row["facts"], alike)}})
    return found


def _latency(facts: Facts) -> Latency:
    timed, measured = facts["latency"], facts["measured"]
    latency = Latency(timed["draft"], timed["target"], tuple(timed["verify"]))
    return latency.generating(measured["token"], {row["k"]: row["step"] for row in measured["by_k"]})


def _median(timed: Sequence[Latency]) -> Latency:
    def of(name: str) -> float:
        return statistics.median(getattr(one, name) for one in timed)

    verify = tuple(statistics.median(each) for each in zip(*(one.verify for one in timed), strict=True))
    return Latency(of("draft"), of("target"), verify, of("a_token"), of("a_step"))
