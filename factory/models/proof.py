"""Proves a pruned checkpoint: stock transformers makes of it what the base is without the removed blocks.

Behind surgery.py; the prune stage and the command call `prove`. A wrong config field gives a model that
loads and speaks, only worse, so nothing short of comparing outputs shows that surgery was right.

The whole proof loads the base, removes the blocks in memory, and compares with the pruned folder loaded by
stock `from_pretrained`: logits of a short batch, then greedy generation with a KV cache behind a prompt
longer than any window, logits at every step. Equal means equal bit for bit, in the checkpoint's own dtype.
(Very wide windows are made narrow in both models for it; see `WIDEST_WINDOW`.)
How blocks are removed in memory, and why that is a reference, stands in in_memory.py.

Models that do not fit in memory are compared block by block (streamed_proof.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from factory.errors import FactoryError
from factory.models.checkpoint import read_checkpoint, stored_dtype
from factory.models.in_memory import remove_in_memory
from factory.models.memory import fits

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW_TOKENS = 8  # generated with the cache behind the prompt
SHORT = (2, 16)  # texts, tokens: the batch whose logits are compared at every position
PAST_WINDOW = 8  # the prompt is at least this much longer than the longest window, or an eighth of it
# A window wider than this is made narrow in both models, because attention over long prompts takes a CPU
# minutes a block: what is proved is which block has a window, and that does not depend on its width.
WIDEST_WINDOW = {"cuda": 8192, "cpu": 1024}
NARROW = 64
WINDOWS = ("window", "window_size", "chunk_size", "attention_chunk")  # ends of config keys that hold one

Told = Callable[[str], None]


@dataclass(frozen=True)
class Proof:
    """What was compared, and what came out.

    Attributes:
        mode: `whole`: outputs of both models; `streamed`: bytes and blocks' kinds; `off`: nothing.
        tokens: tokens through both models, generated ones included.
        generated: tokens generated with a KV cache.
        max_difference: the largest difference of two logits; None where none were compared.
        dtype: in which the outputs were computed.
        device: where.
        window: the longest attention window that the prompt went beyond; None where there is none.
        narrowed_from: that window's width in the config, where it was made narrow for the proof.
        seconds: time taken.
    """

    mode: Literal["whole", "streamed", "off"]
    tokens: int = 0
    generated: int = 0
    max_difference: float | None = None
    dtype: str | None = None
    device: str | None = None
    window: int | None = None
    narrowed_from: int | None = None
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """For the artifact's record."""
        return asdict(self)

    def sentence(self) -> str:
        """For a person."""
        if self.mode == "off":
            return "not proved: switched off"
        if self.mode == "streamed":
            return (
                "proved block by block: every tensor is the base's and every kept block has the base's kind "
                f"({self.seconds:.1f} s); the model is too large for memory, so no outputs were compared"
            )
        narrow = f", windows of {self.narrowed_from} made {self.window}" if self.narrowed_from else ""
        return (
            f"proved: over {self.tokens} tokens, {self.generated} of them generated, the same logits bit for "
            "bit as the base with the blocks removed in memory "
            f"({self.dtype} on {self.device}{narrow}, {self.seconds:.1f} s)"
        )


def prove(base: Path, pruned: Path, kept: Sequence[int], told: Told = lambda note: None) -> Proof:
    """Compares a pruned folder with its base; returns only if they agree.

    Args:
        base: the model folder that was pruned.
        pruned: what surgery wrote.
        kept: the kept blocks in the base's numbering.
        told: called with what is being done.

    Raises:
        FactoryError: they differ, or the model is of no listed family and too large for the whole proof.
    """
    began = time.perf_counter()
    checkpoint = read_checkpoint(base)
    dtype = stored_dtype(base)
    for device in ("cuda", "cpu"):
        plan = _Plan.of(base, dtype, device)
        if fits(checkpoint, device, plan.attention_bytes):
            return _whole(base, pruned, kept, plan, began, told)
    if not checkpoint.row.listed:
        raise FactoryError(
            f"memory is too small for the whole proof, which {checkpoint.row.model_type} needs, as a family "
            "that is not listed",
            where=str(base),
            mend="Prune it on a machine with memory for the base model and a half more",
        )
    from factory.models.streamed_proof import compare

    told("the model is too large for memory: comparing block by block")
    compare(checkpoint, pruned, kept)
    return Proof("streamed", seconds=round(time.perf_counter() - began, 2))


