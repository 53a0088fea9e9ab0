"""Assisted generation as transformers does it, and what it takes: caches, one vocabulary, one sequence.

For the stage draft, which times it and compares its steps with those that acceptance gives.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from factory.drafts.speculative import MOST, Latency
from factory.errors import FactoryError

SECONDS = 10.0
"""What latencies are measured for, once `LEAST` rounds are done."""
LEAST, MOST_ROUNDS = 5, 200  # fewer are over in a second, in which a machine may be in one mood


def refuse_cacheless(model: Any, folder: Path, where: str) -> None:
    """Refuses a model whose cache cannot forget the last tokens, as it must those that were not accepted.

    Args:
        model: a loaded causal language model.
        folder: its folder.
        where: the key of a recipe that chose it.

    Raises:
        FactoryError: it has none, or one that keeps a running state.
    """
    name, mend = folder.name, "Use a model whose blocks are all attention, or leave `draft` out"
    why = "its cache keeps a running state, from which no token can be taken back"
    if not getattr(model, "_is_stateful", False):
        ids = torch.zeros(1, 4, dtype=torch.long, device=model.device)
        with torch.inference_mode():
            cache = model(input_ids=ids, use_cache=True).past_key_values
        why = "it gives back no cache of keys and values"
        if hasattr(cache, "crop"):
            _recording(cache)
            cache.crop(-2)
            if cache.get_seq_length() == 2:
                return
            why = "its cache cannot be cut back"
    what = f"assisted generation does not work with {name} ({model.config.model_type}): {why}"
    raise FactoryError(what, where=where, mend=mend)


@dataclass(frozen=True)
class Decoded:
    """One decoded sequence: its new tokens, those accepted in each step (none without a draft), seconds."""

    tokens: list[int]
    steps: list[int]
    seconds: float


class Decoder:
    """Greedy decoding of one sequence at a time, with and without a draft.

    Args:
        target: a loaded causal language model.
        draft: another with the same vocabulary.
        stops: ids of the tokens that end a text.
    """

    def __init__(self, target: Any, draft: Any, stops: Iterable[int]) -> None:
        self._target, self._draft = target, draft
        self._stops = sorted(stops)
        # What a folder's generation config asks for beside (penalties, say) is no part of the method.
        target.generation_config = self._config()
        draft.generation_config = self._config()

    def plain(self, prompt: Sequence[int], max_new_tokens: int) -> Decoded:
        """Decodes with the target alone."""
        return self._decode(prompt, max_new_tokens, None)

    def assisted(self, prompt: Sequence[int], max_new_tokens: int, k: int) -> Decoded:
        """Decodes with the draft, which proposes `k` tokens a step."""
        self._draft.generation_config = self._config(
            num_assistant_tokens=k,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=0.0,
        )
        return self._decode(prompt, max_new_tokens, self._draft)

    def _config(self, **more: Any) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False, eos_token_id=self._stops, pad_token_id=self._stops[0], use_cache=True, **more
        )

    def _decode(self, prompt: Sequence[int], max_new_tokens: int, draft: Any) -> Decoded:
        ids = torch.tensor([list(prompt)], device=self._target.device)
        counted = _Counted()
        _wait(ids)
        began = time.perf_counter()
        found = self._target.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=self._config(max_new_tokens=max_new_tokens),
            assistant_model=draft,
            streamer=counted if draft is not None else None,
        )
        _wait(ids)
        seconds = time.perf_counter() - began
        return Decoded(found[0, ids.shape[1] :].tolist(), [size - 1 for size in counted.sizes], seconds)


class _Counted(BaseStreamer):
    """Counts the tokens of every step; what comes first is the prompt."""

    def __init__(self) -> None:
        self._begun = False
        self.sizes: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """One step's tokens: the accepted ones and the target's own."""
        if self._begun:
            self.sizes.append(value.numel())
        self._begun = True

    def end(self) -> None:
        """Nothing is left to do."""


@torch.inference_mode()
def latency(target: Any, draft: Any, text: Sequence[int]) -> tuple[Latency, int]:
    """Median seconds of forward passes behind a text, and of how many rounds; all kinds take turns.

    Args:
        target: the one model.
        draft: the other.
        text: token ids; with room for `MOST` + 1 more.
    """
    kinds: list[tuple[Any, Any, int]] = []
    ids = torch.tensor([list(text)], device=target.device)
    caches = {}
    for model in (target, draft):
        cache = caches[id(model)] = DynamicCache(config=model.config)
        _recording(cache)
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    kinds = [(draft, caches[id(draft)], 1), (target, caches[id(target)], 1)]
    kinds += [(target, caches[id(target)], k + 1) for k in range(1, MOST + 1)]
    seconds: list[list[float]] = [[] for _ in kinds]
    began, rounds = time.perf_counter(), -1  # the first round warms up
    while rounds < LEAST or (rounds < MOST_ROUNDS and time.perf_counter() - began < SECONDS):
        for (model, cache, count), measured in zip(kinds, seconds, strict=True):
            new = ids[:, -count:]
            _wait(ids)
            before = time.perf_counter()
            model(input_ids=new, past_key_values=cache, use_cache=True)
            _wait(ids)
            if rounds >= 0:
                measured.append(time.perf_counter() - before)
            cache.crop(-count)
        rounds += 1
    medians = [statistics.median(one) for one in seconds]
    return Latency.measured(medians[0], medians[1:]), rounds


def _recording(cache: Any) -> None:
    """Has blocks with sliding windows keep what a cut back needs."""
    start: Callable[[], None] | None = getattr(cache, "activate_past_recording", None)
    if start is not None:
        start()


def _wait(tensor: torch.Tensor) -> None:
    """A GPU works on while Python goes on: wait for it, so that clocks tell the truth."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
