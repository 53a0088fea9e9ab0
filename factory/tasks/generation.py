"""Greedy continuations of several prompts at once, each row ended by itself.

Between prefixes.py and runner.py. Prompts that begin alike are read on from what they share; a row leaves
the batch soon after its stop. A model whose cache cannot be shared generates by its own `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from factory.tasks.prefixes import Reader, Tokens
from factory.tasks.states import State

_KEEP_IN_BATCH = 0.75  # finished rows are dropped when at most this share is still running

Ended = Callable[[int, list[int]], bool]
"""Whether a row is over, from its number and all tokens it has made."""


class NoNumberError(ArithmeticError):
    """Logits of one row hold NaN or infinity.

    Args:
        row: which.
    """

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"row {row}")


@torch.inference_mode()
def greedy(
    reader: Reader, prompts: Sequence[Tokens], ended: Ended, root: State | None = None
) -> list[list[int]]:
    """Greedy tokens for each prompt, up to and including the one that ended it.

    Args:
        reader: without an obstacle.
        prompts: what is left to read after the root.
        ended: asked after every token.
        root: what all prompts begin with, one row.

    Raises:
        NoNumberError: a row's best logit is none.
    """
    made: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    finished: set[int] = set()
    before = root.select([0] * len(prompts), max(map(len, prompts))) if root else None
    logits, state = reader.read(prompts, before, judged=[1] * len(prompts))
    while True:
        best, chosen = logits.max(-1)
        tokens, finite = chosen.tolist(), best.isfinite().tolist()
        for row, p in enumerate(running):
            if p not in finished:
                if not finite[row]:
                    raise NoNumberError(p)
                made[p].append(tokens[row])
                if ended(p, made[p]):
                    finished.add(p)
        if len(finished) == len(prompts):
            return made
        going = [row for row, p in enumerate(running) if p not in finished]
        if len(going) <= _KEEP_IN_BATCH * len(running):
            state = state.select(going)
            running, chosen = [running[row] for row in going], chosen[going]
        logits, state = reader.step(chosen, state)


@torch.inference_mode()
def by_the_model(reader: Reader, prompts: Sequence[Tokens], ended: Ended, longest: int) -> list[list[int]]:
    """The same by the model's own `generate`, for prompts of one length.

    Args:
        reader: its model.
        prompts: of one length each, so that nothing is padded.
        ended: asked after every token.
        longest: tokens at most.

    Raises:
        NoNumberError: a row's logits hold NaN or infinity.
    """
    length = len(prompts[0])
    made: list[list[int]] = [[] for _ in prompts]
    over = [False] * len(prompts)

    class Stop(StoppingCriteria):
        def __call__(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
            for row, tokens in enumerate(ids[:, length:].tolist()):
                if not over[row]:
                    made[row] = tokens
                    over[row] = ended(row, tokens)
            return torch.tensor(over, device=ids.device)

    class Finite(LogitsProcessor):
        def __call__(self, ids: Any, scores: Any) -> Any:
            for row, good in enumerate(scores.max(-1).values.isfinite().tolist()):
                if not good and not over[row]:
                    raise NoNumberError(row)
            return scores

    model: Any = reader.model
    model.generate(
        torch.tensor([prompt.tolist() for prompt in prompts], device=model.device),
        attention_mask=torch.ones((len(prompts), length), dtype=torch.long, device=model.device),
        max_new_tokens=longest,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        pad_token_id=reader.padding,
        stopping_criteria=StoppingCriteriaList([Stop()]),
        logits_processor=LogitsProcessorList([Finite()]),
    )
    return made
