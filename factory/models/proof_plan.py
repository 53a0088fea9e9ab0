"""What goes through both models of a proof: how long a prompt, in which dtype, on which device.

Behind proof.py. The prompt goes beyond the longest attention window of the model, so that the cache that is
bounded by it is proved too. Attention over thousands of tokens takes a slow machine minutes a block: only
where both runs together would be more work than `WORK` are wide windows made narrow, in both models alike,
and the proof says so. What is proved then is which block has a window, not that window's width, which no
surgery changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from factory.errors import FactoryError
from factory.models.checkpoint import Checkpoint

NEW_TOKENS = 8  # generated with the cache behind the prompt
SHORT = (2, 16)  # texts, tokens: the batch whose logits are compared at every position
PAST_WINDOW = 8  # the prompt is at least this much longer than the longest window, or an eighth of it
# FLOPs of both runs together beyond which windows are made narrow. At the speeds in benchmarks/RESULTS.md
# a CPU thread does 2e13 in one minute, and in four where attention is not fused (Gemma 2).
WORK = {"cuda": 5e15, "cpu": 2e13}
NARROW = 64
CHUNK = 1024  # tokens of a longer prompt run at a time: scores of all its pairs at once fill the memory
WINDOWS = ("window", "window_size", "chunk_size", "attention_chunk")  # ends of config keys that hold one


@dataclass(frozen=True)
class Plan:
    """What goes through both models.

    Attributes:
        dtype: in which they run: that of the stored weights.
        device: `cuda` or `cpu`.
        vocabulary: tokens are drawn from it.
        short: tokens of a text of the short batch.
        prompt: tokens of the prompt.
        window: the longest attention window that the prompt goes beyond; None where there is none.
        narrowed_from: that window's width in the config, where it was made narrow.
        override: config fields for both models.
        heads: query heads of a block.
    """

    dtype: str
    device: str
    vocabulary: int
    short: int
    prompt: int
    window: int | None
    narrowed_from: int | None
    override: dict[str, int]
    heads: int

    @property
    def chunk(self) -> int | None:
        """Tokens of the prompt run at a time; None for all at once."""
        return CHUNK if self.prompt > 2 * CHUNK else None

    @property
    def attention_bytes(self) -> int:
        """For one block's scores, held a few times over: in the dtype, as floats, masked."""
        return 12 * self.heads * self.prompt * (self.chunk or self.prompt)

    @staticmethod
    def of(base: Checkpoint, dtype: str, device: str) -> Plan:
        """The plan for a model; its windows as they are where that is work enough for `device`.

        Raises:
            FactoryError: transformers refuses the config.
        """
        from factory.models.beyond import resolved

        config = resolved(base.config, base.folder)
        longest = getattr(config, "max_position_embeddings", None) or 10**9
        windows = {
            key: value
            for key, value in config.to_dict().items()
            if key.endswith(WINDOWS) and isinstance(value, int) and 1 < value < longest
        }
        room = longest - NEW_TOKENS
        prompt = _prompt(windows, room)
        wide = {key: value for key, value in windows.items() if value > NARROW}
        if wide and _work(base, prompt) <= WORK[device]:
            wide = {}
        override = dict.fromkeys(wide, NARROW)
        windows |= override
        return Plan(
            dtype,
            device,
            config.vocab_size,
            short=max(1, min(SHORT[1], room)),
            prompt=_prompt(windows, room),
            window=max(windows.values(), default=None),
            narrowed_from=max(wide.values(), default=None),
            override=override,
            heads=getattr(config, "num_attention_heads", None) or 1,
        )

    def ids(self, texts: int, tokens: int) -> Any:
        """Token ids of shape (texts, tokens), the same for both models."""
        import torch

        drawn = torch.Generator().manual_seed(tokens)
        return torch.randint(self.vocabulary, (texts, tokens), generator=drawn).to(self.device)


def _prompt(windows: dict[str, int], room: int) -> int:
    window = max(windows.values(), default=0)
    return max(1, min((window or SHORT[1]) + max(PAST_WINDOW, window // 8), room))


def _work(base: Checkpoint, prompt: int) -> float:
    """FLOPs of the prompt through base and pruned model; at most, as the pruned one is taken for whole."""
    from factory.models.anatomy import anatomy

    try:
        return 2.0 * anatomy(base.config, base.folder).prefill_flops(prompt, counted="blocks")
    except FactoryError:  # a family whose attention is not understood: 2 FLOPs a weight, then
        return 2.0 * 2 * base.parameters * prompt
