"""The `transformers` engine: batched generation with stock models on one device, for regeneration.

Prompts are drawn a window at a time and wait in order of length. A batch is left-padded; rows leave it
when they finish, and as soon as a quarter of its slots are free the next prompts are read and join it, so
no slot waits for the longest row: where a fixed batch would decode padding, this decodes text. How many
rows are in work at once is measured while the first ones are (`tuning.py`), unless the recipe says.

On CPU models run in float32 (`models.load`), where a row gives the same tokens in any batch, but for
ties within rounding. In bfloat16, on a GPU, two tokens that are nearly as likely may change places.
transformers' own continuous batching is not used: it tells no log-probabilities, has no seed a row, and
was several times slower on a CPU.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from factory.engines import Answered, Generated, Request, Sampling
from factory.engines.chats import Chats
from factory.engines.rows import REFILL, Batch, Row, new_cache
from factory.engines.tuning import Tuner
from factory.errors import FactoryError
from factory.models import load
from factory.texts.measures import surprise
from factory.texts.reader import Reader
from factory.texts.text import Text

WINDOW = 16
"""Batches' worth of prompts that are drawn and sorted together."""
READ_TOKENS = 16_384
"""Prompt tokens, padding included, in one forward pass: bounds the memory that reading takes."""

_BLOCKS = frozenset({"full_attention", "sliding_attention"})
"""Block types whose state is keys and values by position, which can be padded and joined."""


