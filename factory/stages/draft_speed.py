"""How fast a target decodes with a draft: under draft.py. Timed here, expected by drafts/speculative.py."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.drafts.speculative import MOST, step_list
from factory.stages import Progress
from factory.texts import text as files
from factory.texts.measures import proposed, tie
from factory.texts.reader import Reader
from factory.texts.text import Text

if TYPE_CHECKING:
    from factory.drafts.assisted import Decoded, Decoder
    from factory.drafts.speculative import Latency
    from factory.stages.draft import Set, Settings


def texts(sets: Sequence[Set], inputs: Mapping[str, Path], count: int) -> list[tuple[str, Text]]:
    """The first so many greedy texts, of all sets in turn, each behind its set's name."""
    left: list[tuple[str, Iterator[Text]]] = [
        (
            one.name,
            (text for piece in files.read(inputs[f"responses.{one.name}"], "greedy") for text in piece),
        )
        for one in sets
    ]
    found: list[tuple[str, Text]] = []
    while left and len(found) < count:
        for name, one in list(left):
            if (text := next(one, None)) is None:
                left.remove((name, one))
            elif len(found) < count:
                found.append((name, text))
    return found


def typical(some: Sequence[Text], *models: Any) -> list[int]:
    """Prompt and half of the response of the text of middling length, with room for a step behind it."""
    ordered = sorted(some, key=lambda text: len(text.prompt) + len(text.response))
    text = ordered[len(ordered) // 2]
    ids = [*text.prompt, *text.response[: (len(text.response) + 1) // 2]]
    while len(ids) <= MOST:  # as many as a step reads must be there to be read again
        ids *= 2
    limits = (getattr(model.config.get_text_config(), "max_position_embeddings", None) for model in models)
    return ids[: min((limit - MOST - 1 for limit in limits if limit is not None), default=len(ids))]


@dataclass
class _Spent:
    """Seconds, tokens and steps of some decoding, added up."""

    seconds: float = 0.0
    tokens: int = 0
    steps: int = 0

    def add(self, done: Decoded) -> None:
        self.seconds += done.seconds
        self.tokens += len(done.tokens)
        self.steps += len(done.steps)


Round = dict[tuple[str, int], _Spent]  # by the set of prompts and proposed tokens a step, 0 without a draft


def measure(
    decoder: Decoder,
    draft: Any,
    some: Sequence[tuple[str, Text]],
    ks: Sequence[int],
    latency: Latency,
    settings: Settings,
    progress: Progress,
) -> dict[str, Any]:
    """Plain and assisted decoding of the same prompts in turns; see `measured` in draft.py.

    Args:
        decoder: of target and draft.
        draft: reads the texts once more, for their steps.
        some: texts that the target wrote greedily, with their sets.
        ks: numbers of proposed tokens a step.
        latency: of forward passes.
        settings: of the step.
        progress: told the prompts decoded.
    """
    decoder.plain(some[0][1].prompt, 2)  # what is loaded at the first call is no part of it
    decoder.assisted(some[0][1].prompt, 4, ks[0])
    reader = Reader(proposed(tie(draft)), draft, where="draft")
    ways = (0, *ks)
    rounds: list[Round] = []
    same_text, same_steps = Counter[int](), Counter[int]()
    for number in range(settings.rounds):
        spent: Round = {}
        for i, (name, text) in enumerate(some):
            progress(number * len(some) + i, settings.rounds * len(some), "decoded", f"K = {_listed(ks)}")
            # Of a text that the model's positions ended, the limit is its own length.
            longest = settings.max_new_tokens if text.finish == "stop" else len(text.response)
            first = (number + i) % len(ways)  # none always comes first
            for k in ways[first:] + ways[:first]:
                done = decoder.assisted(text.prompt, longest, k) if k else decoder.plain(text.prompt, longest)
                spent.setdefault((name, k), _Spent()).add(done)
                if k and number == 0 and done.tokens == text.response:
                    ((_, read),) = reader.read([text])
                    same_text[k] += 1
                    same_steps[k] += done.steps == step_list((read["accept"] > 0.5).tolist(), k)
        rounds.append(spent)
    whole = [_together(one, ways) for one in rounds]
    by_k: list[dict[str, Any]] = [
        {
            "k": k,
            "assisted": statistics.median(one[k].tokens / one[k].seconds for one in whole),
            "step": statistics.median(one[k].seconds / one[k].steps for one in whole),
            "written": whole[-1][k].tokens / whole[-1][k].steps,
            "speed_up": _speed_up([(one[0], one[k]) for one in whole]),
            "same_text": same_text[k],
            "same_steps": same_steps[k],
        }
        for k in ks
    ]
    token = statistics.median(one[0].seconds / one[0].tokens for one in whole)
    generating = latency.generating(token, {row["k"]: row["step"] for row in by_k})
    for row in by_k:
        row["expected"] = generating.speed_up(row["written"], row["k"])
    by_set = {}
    for name in dict.fromkeys(name for name, _ in some):
        tried = [
            {"k": k, "speed_up": _speed_up([(one[name, 0], one[name, k]) for one in rounds])} for k in ks
        ]
        by_set[name] = {**_fastest(tried), "prompts": sum(name == other for other, _ in some)}
    return {
        **_fastest(by_k),
        "prompts": len(some),
        "rounds": settings.rounds,
        "tokens": whole[-1][0].tokens,
        "plain": statistics.median(one[0].tokens / one[0].seconds for one in whole),
        "token": token,
        "by_k": by_k,
        "by_set": by_set,
    }


def _together(spent: Round, ways: Sequence[int]) -> dict[int, _Spent]:
    """All sets of a round."""
    found = {k: _Spent() for k in ways}
    for (_, k), one in spent.items():
        found[k].seconds += one.seconds
        found[k].tokens += one.tokens
        found[k].steps += one.steps
    return found


def _speed_up(pairs: Sequence[tuple[_Spent, _Spent]]) -> dict[str, float]:
    """Tokens a second with the draft over those without: median, least and most of the rounds."""
    ratios = [(helped.tokens / helped.seconds) / (plain.tokens / plain.seconds) for plain, helped in pairs]
    return {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def _fastest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(rows, key=lambda row: row["speed_up"]["value"])


def _listed(ks: Sequence[int]) -> str:
    return ", ".join(map(str, ks))
