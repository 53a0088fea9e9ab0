"""What a model has read so far: a batch of sequences as key-value cache, to be read on in several ways.

Under prefixes.py. Rows can be forked, repeated and dropped; a cache layer grows in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 64  # columns by which a cache layer grows, so that most tokens need no copy of all before them


@dataclass(frozen=True)
class State:
    """Sequences read so far.

    Attributes:
        cache: keys and values, a column a token.
        mask: (rows, columns), 1 where a column is no padding.
        lengths: (rows,) tokens without padding.
        padded: whether any column of any row is padding.
    """

    cache: Any
    mask: torch.Tensor
    lengths: torch.Tensor
    padded: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its keys and values."""
        held = (tensor for layer in self.cache.layers for tensor in (layer.keys, layer.values))
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def fork(self, rows: int) -> State:
        """Its first rows, to be read on while this state stays as it is.

        Nothing is copied: a fork writes behind the columns of this state, where the next fork writes
        over it. So only the fork made last can be read on.
        """
        cache = self._changed(lambda layer: _first(layer, rows))
        return State(cache, self.mask[:rows], self.lengths[:rows], self.padded)

    def select(self, rows: Sequence[int], room: int = ROOM) -> State:
        """Copies of some rows, in any order and number, with room for more columns."""
        index = torch.tensor(rows, device=self.lengths.device)
        cache = self._changed(lambda layer: _selected(layer, index, room))
        return State(cache, self.mask[index], self.lengths[index], self.padded)

    def _changed(self, change: Callable[[Any], Any]) -> Any:
        cache = copy.copy(self.cache)
        cache.layers = [change(layer) for layer in self.cache.layers]
        return cache


class RoomyLayer(DynamicLayer):
    """A cache layer that grows in place; transformers' own copies all keys and values for every token."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.store: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes behind what is there; all keys and values, (rows, heads, columns, size) each."""
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self.store is None:
            self.lazy_initialization(key_states, value_states)
            self.store = (_roomy(key_states, after + self.room), _roomy(value_states, after + self.room))
        elif after > self.store[0].shape[-2]:
            grown = tuple(_roomy(store, after + ROOM) for store in self.store)
            for store, old in zip(grown, self.store, strict=True):
                store[..., :before, :] = old[..., :before, :]
            self.store = (grown[0], grown[1])
        for store, new in zip(self.store, (key_states, value_states), strict=True):
            store[..., before:after, :] = new
        self.keys, self.values = (store[..., :after, :] for store in self.store)
        return self.keys, self.values


def _roomy(like: torch.Tensor, columns: int, rows: int | None = None) -> torch.Tensor:
    """An empty (rows, heads, columns, size)."""
    return like.new_empty((rows or like.shape[0], like.shape[1], columns, like.shape[-1]))


def _first(layer: Any, rows: int) -> Any:
    # A layer replaces its tensors or writes behind them, so a shallow copy is enough.
    made = copy.copy(layer)
    if made.keys is not None:
        made.keys, made.values = made.keys[:rows], made.values[:rows]
        if isinstance(made, RoomyLayer) and made.store:
            made.store = (made.store[0][:rows], made.store[1][:rows])
    return made


def _selected(layer: Any, index: torch.Tensor, room: int) -> Any:
    made = copy.copy(layer)
    if made.keys is None:
        return made
    if not isinstance(made, RoomyLayer):
        made.keys, made.values = made.keys[index], made.values[index]
        return made
    columns = made.keys.shape[-2]
    stores = [_roomy(tensor, columns + room, len(index)) for tensor in (layer.keys, layer.values)]
    for store, tensor in zip(stores, (layer.keys, layer.values), strict=True):
        # One row is spread without a copy of its own.
        store[..., :columns, :] = tensor if len(tensor) == 1 else tensor[index]
    made.store = (stores[0], stores[1])
    made.keys, made.values = (store[..., :columns, :] for store in stores)
    return made