def _whole(base: Path, pruned: Path, kept: Sequence[int], plan: _Plan, began: float, told: Told) -> Proof:
    with _quiet():
        # One after the other: memory holds one model.
        told("running the base without the blocks")
        wanted = _outputs(base, plan, kept)
        told("running the pruned model")
        found = _outputs(pruned, plan)
    _same(wanted, found, pruned)
    return Proof(
        "whole",
        tokens=SHORT[0] * plan.short + plan.prompt + NEW_TOKENS,
        generated=NEW_TOKENS,
        max_difference=0.0,
        dtype=plan.dtype,
        device=plan.device,
        window=plan.window,
        narrowed_from=plan.narrowed_from,
        seconds=round(time.perf_counter() - began, 2),
    )


@dataclass(frozen=True)
class _Plan:
    """What goes through both models."""

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
    def attention_bytes(self) -> int:
        """For one block's scores over the prompt, held a few times over: in the dtype, as floats, masked."""
        return 12 * self.heads * self.prompt**2

    @staticmethod
    def of(base: Path, dtype: str, device: str) -> _Plan:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(base)
        longest = getattr(config, "max_position_embeddings", None) or 10**9
        windows = {
            key: value
            for key, value in config.to_dict().items()
            if key.endswith(WINDOWS) and isinstance(value, int) and 1 < value < longest
        }
        wide = {key: value for key, value in windows.items() if value > WIDEST_WINDOW[device]}
        override = dict.fromkeys(wide, NARROW)
        window = max({**windows, **override}.values(), default=None)
        room = longest - NEW_TOKENS
        return _Plan(
            dtype,
            device,
            config.vocab_size,
            short=max(1, min(SHORT[1], room)),
            prompt=max(1, min((window or SHORT[1]) + max(PAST_WINDOW, (window or 0) // 8), room)),
            window=window,
            narrowed_from=max(wide.values(), default=None),
            override=override,
            heads=getattr(config, "num_attention_heads", None) or 1,
        )

    def ids(self, texts: int, tokens: int) -> Any:
        """Token ids of shape (texts, tokens), the same for both models."""
        import torch

        drawn = torch.Generator().manual_seed(tokens)
        return torch.randint(self.vocabulary, (texts, tokens), generator=drawn).to(self.device)


def _outputs(folder: Path, plan: _Plan, kept: Sequence[int] | None = None) -> dict[str, Any]:
    """Logits and generated tokens of one model; with `kept`, of it without its other blocks."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=plan.dtype, use_safetensors=True, output_loading_info=True, **plan.override
        )
    except Exception as error:  # whatever the libraries raise, it means the same here
        reason = " ".join(str(error).split())[:200]
        raise FactoryError(
            f"stock transformers does not load it ({reason})", where=str(folder), mend=_MEND
        ) from error
    model, loading = loaded
    wrong = [str(key) for kind in ("missing_keys", "mismatched_keys") for key in loading[kind]]
    if wrong:
        what = f"stock transformers finds no fitting weights for {wrong[0]}"
        raise FactoryError(what, where=str(folder), mend=_MEND)
    model = model.to(plan.device).eval()
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        use_cache=True,
        output_logits=True,
        return_dict_in_generate=True,
        eos_token_id=None,
        pad_token_id=0,
    )
    try:
        if kept is not None:
            remove_in_memory(model, kept)
        with torch.inference_mode():
            short = model(input_ids=plan.ids(SHORT[0], plan.short), use_cache=False).logits
            prompt = plan.ids(1, plan.prompt)
            made = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=greedy)
    except FactoryError:
        raise
    except Exception as error:  # states that are no keys and values, or blocks that need what others computed
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        how = "does not run" if kept is None else "does not run without these blocks"
        raise FactoryError(f"the model {how} ({reason})", where=str(folder), mend=_MEND) from error
    return {
        "logits": short.cpu(),
        "generation": torch.stack(made.logits).cpu(),
        "words": made.sequences.cpu(),
    }


def _same(wanted: dict[str, Any], found: dict[str, Any], where: Path) -> None:
    """Refuses outputs that are not equal bit for bit; NaN stands for no proof at all."""
    import torch

    for what, one in wanted.items():
        other = found[what]
        if not torch.isfinite(one).all():
            raise FactoryError(
                f"nothing is proved: the base without these blocks gives {what} that are no numbers",
                where=str(where),
                mend="Use the checkpoint in another dtype, or switch the proof off",
            )
        if one.shape != other.shape or not torch.equal(one, other):
            gap = (one.double() - other.double()).abs().max().item() if one.shape == other.shape else None
            raise FactoryError(
                f"the pruned checkpoint is not the base without these blocks: {what} differ"
                + (f" by up to {gap:.3g}" if gap is not None else ""),
                where=str(where),
                mend=_MEND,
            )


_MEND = "Do not use it: blocks of this model cannot be removed safely; please report its config.json"


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of transformers, and operations that give the same result every time."""
    import torch
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    fixed = torch.are_deterministic_algorithms_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        torch.use_deterministic_algorithms(fixed)
