"""Drafts in words: sentences for the report's summary, its section and the cards, from records of draft.

Beside pages.py. Faster or slower is said only where all rounds of the measurement say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory import figures
from factory.drafts import ALL
from factory.wording import counted

Facts = Mapping[str, Any]
TIMES = "\N{MULTIPLICATION SIGN}"
FASTEST = {"faster": "fastest", "slower": "least slow", "neither faster nor slower": "best"}  # by verdict


def times(found: Mapping[str, float]) -> str:
    """A speed-up with its ends, behind a multiplication sign: `1.29 [1.24, 1.34]`."""
    return f"{TIMES} {found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def measured(facts: Facts) -> str:
    """The measured speed-up with its least and most; of a single round, which has none, the figure alone."""
    found = facts["measured"]
    if found["rounds"] == 1:
        return f"{TIMES} {found['speed_up']['value']:.2f} (one round)"
    return times(found["speed_up"])


def verdict(facts: Facts) -> str:
    """What the measurement allows to say."""
    found = facts["measured"]["speed_up"]
    if round(found["high"], 2) < 1:
        return "slower"
    return "faster" if round(found["low"], 2) > 1 else "neither faster nor slower"


def acceptance(facts: Facts) -> str:
    """How much of what the draft proposes is accepted, greedily and sampled, as a clause."""
    greedy, sampled = (facts[mode][ALL]["rate"]["value"] for mode in ("greedy", "sampled"))
    return (
        f"{100 * greedy:.0f} % of its tokens are accepted in greedy decoding, {100 * sampled:.0f} % at "
        f"temperature {facts['temperature']:g}"
    )


def speed(facts: Facts) -> str:
    """How fast the target decodes with the draft, in a clause that begins with `it`."""
    proposed = counted(facts["measured"]["k"], "proposed token")
    expected = f"{TIMES} {facts['best']['greedy']['value']:.2f} expected"
    found = f"{measured(facts)} measured with {proposed} a step, {expected}"
    made = "made" if facts["measured"]["rounds"] == 1 else "makes"  # of one round nobody knows how it varies
    return f"it {made} decoding {verdict(facts)}: {found}"


def taken_over(found: Mapping[str, Any]) -> str:
    """Which greedy texts of a set of prompts earlier steps had made, as a clause."""
    of_them = {
        "regenerated": "regenerated to train variants on",
        "held_out": "the base's answers for the drift",
    }
    return " and ".join(
        f"{counted(found[name], 'greedy text')} {'was' if found[name] == 1 else 'were'} {what}"
        for name, what in of_them.items()
        if found[name]
    )


def summary(drafts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fastest draft in a sentence, or of those that cannot be told apart the one accepted most.

    Args:
        drafts: report.json's `draft`.
    """
    if not drafts:
        return []
    first = max(drafts, key=lambda row: row["facts"]["measured"]["speed_up"]["value"])
    least = first["facts"]["measured"]["speed_up"]["low"]
    alike = [row for row in drafts if row["facts"]["measured"]["speed_up"]["high"] >= least]
    row = max(alike, key=lambda row: row["facts"]["greedy"][ALL]["rate"]["value"])
    facts = row["facts"]
    whose = "the base" if facts["target"] == "base" else facts["target"]
    if len(alike) > 1:  # which of them is the fastest is noise; how often they are accepted is not
        them = f"{len(alike)} drafts" if len(alike) == len(drafts) else f"the {len(alike)} fastest drafts"
        which = f"Of {them} of {whose}, whose measured speeds overlap, {row['name']} is accepted most"
    elif len(drafts) > 1:
        which = f"The {FASTEST[verdict(facts)]} draft of {whose} is {row['name']}"
    else:
        which = f"{row['name']} as a draft of {whose}"
    return [f"{which}: {acceptance(facts)}, and {speed(facts)}."]


def pays(facts: Facts) -> str:
    """From how many removed blocks drafting would pay, and what that rests on."""
    found = facts["pays"]
    if found["per_block"] is None or found["per_block"] <= 0:
        return f"From how many removed blocks it would pay is not known: {found['why']}."
    gone = facts["blocks"]["target"] - facts["blocks"]["draft"]
    alone = found["forward"]
    alone = "" if alone in (None, found["removed"]) else f"; by the forward passes alone from {alone} on"
    of = f"(of {found['of']}; here {gone}{_apart(found.get('each', ()))}{alone})"
    if found["removed"] is None:
        said = f"At this acceptance no number of removed blocks {of} would make it pay"
    elif found["removed"] > gone:
        said = f"It would pay from {found['removed']} removed blocks on {of}"
    elif verdict(facts) == "faster":
        said = f"It pays from {found['removed']} removed blocks on {of}"
    else:
        said = (
            f"By its costs it should pay from {found['removed']} removed blocks on {of}, "
            "which the measurement does not show"
        )
    each, besides, token, step = (
        f"{1000 * max(0.0, found[name]):.2f} ms" for name in ("per_block", "besides", "a_token", "a_step")
    )
    return (
        f"{said}: a forward pass costs {each} a block and {besides} besides, generating {token} more a token "
        f"and {step} more a step of drafting."
    )


def _apart(each: Sequence[int | None]) -> str:
    """What the timings of drafts of one shape say one by one, where there are several."""
    if len(each) < 2:
        return ""
    counts = sorted(one for one in each if one is not None)
    ends = [str(one) for one in counts[:1] + counts[-1:]]
    if len(counts) < len(each):
        ends = [*ends[:1], "none"]
    said = f"from {ends[0]} on" if len(set(ends)) == 1 else f"from {ends[0]} to {ends[-1]}"
    said = "none" if not counts else said
    return f"; timings of {len(each)} drafts of this shape taken together, one by one {said}"


def disturbed(drafts: Sequence[Mapping[str, Any]]) -> str | None:
    """What others did to the times, said of the draft that suffered most; None where it is next to nothing.

    Args:
        drafts: report.json's `draft`.
    """
    return figures.disturbed(max((row["facts"]["others"] or 0.0 for row in drafts), default=0.0))


def over_points(points: Sequence[Mapping[str, Any]]) -> str:
    """From how many removed blocks drafts made decoding faster, as a sweep measured it.

    Args:
        points: of the sweep's report.json, each with the drafts of its own report.
    """
    tried: dict[int, list[str]] = {}
    faster: dict[int, list[str]] = {}
    for point in points:
        for row in point["draft"]:
            facts = row["facts"]
            gone = facts["blocks"]["target"] - facts["blocks"]["draft"]
            tried.setdefault(gone, []).append(row["name"])
            if verdict(facts) == "faster":
                faster.setdefault(gone, []).append(f"{row['name']} at {point['name']}")
    most = max(tried, default=0)
    if not faster:
        return f"No draft made decoding faster; the deepest lack {counted(most, 'block')}."
    least = min(faster)
    return (
        f"Measured, not held: drafts make decoding faster from {counted(least, 'removed block')} on "
        f"({', '.join(faster[least])})."
    )
