"""Proves a pruned checkpoint: stock transformers makes of it what the base is without the removed blocks.

Behind surgery.py; the prune stage and the command call `prove`. A wrong config field gives a model that
loads and speaks, only worse, so nothing short of comparing outputs shows that surgery was right.

The whole proof loads the base, removes the blocks in memory, and compares with the pruned folder loaded by
stock `from_pretrained`: logits of a short batch, then greedy generation with a KV cache behind a prompt
longer than any window, logits at every step. Equal means equal bit for bit, in the checkpoint's own dtype.
How long the prompt is, and when wide windows are made narrow for it, stands in proof_plan.py; how blocks are
removed in memory, and why that is a reference, in in_memory.py.

Models that do not fit in memory are proved block by block, by their files (file_proof.py) and by their
outputs with the blocks left on the disk (streamed_proof.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from factory.errors import FactoryError
from factory.models import file_proof, streamed_proof
from factory.models.checkpoint import Checkpoint, read_checkpoint, stored_dtype
from factory.models.in_memory import remove_in_memory
from factory.models.load import block_list
from factory.models.memory import fits
from factory.models.outputs import BASE, MEND, generated, load, quiet, refusing, same
from factory.models.proof_plan import NEW_TOKENS, SHORT, Plan

Told = Callable[[str], None]


@dataclass(frozen=True)
class Proof:
    """What was compared, and what came out.

    Attributes:
        mode: `whole`: outputs of both models; `streamed`: bytes, and outputs of every block with the blocks
            on the disk; `files`: bytes and blocks' kinds, no outputs; `off`: nothing.
        tokens: tokens through both models, generated ones included.
        generated: tokens generated with a KV cache.
        max_difference: the largest difference of two logits; None where none were compared.
        dtype: in which the outputs were computed.
        device: where.
        window: the longest attention window that the prompt went beyond; None where there is none.
        narrowed_from: that window's width in the config, where it was made narrow for the proof.
        why_no_outputs: of `files`: why the blocks could not be run.
        seconds: time taken.
    """

    mode: Literal["whole", "streamed", "files", "off"]
    tokens: int = 0
    generated: int = 0
    max_difference: float | None = None
    dtype: str | None = None
    device: str | None = None
    window: int | None = None
    narrowed_from: int | None = None
    why_no_outputs: str | None = None
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """For the artifact's record."""
        return asdict(self)

    def sentence(self) -> str:
        """For a person."""
        if self.mode == "off":
            return "not proved: switched off"
        if self.mode == "files":
            return (
                "proved by the files alone: every tensor is the base's and every kept block has its "
                f"kind in the base "
                f"({self.seconds:.1f} s); no outputs were compared, because {self.why_no_outputs}"
            )
        narrow = f", windows of {self.narrowed_from} made {self.window}" if self.narrowed_from else ""
        where = f"({self.dtype} on {self.device}{narrow}, {self.seconds:.1f} s)"
        over = f"over {self.tokens} tokens, {self.generated} of them generated,"
        if self.mode == "streamed":
            return (
                f"proved block by block: {over} every kept block gives the same bit for bit as in the base, "
                f"and every tensor is the base's {where}"
            )
        same_as = "the same logits bit for bit as the base with the blocks removed in memory"
        return f"proved: {over} {same_as} {where}"


def prove(base: Path, pruned: Path, kept: Sequence[int], told: Told = lambda note: None) -> Proof:
    """Compares a pruned folder with its base; returns only if they agree.

    Args:
        base: the model folder that was pruned.
        pruned: what surgery wrote.
        kept: the kept blocks in the base's numbering.
        told: called with what is being done.

    Raises:
        FactoryError: they differ, or no outputs can be compared of a model whose files do not suffice.
    """
    began = time.perf_counter()
    checkpoint = read_checkpoint(base)
    dtype = stored_dtype(base)
    plan = Plan.of(checkpoint, dtype, "cuda")
    if not fits(checkpoint, "cuda", plan.attention_bytes):
        plan = Plan.of(checkpoint, dtype, "cpu")
    whole = plan.device == "cuda" or fits(checkpoint, "cpu", plan.attention_bytes)
    found = (_whole if whole else _streamed)(checkpoint, pruned, kept, plan, told)
    return replace(found, seconds=round(time.perf_counter() - began, 2))


def _whole(base: Checkpoint, pruned: Path, kept: Sequence[int], plan: Plan, told: Told) -> Proof:
    with quiet():
        # One after the other: memory holds one model.
        told("running the base without the blocks")
        wanted = _outputs(base.folder, plan, kept)
        told("running the pruned model")
        found = _outputs(pruned, plan)
    same(wanted, found, pruned)
    return _equal("whole", SHORT[0] * plan.short, NEW_TOKENS, plan)


def _streamed(base: Checkpoint, pruned: Path, kept: Sequence[int], plan: Plan, told: Told) -> Proof:
    told("the model is too large for memory: comparing its files block by block")
    file_proof.compare(base, pruned, kept)
    try:
        streamed_proof.compare(base, pruned, kept, plan, told)
    except streamed_proof.StreamError as error:
        if file_proof.suffices(base):
            return Proof("files", why_no_outputs=str(error))
        raise FactoryError(
            f"memory is too small for the whole proof, which this {base.row.model_type} model needs, and "
            f"block by block it cannot be run: {error}",
            where=str(base.folder),
            mend="Prune it on a machine with memory for the base model and a half more",
        ) from error
    return _equal("streamed", 0, streamed_proof.NEW_TOKENS, plan)


def _equal(mode: Literal["whole", "streamed"], more: int, new: int, plan: Plan) -> Proof:
    """What is said of outputs that were equal over the prompt, `new` tokens behind it and `more` besides."""
    return Proof(
        mode,
        tokens=more + plan.prompt + new,
        generated=new,
        max_difference=0.0,
        dtype=plan.dtype,
        device=plan.device,
        window=plan.window,
        narrowed_from=plan.narrowed_from,
    )


def _outputs(folder: Path, plan: Plan, kept: Sequence[int] | None = None) -> dict[str, Any]:
    """Logits and generated tokens of one model; with `kept`, of it without its other blocks."""
    import torch

    def run() -> dict[str, Any]:
        with torch.inference_mode():
            short = model(input_ids=plan.ids(SHORT[0], plan.short), use_cache=False).logits
        return {"logits": short.cpu(), **generated(model, plan, NEW_TOKENS)}

    model = load(folder, plan, MEND if kept is None else BASE).to(plan.device)
    if kept is None:
        with refusing(folder, "does not run"):
            return run()
    blocks = block_list(model)
    whole = list(blocks)
    try:
        with refusing(folder, "does not run without these blocks"):
            remove_in_memory(model, kept)
            return run()
    except FactoryError:
        for index, block in enumerate(whole):
            blocks[index] = block
        with refusing(folder, "does not run as it is, with all its blocks", BASE):
            run()
        raise
