"""The proof for models larger than memory: outputs compared block by block, with the blocks on the disk.

Behind proof.py. Stock `from_pretrained` leaves the blocks in the safetensors files (a device map with
`disk`), and every module's weights are in memory only while it runs; embeddings, final norm and head stay.
Masks, rotations and caches are made by the model's own forward from its own config. A prompt beyond any
window goes through the base, whose removed blocks the stream passes by (in_memory.py), then one step with
the cache; what every kept block gives is kept as a digest. The pruned model must give the same, block after
block, so that memory holds no second model and the first block that differs is named.

Families whose weights are stored in another form than they run in (separate experts, fused when loaded) are
written anew by transformers; they need room on the disk for that, beside the result.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from factory.errors import FactoryError
from factory.models import memory
from factory.models.beyond import resolved
from factory.models.checkpoint import Checkpoint, read_checkpoint
from factory.models.in_memory import remove_in_memory
from factory.models.load import block_list
from factory.models.outputs import different, generated, load, no_numbers, quiet, refusing, same
from factory.models.proof_plan import Plan

NEW_TOKENS = 2  # the first comes from the prompt, the second is a step with the cache

Given = Callable[[int, Any], None]  # called with the place of a kept block and what it gives


class StreamError(Exception):
    """Why a base cannot be run with its blocks on the disk. It says nothing against the pruned model."""


def compare(
    base: Checkpoint, pruned: Path, kept: Sequence[int], plan: Plan, told: Callable[[str], None]
) -> None:
    """Compares what every kept block, and then the head, gives in a pruned folder and in its base.

    Args:
        base: the pruned model's base.
        pruned: what surgery wrote; room on its disk may be used.
        kept: the kept blocks in the base's numbering.
        plan: what goes through both, on the CPU.
        told: called with what is being done.

    Raises:
        StreamError: no room in memory or on the disk, or a family that does not run this way.
        FactoryError: they differ.
    """
    import torch

    wanted: list[tuple[int, bytes]] = []
    odd: list[int] = []

    def note(place: int, hidden: Any) -> None:
        wanted.append((place, _digest(hidden)))
        if not torch.isfinite(hidden).all():
            odd.append(kept[place])

    result = read_checkpoint(pruned)
    left = iter(wanted)

    def check(place: int, hidden: Any) -> None:
        if next(left, None) != (place, _digest(hidden)):
            raise different(f"block {place} gives other outputs than the base's block {kept[place]}", pruned)

    with quiet():
        told("running the base without the blocks, block by block")
        try:
            theirs = _outputs(base, plan, pruned.parent, note, kept)
        except FactoryError as error:
            raise StreamError(error.what) from error
        if odd:
            raise no_numbers(f"outputs of block {odd[0]}", pruned)
        told("running the pruned model, block by block")
        ours = _outputs(result, plan, pruned.parent, check)
    same(theirs, ours, pruned)


def _outputs(
    checkpoint: Checkpoint, plan: Plan, disk: Path, given: Given, kept: Sequence[int] | None = None
) -> dict[str, Any]:
    """What a model generates with its blocks on the disk; with `kept`, without its other blocks."""
    places, resaved = _places(checkpoint, plan)
    if shutil.disk_usage(disk).free < resaved:
        raise StreamError(
            f"transformers has to write {resaved / 1e9:,.1f} GB anew, for which {disk} has no room"
        )
    how = "does not run block by block" + ("" if kept is None else " without the removed ones")
    with TemporaryDirectory(dir=disk, prefix=".proof-") as scratch:
        model = load(checkpoint.folder, plan, device_map=places, offload_folder=scratch)
        if any(parameter.device.type != "meta" for parameter in block_list(model).parameters()):
            raise StreamError("transformers keeps the blocks of this family in memory")
        with refusing(checkpoint.folder, how):
            if kept is not None:
                remove_in_memory(model, kept)
            with _watched(model, kept or range(checkpoint.blocks), given):
                return generated(model, plan, NEW_TOKENS)


@contextmanager
def _watched(model: Any, kept: Sequence[int], given: Given) -> Iterator[None]:
    """Reports what the blocks in `kept` give, each under its place among them."""

    def hook(place: int) -> Callable[..., None]:
        return lambda block, args, output: given(
            place, output[0] if isinstance(output, tuple | list) else output
        )

    blocks = block_list(model)
    hooks = [blocks[block].register_forward_hook(hook(place)) for place, block in enumerate(kept)]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _digest(hidden: Any) -> bytes:
    """Of a tensor's shape, dtype and bytes."""
    import torch

    found = hashlib.blake2b(f"{hidden.dtype}{tuple(hidden.shape)}".encode())
    found.update(hidden.detach().contiguous().view(torch.uint8).numpy())
    return found.digest()


def _places(checkpoint: Checkpoint, plan: Plan) -> tuple[dict[str, str], int]:
    """Where the parts of a model go, and how many bytes of its blocks are not stored as they run.

    Raises:
        StreamError: what has to stay in memory does not fit.
        FactoryError: transformers cannot build it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), refusing(checkpoint.folder, "cannot be built"):
        model = AutoModelForCausalLM.from_config(resolved(checkpoint.config, checkpoint.folder))
        blocks = block_list(model)
    inside = next(name for name, module in model.named_modules() if module is blocks)
    places: dict[str, str] = {inside: "disk"}

    def cover(module: Any, name: str) -> None:
        """Names the largest parts that hold no block."""
        for child, part in module.named_children():
            path = f"{name}{child}"
            if path != inside:
                cover(part, path + ".") if inside.startswith(path + ".") else places.update({path: "cpu"})
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        places.update({f"{name}{child}": "cpu" for child, _ in own})

    cover(model, "")
    row, sizes = checkpoint.row, dict.fromkeys([None, *range(checkpoint.blocks)], 0)
    for tensor in checkpoint.tensors:
        block = row.block_of(tensor.name)
        sizes[block] = sizes.get(block, 0) + tensor.size
    outer = sizes.pop(None)
    # Two blocks: one that runs, and what it is made of where it is not stored as it runs.
    needed = outer + 2 * max(sizes.values())
    needed += memory.KEPT_FREE if needed >= memory.SMALL else 0
    if needed > memory.available():
        raise StreamError(f"embeddings and two blocks need {needed / 1e9:,.1f} GB of memory")
    stored = {tensor.name for tensor in checkpoint.tensors}
    anew = (
        parameter.numel()
        for name, parameter in blocks.named_parameters()
        if not {f"{inside}.{name}", f"{inside}.{name}".partition(".")[2]} & stored
    )
    return places, sum(anew) * getattr(torch, plan.dtype).itemsize
