"""The `transformers` engine: batched generation with stock models on one device, for regeneration.

Prompts wait in order of length. A batch is left-padded; rows leave it when they finish, and as soon as a
quarter of its slots are free the next prompts are read and join it, so no slot waits for the longest
row: where a fixed batch would decode padding, this decodes text.

On CPU models run in float32 (`models.load`), where a row gives the same tokens in any batch, but for
ties within rounding. In bfloat16, on a GPU, two tokens that are nearly as likely may change places.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from factory.engines import Generated, Request, Sampling
from factory.errors import FactoryError
from factory.models import load

REFILL = 0.25
"""Share of free slots at which waiting prompts join: each join copies the cache once."""

_BLOCKS = frozenset({"full_attention", "sliding_attention"})
"""Block types whose state is keys and values by position, which can be padded and joined."""


@dataclass
class _Row:
    """A request in work: what it may still generate and what it has."""

    request: Request
    prompt: list[int]
    room: int
    tokens: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    told: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.request.seed)

    def take(self, token: int, stops: frozenset[int]) -> None:
        self.tokens.append(token)
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


def _cache(pairs: list[tuple[torch.Tensor, torch.Tensor]] | None = None) -> Cache:
    cache = Cache(layer_class_to_replicate=_Room)
    for i, (keys, values) in enumerate(pairs or []):
        cache.update(keys, values, i)
    return cache


class TransformersEngine:
    """An `Engine` over `AutoModelForCausalLM`."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        """Loads the model.

        Args:
            folder: stock model folder with tokenizer and chat template.
            batch_size: the most rows in work at once.

        Raises:
            FactoryError: the folder cannot be loaded, has no chat template or no stop token, or its
                blocks keep another state than keys and values.
        """
        self.batch_size = batch_size
        self.tokenizer = load.tokenizer(folder)
        self.model = model = load.causal_lm(folder)
        if not self.tokenizer.chat_template:
            raise FactoryError(
                "the tokenizer has no chat template",
                where=str(folder),
                mend="Use an instruction-tuned model, or add chat_template.jinja to the folder",
            )
        config = model.config.get_text_config()
        if other := set(getattr(config, "layer_types", None) or ()) - _BLOCKS:
            raise FactoryError(
                f"the transformers engine cannot generate with blocks of type {', '.join(sorted(other))}",
                where=str(folder),
                mend="Use a model that has only attention blocks",
            )
        self.device = model.device
        self.positions: int | None = getattr(config, "max_position_embeddings", None)
        stops = model.generation_config.eos_token_id
        stops = self.tokenizer.eos_token_id if stops is None else stops
        if stops is None:
            raise FactoryError(
                "the model has no stop token",
                where=str(folder),
                mend="Give eos_token_id in generation_config.json",
            )
        self.stops = frozenset(stops if isinstance(stops, list) else [stops])

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Generated]:
        """See `factory.engines.Engine`. A prompt that leaves no room gives "" and finish "length"."""
        waiting: deque[_Row] = deque()
        for row in self._rows(requests, sampling.max_new_tokens):
            if row.room > 0:
                waiting.append(row)
            else:
                yield Generated(row.request.id, "", "length", len(row.prompt), 0)
        batch: _Batch | None = None
        while waiting or batch is not None:
            free = self.batch_size - (len(batch.rows) if batch else 0)
            if waiting and free >= REFILL * self.batch_size:
                read = self._read([waiting.popleft() for _ in range(min(free, len(waiting)))], sampling)
                batch = batch.joined(read) if batch else read
            elif batch is not None:
                self._step(batch, sampling)
            if batch is None:
                continue
            for row in batch.rows:
                if row.finish and not row.told:
                    row.told = True
                    yield self._finished(row)
            batch = batch.without_finished()

    def _rows(self, requests: Sequence[Request], max_new_tokens: int) -> list[_Row]:
        """Rendered requests, longest prompt first: memory peaks at once and not at the end."""
        rows = []
        for request in requests:
            prompt = self.tokenizer.apply_chat_template(
                list(request.messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
            room = max_new_tokens
            if self.positions is not None:
                room = min(room, self.positions - len(prompt))
            rows.append(_Row(request, list(prompt), room))
        return sorted(rows, key=lambda row: (-len(row.prompt), row.request.id))

    @torch.inference_mode()
    def _read(self, rows: list[_Row], sampling: Sampling) -> _Batch:
        """Reads prompts, all at once, and picks the first token of each."""
        width = max(len(row.prompt) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[i, width - len(row.prompt) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        cache = _cache()
        self._forward(rows, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache, sampling)
        return _Batch(rows, cache, mask)

    @torch.inference_mode()
    def _step(self, batch: _Batch, sampling: Sampling) -> None:
        """One token more for every row. Rows that have finished idle along until they are taken out."""
        ids = torch.tensor([[row.tokens[-1]] for row in batch.rows], device=self.device)
        positions = batch.mask.sum(1, keepdim=True)
        if self.positions is not None:  # a row that idles may have run past the last position
            positions = positions.clamp(max=self.positions - 1)
        batch.mask = torch.cat([batch.mask, torch.ones_like(ids)], 1)
        self._forward(batch.rows, ids, batch.mask, positions, batch.cache, sampling)

    def _forward(
        self, rows: list[_Row], ids: Any, mask: Any, positions: Any, cache: Any, sampling: Sampling
    ) -> None:
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        for row, token in zip(rows, _pick(logits, rows, sampling.temperature), strict=True):
            if row.finish is None:
                row.take(token, self.stops)

    def _finished(self, row: _Row) -> Generated:
        text = self.tokenizer.decode(row.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Generated(row.request.id, text, row.finish or "length", len(row.prompt), len(row.tokens))


@dataclass
class _Batch:
    """Rows in work with their keys and values, left-padded to one width.

    Attributes:
        cache: per layer keys and values, (rows, heads, width, head size).
        mask: (rows, width), 1 where a row has a token.
    """

    rows: list[_Row]
    cache: Cache
    mask: torch.Tensor

    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each block."""
        layers: list[Any] = self.cache.layers
        return [(layer.keys, layer.values) for layer in layers]

    def without_finished(self) -> _Batch | None:
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
        return _Batch([self.rows[i] for i in live], _cache(pairs), mask[:, -width:])

    def joined(self, other: _Batch) -> _Batch:
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
        return _Batch([*self.rows, *other.rows], _cache(pairs), mask)


def _pick(logits: torch.Tensor, rows: list[_Row], temperature: float) -> list[int]:
    """The next token of every row; (rows, vocabulary) logits.

    Each row draws one number from its own generator and looks it up in its cumulated probabilities, so
    what it draws does not depend on its neighbours or on the device.
    """
    if temperature == 0:
        return logits.argmax(-1).tolist()
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1)
    draws = torch.tensor([row.random.random() for row in rows], dtype=torch.float64, device=logits.device)
    target = draws[:, None] * cumulated[:, -1:]
    return (cumulated <= target).sum(-1).clamp(max=logits.shape[-1] - 1).tolist()
