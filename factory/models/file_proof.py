"""What a pruned folder's files show without a run: the base's bytes, and blocks of the base's kinds.

Called by proof.py for models larger than memory, before their outputs are compared block by block
(streamed_proof.py), which a few tokens do for few experts, and instead of it where a family cannot be run so.
Two comparisons: every tensor is the base's, byte for byte, under the number of the block it belongs to; and
stock transformers, given each config, builds for every kept block the same modules with the same settings
(classes, shapes, windows, positions, scales), on the meta device. The second only for listed families: of
them it is known that blocks differ by nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.models.beyond import resolved
from factory.models.checkpoint import Checkpoint, read_checkpoint
from factory.models.fields import FIELDS, Keyed, Sliced
from factory.models.load import block_list
from factory.models.outputs import different
from factory.models.surgery import kept_tensors

BUFFER = 8 * 2**20

# What may differ between a block and itself at another place.
_PLACE = ("layer_idx", "layer_id", "layer_index", "block_idx")


def compare(base: Checkpoint, pruned: Path, kept: Sequence[int]) -> None:
    """Compares a pruned folder with its base in bytes and, of a listed family, in the kinds of blocks.

    Args:
        base: the pruned model's base.
        pruned: what surgery wrote.
        kept: the kept blocks in the base's numbering.

    Raises:
        FactoryError: they differ.
    """
    result = read_checkpoint(pruned)
    _same_bytes(base, result, kept)
    if base.row.listed:
        _same_kinds(base, result, kept)


def suffices(base: Checkpoint) -> bool:
    """Whether files show all there is to see: of a listed family, without settings only outputs show."""
    keyed = any(isinstance(field, Keyed) and base.config.get(key) for key, field in FIELDS.items())
    return base.row.listed and not keyed


def _same_bytes(base: Checkpoint, pruned: Checkpoint, kept: Sequence[int]) -> None:
    found = {tensor.name: tensor for tensor in pruned.tensors}
    wanted = kept_tensors(base, kept)
    if len(found) != len(wanted):
        raise different(f"it has {len(found)} tensors where {len(wanted)} should be", pruned.folder)
    for tensor in wanted:
        other = found.get(tensor.name)
        if other is None or (other.dtype, other.shape) != (tensor.dtype, tensor.shape):
            raise different(f"{tensor.name} is missing or of another shape or dtype", pruned.folder)
        with tensor.file.open("rb") as one, other.file.open("rb") as two:
            for done in range(0, tensor.size, BUFFER):
                count = min(BUFFER, tensor.size - done)
                left = os.pread(one.fileno(), count, tensor.offset + done)
                if left != os.pread(two.fileno(), count, other.offset + done):
                    raise different(f"{tensor.name} has other bytes", pruned.folder)


def _same_kinds(base: Checkpoint, pruned: Checkpoint, kept: Sequence[int]) -> None:
    one, other = resolved(base.config, base.folder), resolved(pruned.config, pruned.folder)
    for key, field in FIELDS.items():  # some models ask the config at every step, not once for each block
        if isinstance(field, Sliced) and getattr(one, key, None) is not None:
            expected = [getattr(one, key)[block] for block in kept]
            if getattr(other, key, None) != expected:
                raise different(f"its {key} is {getattr(other, key, None)}, not {expected}", pruned.folder)
    theirs, ours = _kinds(one), _kinds(other)
    for place, block in enumerate(kept):
        if theirs[block] != ours[place]:
            odd = next(
                name for name in sorted(theirs[block].keys() | ours[place].keys())
                if theirs[block].get(name) != ours[place].get(name)
            )  # fmt: skip
            how = f"block {place} is not of the kind of the base's block {block} ({odd})"
            raise different(how, pruned.folder)


def _kinds(config: Any) -> list[dict[str, Any]]:
    """For each block, by the name of each of its modules and parameters, what makes it the kind it is."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    kinds = []
    for block in block_list(model):
        kind: dict[str, Any] = {name: tuple(value.shape) for name, value in block.named_parameters()}
        for name, module in block.named_modules():
            kind[f"{name}:"] = (type(module).__name__, _settings(vars(module)))
        kinds.append(kind)
    return kinds


def _settings(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    plain = (bool, int, float, str, type(None))
    return tuple(
        (name, value)
        for name, value in sorted(values.items())
        if isinstance(value, plain) and name not in _PLACE and not name.startswith("_")
    )
