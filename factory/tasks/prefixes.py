"""Reads token sequences piece by piece, so that what several begin with is computed once.

Under runner.py: a `State` is what a model has read so far (a batch of sequences as key-value cache), and
`Reader.extend` continues some of its rows, each as often as wanted, by further tokens of any lengths.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

_ROOM = 64  # columns a cache layer keeps free, so that most tokens need no copy of all before them


@dataclass(frozen=True)
class State:
    """Sequences read so far.

    Attributes:
        cache: keys and values, a column a token.
        mask: (rows, columns), 1 where a column is no padding.
        lengths: (rows,) tokens without padding.
    """

    cache: Any
    mask: torch.Tensor
    lengths: torch.Tensor

    def select(self, rows: torch.Tensor) -> State:
        """Some of its rows, in any order and number; this state stays as it is."""
        # A cache layer replaces its tensors and never writes into them, so a shallow copy is enough.
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(rows)
        return State(cache, self.mask[rows], self.lengths[rows])


class _RoomyLayer(DynamicLayer):
    """A cache layer that grows in place; transformers' own copies all keys and values for every token."""

    _room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.keys is None or self.values is None:
            return super().update(key_states, value_states, *args, **kwargs)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._room is None or after > self._room[0].shape[-2]:
            self._room = (_with_room(self.keys, after), _with_room(self.values, after))
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., before:after, :] = new
        self.keys, self.values = (room[..., :after, :] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None  # the selected rows are copies, the room is that of the rows before


def _with_room(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    """A copy of (rows, heads, columns, size) that has room for more columns."""
    shape = (*tensor.shape[:-2], columns + _ROOM, tensor.shape[-1])
    roomy = tensor.new_empty(shape)
    roomy[..., : tensor.shape[-2], :] = tensor
    return roomy


class Reader:
    """A causal model that reads sequences piece by piece.

    Args:
        model: in evaluation mode, on its device.
        padding: a token to fill up rows with; it is masked.
    """

    def __init__(self, model: PreTrainedModel, padding: int) -> None:
        self.model, self.padding = model, padding
        self._few_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        text_config = model.config.get_text_config(decoder=True)
        # A sliding window counts columns, and padding between two pieces of a sequence would count too.
        self.pads_inside = not getattr(text_config, "sliding_window", None)

    def extend(
        self,
        rows: Sequence[Sequence[int]],
        state: State | None = None,
        *,
        side: Literal["left", "right"] = "left",
        every_logit: bool = False,
    ) -> tuple[torch.Tensor, State]:
        """Row `i` of `state` (nothing, without one) read on by `rows[i]`, which must not be empty.

        Args:
            rows: tokens of each row; shorter ones are padded.
            state: what was read before, with as many rows; it is used up.
            side: where the padding goes. After "right" the state must not be extended further if the
                model has a sliding window.
            every_logit: return the logits of every new column and not of the last one only.

        Returns:
            Logits (rows, columns or 1, vocabulary) and the new state.
        """
        device = self.model.device
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.padding)
        new_mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[i, place], new_mask[i, place] = torch.as_tensor(row), 1
        ids, new_mask = ids.to(device), new_mask.to(device)
        steps = (new_mask.cumsum(1) - 1).clamp(min=0)
        if state is None:
            mask, positions, lengths = new_mask, steps, new_mask.sum(1)
            cache = DynamicCache(config=self.model.config)
            cache.layers = [_RoomyLayer() if type(one) is DynamicLayer else one for one in cache.layers]
        else:
            mask = torch.cat([state.mask, new_mask], dim=1)
            positions, lengths = state.lengths[:, None] + steps, state.lengths + new_mask.sum(1)
            cache = state.cache
        some = {"logits_to_keep": 1} if self._few_logits and not every_logit else {}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **some,
        )
        return out.logits, State(out.past_key_values, mask, lengths)


def common_prefix(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many leading tokens all sequences share."""
    low, high = min(sequences), max(sequences)  # what these two share, all between them share
    shortest = min(map(len, sequences))
    return next((i for i in range(shortest) if low[i] != high[i]), shortest)
