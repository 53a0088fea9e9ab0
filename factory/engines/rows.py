"""Rows in work with their keys and values: what the `transformers` engine keeps between two steps.

Beside transformers.py, which reads prompts and takes steps. A batch is left-padded to one width; rows are
taken out when they have finished, and others join.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from factory.engines import Request

REFILL = 0.25
"""Share of free slots at which waiting prompts join: each join copies the cache once."""


@dataclass
class Row:
    """A request in work: what it may still generate and what it has."""

    request: Request
    prompt: list[int]
    room: int
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: Literal["stop", "length"] | None = None
    told: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.request.seed)

    def take(self, token: int, logprob: float, stops: frozenset[int]) -> None:
        """Adds a token."""
        self.tokens.append(token)
        self.logprob += logprob
        if token in stops:
            self.finish = "stop"
        elif len(self.tokens) == self.room:
            self.finish = "length"


class _Room(DynamicLayer):
    """A block's keys and values, (rows, heads, width, size), held with room ahead.

    `DynamicLayer` copies all of them for every new token, which for small models is a third of the work.
    """

    AHEAD = 64
    held: tuple[Any, Any]

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Appends new positions; returns all keys and values, as the base class does."""
        width = self.get_seq_length()
        end = width + key_states.shape[-2]
        if width == 0:
            self.lazy_initialization(key_states, value_states)
            self.held = (key_states, value_states)
        elif end > self.held[0].shape[-2]:
            self.held = self._grown(self.keys, key_states), self._grown(self.values, value_states)
        else:
            self.held[0][:, :, width:end], self.held[1][:, :, width:end] = key_states, value_states
        self.keys, self.values = (held[:, :, :end] for held in self.held)
        return self.keys, self.values

    def _grown(self, old: Any, new: Any) -> Any:
        return pad(torch.cat([old, new], -2), (0, 0, 0, self.AHEAD))


def new_cache(pairs: list[tuple[torch.Tensor, torch.Tensor]] | None = None) -> Cache:
    """A cache for a forward pass, empty or holding the keys and values of each block."""
    cache = Cache(layer_class_to_replicate=_Room)
    for i, (keys, values) in enumerate(pairs or []):
        cache.update(keys, values, i)
    return cache


@dataclass
class Batch:
    """Rows in work with their keys and values, left-padded to one width.

    Attributes:
        cache: per layer keys and values, (rows, heads, width, head size).
        mask: (rows, width), 1 where a row has a token.
    """

    rows: list[Row]
    cache: Cache
    mask: torch.Tensor

    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each block."""
        layers: list[Any] = self.cache.layers
        return [(layer.keys, layer.values) for layer in layers]

    def without_finished(self) -> Batch | None:
        """The rows still in work, once enough have finished to be worth a copy; None where none is left."""
        live = [i for i, row in enumerate(self.rows) if not row.finish]
        if not live:
            return None
        if len(self.rows) - len(live) < REFILL * len(self.rows):
            return self
        index = torch.tensor(live, device=self.mask.device)
        mask = self.mask[index]
        width = int(mask.sum(1).max())
        pairs = [(keys[index, :, -width:], values[index, :, -width:]) for keys, values in self.pairs()]
        return Batch([self.rows[i] for i in live], new_cache(pairs), mask[:, -width:])

    def joined(self, other: Batch) -> Batch:
        """Both batches as one, the narrower padded on the left."""
        width = max(self.mask.shape[1], other.mask.shape[1])

        def both(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
            """Two tensors (rows, heads, width, size), one below the other."""
            return torch.cat([pad(t, (0, 0, width - t.shape[2], 0)) for t in (mine, theirs)])

        pairs = [
            (both(mine[0], theirs[0]), both(mine[1], theirs[1]))
            for mine, theirs in zip(self.pairs(), other.pairs(), strict=True)
        ]
        mask = torch.cat([pad(m, (width - m.shape[1], 0)) for m in (self.mask, other.mask)])
        return Batch([*self.rows, *other.rows], new_cache(pairs), mask)
