"""How fast a target decodes with a draft: under draft.py. Timed here, expected by drafts/speculative.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.drafts.speculative import MOST, step_list
from factory.stages import Progress
from factory.texts import text as files
from factory.texts.measures import proposed, tie
from factory.texts.reader import Reader
from factory.texts.text import Text

if TYPE_CHECKING:
    from factory.drafts.assisted import Decoder
    from factory.stages.draft import Set, Settings


def texts(sets: Sequence[Set], inputs: Mapping[str, Path], count: int) -> list[Text]:
    """The first so many greedy texts, of all sets in turn."""
    left: list[Iterator[Text]] = [
        (text for piece in files.read(inputs[f"responses.{one.name}"], "greedy") for text in piece)
        for one in sets
    ]
    found: list[Text] = []
    while left and len(found) < count:
        for one in list(left):
            if (text := next(one, None)) is None:
                left.remove(one)
            elif len(found) < count:
                found.append(text)
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


def measure(
    decoder: Decoder, draft: Any, some: Sequence[Text], k: int, settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Plain and assisted decoding of the same prompts in turns; see `measured` in draft.py.

    Args:
        decoder: of target and draft.
        draft: reads the texts once more, for their steps.
        some: texts that the target wrote greedily.
        k: proposed tokens a step.
        settings: of the step.
        progress: told the prompts decoded.
    """
    decoder.plain(some[0].prompt, 2)  # what is loaded at the first call is no part of it
    decoder.assisted(some[0].prompt, 4, k)
    reader = Reader(proposed(tie(draft)), draft, where="draft")
    speeds: list[tuple[float, float]] = []
    same_text = same_steps = tokens = 0
    per_token: list[float] = []
    per_step: list[float] = []
    for number in range(settings.rounds):
        spent = {True: 0.0, False: 0.0}
        made = {True: 0, False: 0}
        steps = 0
        for i, text in enumerate(some):
            progress(number * len(some) + i, settings.rounds * len(some), "decoded", f"K = {k}")
            # Of a text that the model's positions ended, the limit is its own length.
            longest = settings.max_new_tokens if text.finish == "stop" else len(text.response)
            for helped in (True, False) if (number + i) % 2 else (False, True):  # neither always comes first
                if helped:
                    done = decoder.assisted(text.prompt, longest, k)
                else:
                    done = decoder.plain(text.prompt, longest)
                spent[helped] += done.seconds
                made[helped] += len(done.tokens)
                steps += len(done.steps)
                if helped and number == 0 and done.tokens == text.response:
                    ((_, read),) = reader.read([text])
                    same_text += 1
                    same_steps += done.steps == step_list((read["accept"] > 0.5).tolist(), k)
        tokens = made[False]
        speeds.append((made[False] / spent[False], made[True] / spent[True]))
        per_token.append(spent[False] / made[False])
        per_step.append(spent[True] / steps)
    ratios = [helped / plain for plain, helped in speeds]
    return {
        "k": k,
        "prompts": len(some),
        "rounds": settings.rounds,
        "tokens": tokens,
        "plain": statistics.median(plain for plain, _ in speeds),
        "assisted": statistics.median(helped for _, helped in speeds),
        "speed_up": {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "token": statistics.median(per_token),
        "step": statistics.median(per_step),
        "same_text": same_text,
        "same_steps": same_steps,
    }
