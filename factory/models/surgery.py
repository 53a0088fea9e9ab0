"""Writes a checkpoint without some of its blocks: streaming, safetensors to safetensors, no model built.

Between checkpoint.py, which reads, and proof.py, which shows that the result is right. Dropping and
renumbering blocks is a new header and a copy of byte ranges, so every dtype survives bit for bit, memory
stays at one buffer whatever the model's size, and the kernel copies what it can without showing it to us.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.blocks import spans
from factory.models.carried import beside, carry
from factory.models.checkpoint import INDEX, SINGLE, Checkpoint, read_checkpoint
from factory.models.headers import StoredTensor, header_bytes
from factory.models.kernel_copy import Copier
from factory.models.per_block import LEFT_OUT, pruned_config

SHARD_BYTES = 5 * 10**9

Copied = Callable[[int, int], None]


@dataclass(frozen=True)
class Dropped:
    """What `drop_blocks` did.

    Attributes:
        blocks: the removed blocks, in the base's numbering.
        kept: the kept ones, in the base's numbering: entry i is block i of the pruned model.
        base_parameters: numbers of elements, a tied head counted once, stored buffers not at all.
        pruned_parameters: the same of the pruned model.
        written: bytes of tensors written.
        carried: names of the files and folders copied as they are.
        left: names of those of the base that were not.
        left_out: what of the base's config.json is not in the pruned one's.
    """

    blocks: tuple[int, ...]
    kept: tuple[int, ...]
    base_parameters: int
    pruned_parameters: int
    written: int
    carried: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def drop_blocks(
    source: Path,
    out: Path,
    drop: Iterable[int],
    *,
    shard_bytes: int = SHARD_BYTES,
    copied: Copied = lambda done, total: None,
) -> Dropped:
    """Writes the model in `source` without the blocks in `drop` into `out`, as a stock folder.

    The blocks behind a gap are renumbered, config fields with something per block are rewritten so that each
    kept block keeps its kind, and tokenizer, generation config, chat template and licence are carried along.

    Args:
        source: stock folder with config.json and safetensors.
        out: folder to write; made if absent.
        drop: the blocks to remove, 0-based, in any order; a run is `range(start, stop)`.
        shard_bytes: bound on a written file's tensor bytes; a larger single tensor has a file of its own.
        copied: called with (bytes copied, bytes in all).

    Raises:
        FactoryError: an impossible drop, a checkpoint that cannot be understood (see `read_checkpoint`), a
            drop that its config cannot express, or too small a disk. Nothing is written then.
    """
    base = read_checkpoint(source)
    gone = tuple(sorted(set(drop)))
    check_drop(gone, base.blocks, source)
    _check_shared(base, gone)
    kept = tuple(block for block in range(base.blocks) if block not in gone)
    config = pruned_config(base.config, base.row, source, kept)
    tensors = kept_tensors(base, kept)
    parameters = base.count(tensors)
    if not base.row.listed:
        from factory.models.beyond import parameters_left  # it builds the model, which takes seconds

        parameters = parameters_left(config, source)
    total = sum(tensor.size for tensor in tensors)
    others = beside(source, {INDEX, *(tensor.file.name for tensor in base.tensors)})
    _check_room(out, total)
    out.mkdir(parents=True, exist_ok=True)
    write_weights(tensors, out, shard_bytes=shard_bytes, copied=copied)
    carry(others, out)
    _write_json(out / "config.json", config)
    return Dropped(
        gone,
        kept,
        base.parameters,
        parameters,
        total,
        carried=tuple(path.name for path in others.carried),
        left=others.left,
        left_out=tuple(key for key in LEFT_OUT if base.config.get(key)),
    )


def check_drop(drop: Sequence[int], blocks: int, where: Path) -> None:
    """Refuses to remove blocks that are not there, none, or all.

    Raises:
        FactoryError: so it is.
    """
    if drop and drop[0] >= 0 and drop[-1] < blocks and len(drop) < blocks:
        return
    if blocks == 1:
        what, mend = "the model has a single block, which cannot be removed", "Use a deeper model"
    else:
        asked = f"block{'s' * (len(drop) > 1)} {spans(drop)}" if drop else "no blocks"
        what = f"{asked} cannot be removed from {blocks} blocks, 0 to {blocks - 1}"
        mend = f"Drop between 1 and {blocks - 1} blocks"
    raise FactoryError(what, where=str(where), mend=mend)


def _check_shared(base: Checkpoint, gone: Sequence[int]) -> None:
    """Refuses to drop a block that holds, for itself and for kept blocks, weights which are stored once."""
    for holder, users in base.row.shared.items():
        left = [block for block in users if block not in gone]
        if holder in gone and left:
            users_left = f"block{'s' * (len(left) > 1)} {spans(left)}"
            what = f"{users_left} would lose weights that are stored once for several, in block {holder}"
            raise FactoryError(what, where=str(base.folder), mend=f"Keep block {holder}, or drop those too")


def kept_tensors(base: Checkpoint, kept: Sequence[int]) -> list[StoredTensor]:
    """The tensors of the pruned model, under their new names, each with the place it lies in the base."""
    places = {block: place for place, block in enumerate(kept)}
    tensors = []
    for tensor in base.tensors:
        block = base.row.block_of(tensor.name)
        if block is None:
            tensors.append(tensor)
        elif block in places:
            tensors.append(replace(tensor, name=base.row.renamed(tensor.name, places[block])))
    return tensors


def write_weights(
    tensors: Sequence[StoredTensor],
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    copied: Copied = lambda done, total: None,
) -> None:
    """Copies tensors, under the names they carry, into one safetensors file or into shards with an index.

    Args:
        tensors: what to write, with the place each is read from.
        out: an existing folder.
        shard_bytes: bound on the tensor bytes of a file.
        copied: called with (bytes copied, bytes in all).

    Raises:
        FactoryError: a source file became shorter while it was read.
    """
    shards: list[list[StoredTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size
    total = sum(tensor.size for tensor in tensors)
    names = [SINGLE]
    if len(shards) > 1:
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        weight_map = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
        metadata = {"total_size": total, "total_parameters": sum(tensor.count for tensor in tensors)}
        _write_json(out / INDEX, {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})
    copier = Copier(lambda done: copied(done, total))
    for name, shard in zip(names, shards, strict=True):
        _write_shard(out / name, shard, copier)


def _write_shard(path: Path, tensors: Sequence[StoredTensor], copier: Copier) -> None:
    # Wide elements first keeps every tensor aligned to its own element size, as the format asks. The sort
    # is stable, so tensors of one width stay neighbours and are copied in long runs.
    ordered = sorted(tensors, key=lambda tensor: -(tensor.size // max(tensor.count, 1)))
    with path.open("wb") as target:
        target.write(header_bytes(ordered))
        target.flush()
        runs: list[tuple[Path, int, int]] = []  # file, offset, size
        for tensor in ordered:
            file, offset, size = runs[-1] if runs else (None, 0, 0)
            if tensor.file == file and tensor.offset == offset + size:
                runs[-1] = (file, offset, size + tensor.size)
            else:
                runs.append((tensor.file, tensor.offset, tensor.size))
        for file, offset, size in runs:
            with file.open("rb") as origin:
                copier.append(origin, offset, size, target)


def _check_room(out: Path, wanted: int) -> None:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise FactoryError(
            f"the pruned model needs {wanted / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left",
            where=str(out),
            mend="Make room, or name a folder on another disk",
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
