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


def measured(found: Mapping[str, float], rounds: int) -> str:
    """A measured speed-up with its least and most; of a single round, which has none, the figure alone."""
    return times(found) if rounds > 1 else f"{TIMES} {found['value']:.2f}"


def verdict(facts: Facts) -> str:
    """What the measurement allows to say."""
    found = facts["measured"]["speed_up"]
    if round(found["high"], 2) < 1:
        return "slower"
    return "faster" if round(found["low"], 2) > 1 else "neither faster nor slower"


def acceptance(facts: Facts) -> str:
    """How much of what the draft proposes is accepted, greedily and sampled, as a clause."""
    greedy, sampled = (facts[mode][ALL]["rate"]["value"] for mode in ("greedy", "sampled"))
    seen = all(one["trained"] for one in facts["sets"].values())
    return (
        f"{100 * greedy:.0f} % of its tokens are accepted in greedy decoding, {100 * sampled:.0f} % at "
        f"temperature {facts['temperature']:g}{', on prompts that training read' if seen else ''}"
    )


def speed(facts: Facts) -> str:
    """How fast the target decodes with the draft, in a clause that begins with `it`."""
    found = facts["measured"]
    k, rounds = found["k"], found["rounds"]
    made = "makes" if rounds > 1 else "made"  # of one round nobody knows how it varies
    once = "" if rounds > 1 else " in the one round that was timed"
    tried = [row["k"] for row in found["by_k"]]
    which = f", the fastest of {', '.join(map(str, tried[:-1]))} and {tried[-1]}" if len(tried) > 1 else ""
    return (
        f"it {made} decoding {verdict(facts)}{once}: {measured(found['speed_up'], rounds)} with "
        f"{counted(k, 'proposed token')} a step{which}, on {counted(found['prompts'], 'prompt')}, of which "
        f"{TIMES} {found['expected']:.2f} was to be expected; over all texts {TIMES} "
        f"{_at(facts['expected'], k):.2f}, {TIMES} {_at(facts['forward'], k):.2f} if forward passes were all "
        "that it takes"
    )


def by_set(facts: Facts) -> str:
    """The measured speed-up on each set of prompts, as a sentence; empty where there is one set."""
    found = facts["measured"]
    if len(found["by_set"]) < 2:
        return ""
    told = (
        f"{name} {measured(row['speed_up'], found['rounds'])} (K = {row['k']})"
        for name, row in found["by_set"].items()
    )
    return f"By prompts, each with the K that was its fastest: {'; '.join(told)}."


def _at(by_mode: Mapping[str, Any], k: int) -> float:
    return float(next(row["value"] for row in by_mode["greedy"] if row["k"] == k))


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
    alike = _alike(drafts)
    row = max(alike, key=lambda row: row["facts"]["greedy"][ALL]["rate"]["value"])
    facts = row["facts"]
    whose = "the base" if facts["target"] == "base" else facts["target"]
    if len(alike) > 1:  # which of them is the fastest is noise; how often they are accepted is not
        least = "least slow" if all(verdict(one["facts"]) == "slower" for one in alike) else "fastest"
        them = f"{len(alike)} drafts" if len(alike) == len(drafts) else f"the {len(alike)} {least} drafts"
        why = "whose measured speeds overlap"
        if any(one["facts"]["measured"]["rounds"] == 1 for one in alike):
            why = "timed too seldom to be told apart in speed"
        which = f"Of {them} of {whose}, {why}, {row['name']} is accepted most"
    elif len(drafts) > 1:
        which = f"The {FASTEST[verdict(facts)]} draft of {whose} is {row['name']}"
    else:
        which = f"{row['name']} as a draft of {whose}"
    busy = disturbed(drafts)
    return [f"{which}: {acceptance(facts)}, and {speed(facts)}.{f' {busy}' if busy else ''}"]


def _alike(drafts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The fastest drafts that their rounds do not tell apart."""
    if any(row["facts"]["measured"]["rounds"] == 1 for row in drafts):
        return list(drafts)
    best = max((row["facts"]["measured"]["speed_up"] for row in drafts), key=lambda found: found["value"])
    return [row for row in drafts if row["facts"]["measured"]["speed_up"]["high"] >= best["low"]]


def pays(facts: Facts) -> str:
    """From how many removed blocks drafting would pay, and what that rests on, in sentences."""
    found = facts["pays"]
    if found["per_block"] is None or found["per_block"] <= 0:
        return f"From how many removed blocks it would pay is not known: {found['why']}."
    gone = facts["blocks"]["target"] - facts["blocks"]["draft"]
    of = f"of {found['of']}; here {gone} {'is' if gone == 1 else 'are'} gone"
    if found["removed"] is None:
        said = f"At this acceptance no number of removed blocks would make it pay ({of})"
    elif found["removed"] > gone:
        said = f"It would pay from {found['removed']} removed blocks on ({of})"
    elif verdict(facts) == "faster":
        said = f"It pays from {found['removed']} removed blocks on ({of})"
    else:
        said = (
            f"By its costs it should pay from {found['removed']} removed blocks on ({of}), which the "
            "measurement does not show"
        )
    if found["forward"] not in (None, found["removed"]):
        said += f"; if forward passes were all that it takes, from {found['forward']} on"
    each, besides, token, step = (
        f"{1000 * max(0.0, found[name]):.2g} ms" for name in ("per_block", "besides", "a_token", "a_step")
    )
    return (
        f"{said}.{_apart(found.get('each', ()))} A forward pass takes {each} a block and {besides} besides; "
        f"generation adds about {token} a token, reading the prompt included, and {step} a step of drafting."
    )


def _apart(each: Sequence[int | None]) -> str:
    """What the timings of drafts of one shape say one by one, where there are several."""
    if len(each) < 2:
        return ""
    counts = sorted(one for one in each if one is not None)
    if not counts:
        said = "that no number would"
    elif len(counts) < len(each):
        said = f"from {counts[0]} on, or that no number would"
    else:
        said = "from " + " to ".join(dict.fromkeys([str(counts[0]), str(counts[-1])])) + " on"
    return f" These are the timings of {len(each)} drafts of this shape together; one by one they say {said}."


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
