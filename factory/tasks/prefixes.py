"""Reads token sequences piece by piece, so that what several begin with is computed once.

Under judging.py and generation.py: a `State` is what a model has read so far (a batch of sequences as
key-value cache), and `Reader.read` continues its rows by further tokens of any lengths and gives the
logits that are asked for and no others. Whether a model's cache can be shared at all is tried out on a few
tokens when a `Reader` is made; where it cannot, `Reader.obstacle` says why and sequences are read whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from factory.tasks.states import ROOM, RoomyLayer, State

# Outputs of the shared and the plain way differ by rounding; a model that counts its positions otherwise
# is off by a large part of its output. Relative distances.
_SAME = {torch.float32: 1e-3, torch.float64: 1e-3}
_SAME_IN_HALF = 0.05
_TRIED = 32  # columns: more than are needed to try a model out

Tokens = np.ndarray[Any, np.dtype[np.int32]]


class Reader:
    """A causal model that reads sequences piece by piece.

    Args:
        model: in evaluation mode, on its device.
        padding: a token to fill up rows with; no other token sees it.

    Attributes:
        obstacle: why this model's cache cannot be shared; None where it can.
        pads_inside: whether padding may stand between two pieces of a sequence; see `expect`.
        fans: whether several continuations of a row can be read in one pass; see `expect`.
        bytes_a_token: what a token takes in the cache; 0 with an obstacle.
        looks_ahead: whether outputs change with what comes behind them, as an encoder's do.
    """

    def __init__(self, model: PreTrainedModel, padding: int) -> None:
        self.model, self.padding = model, padding
        self.bytes_a_token = 0
        self.pads_inside = self.fans = False
        self._window: int | None = None
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.looks_ahead = self._looks_ahead()
        self.obstacle: str | None = None
        self.obstacle = self._kind_of_cache() or self._try_out()
        self._can = (self.pads_inside, self.fans)
        self.expect(None)

    def expect(self, columns: int | None) -> None:
        """Tells how many columns, padding included, any row will have until this is called again.

        A sliding window counts columns: padding inside a sequence, or continuations side by side, would
        push what they follow out of it. Nothing is pushed out of a window as wide as all columns.

        Args:
            columns: at most; None if that is not known.
        """
        wide = self._window is None or (columns is not None and columns < self._window)
        self.pads_inside, self.fans = self._can if wide else (False, False)

    def read(
        self,
        rows: Sequence[Tokens],
        state: State | None = None,
        *,
        judged: Sequence[int] | None = None,
        room: int = ROOM,
    ) -> tuple[torch.Tensor, State]:
        """Row `i` of `state` (nothing, without one) read on by `rows[i]`, which must not be empty.

        Args:
            rows: tokens of each row; shorter ones are padded.
            state: what was read before, with as many rows; it is used up.
            judged: how many outputs of each row's end are wanted; none without it.
            room: columns that will be read after this, as far as that is known.

        Returns:
            Logits (sum of `judged`, vocabulary), row by row, and the new state.
        """
        cache = state.cache if state is not None else self._new_cache(room)
        return self._pass(rows, state, cache, judged or [0] * len(rows), last=False)

    def end(self, rows: Sequence[Tokens], state: State | None, judged: Sequence[int]) -> torch.Tensor:
        """The logits of `read`, where nothing will be read after `rows`."""
        return self._pass(rows, state, state.cache if state is not None else None, judged, last=True)[0]

    @torch.inference_mode()
    def _pass(
        self, rows: Sequence[Tokens], state: State | None, cache: Any, judged: Sequence[int], *, last: bool
    ) -> tuple[torch.Tensor, State]:
        device, lengths = self.model.device, [len(row) for row in rows]
        width = max(lengths)
        # A sliding window counts columns, so there the padding must not come between two pieces.
        right = last or self.pads_inside
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        real = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            place = slice(0, len(row)) if right else slice(width - len(row), width)
            ids[i, place], real[i, place] = row, 1
        steps = np.arange(width)[None].repeat(len(rows), 0)
        if not right:
            steps = np.maximum(steps - (width - np.array(lengths))[:, None], 0)
        elif state is not None:  # padding at the end must not run beyond the model's positions
            steps = np.minimum(steps, np.array(lengths)[:, None] - 1)
        padded = min(lengths) < width
        new_mask, positions = torch.from_numpy(real).to(device), torch.from_numpy(steps).to(device)
        mask, after, was_padded = new_mask, new_mask.sum(1), False
        if state is not None:
            positions = positions + state.lengths[:, None]
            mask, after = torch.cat([state.mask, new_mask], dim=1), after + state.lengths
            was_padded = state.padded
        # Behind the last real token padding is unseen anyway; without a mask attention takes its fast way.
        unseen = right and (last or state is None)
        some: dict[str, Any] = {"use_cache": False}
        if cache is not None:
            some = {"use_cache": True, "past_key_values": cache}
        if was_padded or (padded and not unseen):
            some["attention_mask"] = mask
        if self._takes_positions and (state is not None or not right):
            some["position_ids"] = positions
        ends = [length if right else width for length in lengths]
        picked = [(i, c) for i, n in enumerate(judged) for c in range(ends[i] - n, ends[i])]
        where = torch.tensor(picked or [(0, 0)], device=device).T
        with self._only(where) as logits_of:
            logits = logits_of(self.model(input_ids=torch.from_numpy(ids).to(device), **some))
        return logits[: len(picked)], State(cache, mask, after, padded or was_padded)

    @torch.inference_mode()
    def fan(
        self, rows: Sequence[Sequence[Tokens]], state: State, judged: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """The logits of `end` for several continuations of each row, read side by side; needs `fans`.

        Args:
            rows: the continuations of each row, which do not see each other.
            state: what was read before, with as many rows; it is used up.
            judged: how many outputs of each continuation's end are wanted.

        Returns:
            Logits (sum of `judged`, vocabulary), row by row, continuation by continuation.
        """
        device, width = self.model.device, max(sum(map(len, row)) for row in rows)
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        steps, owner = np.zeros_like(ids), np.full_like(ids, -1)
        picked: list[tuple[int, int]] = []
        for i, row in enumerate(rows):
            end = 0
            for number, (tokens, wanted) in enumerate(zip(row, judged[i], strict=True)):
                place = slice(end, end := end + len(tokens))
                ids[i, place], steps[i, place], owner[i, place] = tokens, np.arange(len(tokens)), number
                picked += [(i, column) for column in range(end - wanted, end)]
        same = owner[:, :, None] == owner[:, None, :]
        own = torch.from_numpy(same & np.tri(width, dtype=bool)).to(device)
        seen = torch.cat([state.mask.bool()[:, None].expand(-1, width, -1), own], dim=2)
        # Added to the scores, as every kind of attention that takes a mask of its own can have it.
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=device)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
        with self._only(torch.tensor(picked, device=device).T) as logits_of:
            return logits_of(
                self.model(
                    input_ids=torch.from_numpy(ids).to(device),
                    attention_mask=mask[:, None],
                    position_ids=state.lengths[:, None] + torch.from_numpy(steps).to(device),
                    past_key_values=state.cache,
                    use_cache=True,
                )
            )

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Every row of `state` read on by one token: logits (rows, vocabulary) and the new state.

        Args:
            tokens: (rows,), on the model's device.
            state: what was read before; it is used up.
        """
        mask = torch.cat([state.mask, torch.ones_like(state.mask[:, :1])], dim=1)
        some: dict[str, Any] = {"attention_mask": mask} if state.padded else {}
        if self._takes_positions:
            some["position_ids"] = state.lengths[:, None]
        out = self.model(input_ids=tokens[:, None], past_key_values=state.cache, use_cache=True, **some)
        return out.logits[:, -1], State(state.cache, mask, state.lengths + 1, state.padded)

    @contextmanager
    def _only(self, where: torch.Tensor) -> Iterator[Callable[[Any], torch.Tensor]]:
        """Lets the model compute the logits of some (row, column) pairs only, (2, pairs).

        `logits_to_keep` takes the same columns of every row; here the head itself is given fewer
        outputs, which also leaves the model's own scaling and capping of logits in force.
        """
        rows, columns = where
        was_picked = False

        def pick(head: torch.nn.Module, inputs: tuple[Any, ...]) -> Any:
            nonlocal was_picked
            if not inputs or inputs[0].dim() != 3:
                return None
            was_picked = True
            return (inputs[0][rows, columns][None], *inputs[1:])

        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(pick) if head is not None else None
        try:
            yield lambda out: out.logits[0] if was_picked else out.logits[rows, columns]
        finally:
            if hook is not None:
                hook.remove()

    def _new_cache(self, room: int) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        cache.layers = [RoomyLayer(room) if type(one) is DynamicLayer else one for one in cache.layers]
        return cache

    def _kind_of_cache(self) -> str | None:
        """What is known to be in the way before anything is read."""
        if "past_key_values" not in inspect.signature(self.model.forward).parameters:
            return "it has no key-value cache"
        try:
            layers = DynamicCache(config=self.model.config).layers
        except (AttributeError, KeyError, TypeError, ValueError):
            return "its cache is of an unknown kind"
        kinds = {type(layer) for layer in layers} - {DynamicLayer, DynamicSlidingWindowLayer, DummyLayer}
        if kinds:
            return f"its cache holds {', '.join(sorted(kind.__name__ for kind in kinds))}"
        config = self.model.config.get_text_config(decoder=True)
        kept = getattr(config, "layer_types", None) or ()
        if "chunked_attention" in kept or getattr(config, "attention_chunk_size", None):
            return "it attends in chunks, which count padding"
        windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
        self._window = min(windows, default=None)
        self.pads_inside = self._window is None or self._window > _TRIED
        return None

    def _looks_ahead(self) -> bool:
        """Reads the same tokens before two different ones."""
        size = self.model.config.get_text_config(decoder=True).vocab_size
        start = (np.arange(_TRIED // 2, dtype=np.int32) * 7 + 5) % size
        before, behind = len(start), [np.array([token % size], dtype=np.int32) for token in (3, size - 4)]
        rows = [np.concatenate([start, token]) for token in behind]
        one, other = self.end(rows, None, [before + 1] * 2).split(before + 1)
        return not self._agrees(one[:before], lambda: other[:before])

    def _try_out(self) -> str | None:
        """Reads a few tokens both ways; finds out `pads_inside`, `fans` and `bytes_a_token`."""
        size = self.model.config.get_text_config(decoder=True).vocab_size
        start, *parts = (
            (np.arange(length, dtype=np.int32) * 7 + 5 * length) % size for length in (4, 9, 5, 3, 2, 1, 4)
        )
        heads, tails = parts[:2], [[parts[2], parts[4]], [parts[3], parts[5]]]  # two of each head
        judged = [[len(tail) for tail in row] for row in tails]
        wholes = [np.concatenate([start, heads[i], tail]) for i in (0, 1) for tail in tails[i]]
        expected = self.end(wholes, None, [one for row in judged for one in row])
        if self.pads_inside:
            self.pads_inside = self._agrees(expected, lambda: self._turns(self._after(start, heads), tails))
            self.fans = self.pads_inside and self._agrees(
                expected, lambda: self.fan(tails, self._after(start, heads), judged)
            )
        if not self.pads_inside and not self._agrees(
            expected, lambda: self._turns(self._after(start, heads), tails)
        ):
            self.bytes_a_token = 0
            return "what it reads in pieces differs from what it reads whole"
        return None

    def _agrees(self, expected: torch.Tensor, read: Callable[[], torch.Tensor]) -> bool:
        try:
            found = read()
        except (
            AttributeError,
            IndexError,
            KeyError,
            NotImplementedError,
            TypeError,
            ValueError,
            RuntimeError,
        ):
            return False  # a model may refuse what it cannot do in any of these ways
        far = (found.double() - expected.double()).norm(dim=-1) / expected.double().norm(dim=-1)
        # Numbers that are none are found and named when real rows are read.
        return not bool(far.median() > _SAME.get(found.dtype, _SAME_IN_HALF))

    def _after(self, start: Tokens, heads: Sequence[Tokens]) -> State:
        """Both heads after the same start."""
        if self.pads_inside:
            state = self.read(heads, self.read([start], room=_TRIED)[1].select([0, 0], _TRIED))[1]
        else:
            state = self.read([np.concatenate([start, head]) for head in heads])[1]
        self.bytes_a_token = -(-state.nbytes // state.mask.numel())
        return state

    def _turns(self, state: State, tails: Sequence[Sequence[Tokens]]) -> torch.Tensor:
        """Logits of every tail, one of each row in turn."""
        read = [
            self.end(turn, state.fork(2), [*map(len, turn)]).split([*map(len, turn)])
            for turn in zip(*tails, strict=True)
        ]
        return torch.cat([read[turn][row] for row in (0, 1) for turn in (0, 1)])


def common_prefix(sequences: Sequence[Tokens]) -> int:
    """How many leading tokens all sequences share."""
    shortest = min(map(len, sequences))
    for other in sequences[1:]:
        differs = np.flatnonzero(sequences[0][:shortest] != other[:shortest])
        shortest = int(differs[0]) if len(differs) else shortest
    return shortest