class TransformersEngine:
    """An `Engine` over `AutoModelForCausalLM`."""

    def __init__(self, folder: Path, batch_size: int | None = None) -> None:
        """Loads the model.

        Args:
            folder: stock model folder with tokenizer and chat template.
            batch_size: the most rows in work at once; None for what turns out to be fastest.

        Raises:
            FactoryError: the folder cannot be loaded, has no chat template or no stop token, or its
                blocks keep another state than keys and values.
        """
        self.batch_size = batch_size
        self.chats = Chats(folder)
        self.model = model = load.causal_lm(folder)
        config = model.config.get_text_config()
        if other := set(getattr(config, "layer_types", None) or ()) - _BLOCKS:
            raise FactoryError(
                f"the transformers engine cannot generate with blocks of type {', '.join(sorted(other))}",
                where=str(folder),
                mend="Use a model that has only attention blocks, or the engine vllm or openai",
            )
        self.device = model.device

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Generated]:
        """See `factory.engines.Engine`. A prompt that leaves no room gives "" and finish "length".

        Raises:
            FactoryError: the device has too little memory.
        """
        tuner = Tuner(self.model, self.batch_size)
        waiting = _Waiting(self._row(request, sampling.max_new_tokens) for request in requests)
        batch: Batch | None = None
        while True:
            working = len(batch.rows) if batch else 0
            free = tuner.size - working
            joining = waiting.take(free, WINDOW * tuner.size) if free >= REFILL * tuner.size else []
            for row in joining:
                if row.room <= 0:
                    yield self._finished(row)
            with _memory():
                if joining := [row for row in joining if row.room > 0]:
                    read = self._read(joining, sampling)
                    batch = batch.joined(read) if batch else read
                elif batch is not None:
                    with tuner.step(len(batch.rows), waiting.some):
                        self._step(batch, sampling)
            if batch is None:
                if waiting.some:
                    continue
                return
            for row in batch.rows:
                if row.finish and not row.told:
                    row.told = True
                    yield self._finished(row)
            with _memory():
                batch = batch.without_finished()

    def likelihoods(self, chats: Iterable[Answered]) -> Iterator[tuple[int, float]]:
        """See `factory.engines.Engine`.

        Raises:
            FactoryError: the device has too little memory.
        """
        reader, source = Reader(surprise, self.model, where="regenerate"), iter(chats)
        while window := list(islice(source, WINDOW * Tuner.FIRST)):
            texts = []
            for chat in window:
                ids, start = self.chats.answered(chat.messages, chat.response)
                if self.chats.room(ids, 0) < 0:
                    yield chat.id, float("-inf")
                else:
                    texts.append(Text(chat.id, ids[:start], ids[start:], "stop"))
            yield from ((text.row, -float(found["nll"].mean())) for text, found in reader.read(texts))

    def _row(self, request: Request, max_new_tokens: int) -> Row:
        prompt = list(request.prompt) or self.chats.prompt(request.messages)
        return Row(request, prompt, self.chats.room(prompt, max_new_tokens))

    @torch.inference_mode()
    def _read(self, rows: list[Row], sampling: Sampling) -> Batch:
        """Reads prompts, all at once, and picks the first token of each."""
        width = max(len(row.prompt) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[i, width - len(row.prompt) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        cache = new_cache()
        self._forward(rows, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache, sampling)
        return Batch(rows, cache, mask)

    @torch.inference_mode()
    def _step(self, batch: Batch, sampling: Sampling) -> None:
        """One token more for every row. Rows that have finished idle along until they are taken out."""
        ids = torch.tensor([[row.tokens[-1]] for row in batch.rows], device=self.device)
        positions = batch.mask.sum(1, keepdim=True)
        if self.chats.positions is not None:  # a row that idles may have run past the last position
            positions = positions.clamp(max=self.chats.positions - 1)
        batch.mask = torch.cat([batch.mask, torch.ones_like(ids)], 1)
        self._forward(batch.rows, ids, batch.mask, positions, batch.cache, sampling)

    def _forward(
        self, rows: list[Row], ids: Any, mask: Any, positions: Any, cache: Any, sampling: Sampling
    ) -> None:
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens, logprobs = _pick(logits, rows, sampling.temperature)
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            if row.finish is None:
                row.take(token, logprob, self.chats.stops)

    def _finished(self, row: Row) -> Generated:
        text = self.chats.text(row.tokens)
        finish = row.finish or "length"
        tokens = tuple(row.tokens) if row.request.prompt else ()
        return Generated(row.request.id, text, finish, len(row.prompt), len(row.tokens), row.logprob, tokens)


class _Waiting:
    """Prompts that wait, a window of them sorted by length.

    The first window goes from the longest prompt to the shortest, so that memory peaks at once and not at
    the end, the second the other way round, and so on: neighbours in time are of like length throughout.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows, self._window, self._upwards = rows, deque[Row](), False
        self.some = True  # whether there may be more

    def take(self, count: int, window: int) -> list[Row]:
        """Up to `count` rows that can be read together; the next window is drawn when one is used up."""
        if not self._window and self.some:
            drawn = sorted(islice(self._rows, window), key=lambda row: (-len(row.prompt), row.request.id))
            self.some = len(drawn) == window
            self._window.extend(reversed(drawn) if self._upwards else drawn)
            self._upwards = not self._upwards
        taken: list[Row] = []
        longest = 0
        while self._window and len(taken) < count:
            longest = max(longest, len(self._window[0].prompt))
            if taken and longest * (len(taken) + 1) > READ_TOKENS:
                break
            taken.append(self._window.popleft())
        self.some = self.some or bool(self._window)
        return taken


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turns the device's lack of memory into an error that names the setting to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FactoryError(
            f"the device has too little memory to generate ({str(error).split('. ')[0]})",
            where="regenerate.batch_size",
            mend="Lower it or max_new_tokens, or free the device's memory; rows already written are kept",
        ) from error


def _pick(logits: torch.Tensor, rows: list[Row], temperature: float) -> tuple[list[int], list[float]]:
    """The next token of every row and its log-probability; (rows, vocabulary) logits.

    Each row draws one number from its own generator and looks it up in its cumulated probabilities, so
    what it draws does not depend on its neighbours or on the device.
    """
    if temperature == 0:
        tokens = logits.argmax(-1)
    else:
        cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1)
        draws = torch.tensor([row.random.random() for row in rows], dtype=torch.float64, device=logits.device)
        target = draws[:, None] * cumulated[:, -1:]
        tokens = (cumulated <= target).sum(-1).clamp(max=logits.shape[-1] - 1)
    logits = logits.float()
    logprobs = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    both = torch.stack([tokens.double(), logprobs.double()]).tolist()  # one wait for the device
    return [int(token) for token in both[0]], both[1]
