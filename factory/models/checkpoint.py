"""Surgery on safetensors folders without building a model: read, count, drop blocks, carry files along.

Stands under the prune and merge stages. A safetensors file is eight bytes of header length, a JSON
header {name: {dtype, shape, data_offsets}} and the tensors' raw bytes; dropping and renumbering blocks
is therefore a new header and a copy of byte ranges. No tensor is ever decoded, so every dtype survives
bit for bit and memory stays at one copy buffer, whatever the model's size.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import Architecture, architecture_of, block_count

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
COPY_BUFFER = 16 * 2**20

# What makes a folder a stock model besides config and weights. The base's README is left behind: it
# describes another model.
CARRIED = (
    "generation_config.json", "tokenizer*", "*.tiktoken", "vocab.*", "merges.txt", "added_tokens.json",
    "special_tokens_map.json", "chat_template*", "additional_chat_templates", "LICENSE*", "NOTICE*",
    "USE_POLICY*",
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `size` bytes at `offset` (from the start of `file`)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    size: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Dropped:
    """What `drop_blocks` did, in parameters: numbers of elements, a tied head counted once."""

    base_parameters: int
    pruned_parameters: int


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a model folder.

    Raises:
        FactoryError: the folder or the file is missing, or is no JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FactoryError(
            "there is no config.json", where=str(folder), mend="Name a folder written by save_pretrained"
        ) from None
    except ValueError as error:
        raise FactoryError(f"not JSON ({error})", where=str(path), mend="Fetch the model again") from None
    if not isinstance(config, dict):
        raise FactoryError("not a JSON object", where=str(path), mend="Fetch the model again")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, in the order of their names.

    Raises:
        FactoryError: none are there (also where the weights are pickles), or a shard is missing.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FactoryError(
                "the index is broken", where=str(index), mend="Fetch the model again"
            ) from None
    else:
        names = [SINGLE]
    files = [folder / name for name in names]
    for file in files:
        if file.is_file():
            continue
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            what, mend = (
                "the weights are pickle files",
                "Save the model again with safetensors (save_pretrained)",
            )
        else:
            what, mend = f"the weights file {file.name} is missing", "Fetch the model again"
        raise FactoryError(what, where=str(folder), mend=mend)
    return files


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Every tensor of a model folder, read from the headers alone, in file and offset order.

    Raises:
        FactoryError: no safetensors, a header that cannot be read, or a file cut short.
    """
    return [tensor for file in weight_files(folder) for tensor in _header(file)]


def _header(file: Path) -> list[StoredTensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > size:
                raise ValueError("header longer than the file")
            header = json.loads(handle.read(length))
        start = 8 + length
        tensors = [
            StoredTensor(name, row["dtype"], tuple(row["shape"]), file, start + begin, end - begin)
            for name, row in header.items()
            if name != "__metadata__"
            for begin, end in [row["data_offsets"]]
        ]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FactoryError(
            f"not a safetensors file ({error})", where=str(file), mend="Fetch the model again"
        ) from None
    end = max((tensor.offset + tensor.size for tensor in tensors), default=start)
    if end != size:
        raise FactoryError(
            f"the file has {size} bytes where its header says {end}",
            where=str(file),
            mend="Fetch the model again",
        )
    return sorted(tensors, key=lambda tensor: tensor.offset)


def parameter_count(folder: Path) -> int:
    """Number of parameters of a model folder, from the headers; a tied head counts once.

    Raises:
        FactoryError: as `read_config`, `stored_tensors`, `architecture_of`.
    """
    config = read_config(folder)
    row = architecture_of(config, folder)
    return _parameters(stored_tensors(folder), config, row)


def _parameters(tensors: Iterable[StoredTensor], config: dict[str, Any], row: Architecture) -> int:
    tied = bool(config.get("tie_word_embeddings"))
    return sum(
        tensor.count
        for tensor in tensors
        if not tensor.name.endswith(row.buffers) and not (tied and tensor.name == "lm_head.weight")
    )


def stored_dtype(folder: Path) -> str:
    """The dtype that most of the weights' bytes have, in torch's words, such as `bfloat16`.

    Raises:
        FactoryError: no safetensors, or weights that are not plain floats.
    """
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    sizes: dict[str, int] = {}
    for tensor in stored_tensors(folder):
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    most = max(sizes, key=lambda dtype: sizes[dtype], default="nothing")
    if most not in names:
        raise FactoryError(
            f"the weights are stored as {most}",
            where=str(folder),
            mend=f"Use a checkpoint in {', '.join(names.values())}",
        )
    return names[most]


def drop_blocks(
    source: Path,
    out: Path,
    start: int,
    stop: int,
    *,
    shard_bytes: int = SHARD_BYTES,
    copied: Callable[[int, int], None] = lambda done, total: None,
) -> Dropped:
    """Writes the model in `source` without its blocks [start, stop) into `out`, as a stock folder.

    The blocks behind the gap are renumbered, config lists with an entry a block are sliced, tokenizer,
    generation config, chat template and licence are carried along. Peak memory: `COPY_BUFFER`.

    Args:
        source: stock folder with config.json and safetensors.
        out: folder to write; made if absent.
        start: first block removed, 0-based.
        stop: first block kept again (half-open).
        shard_bytes: bound on a written file's tensor bytes; a larger single tensor has a file of its own.
        copied: called with (bytes copied, bytes in all).

    Raises:
        FactoryError: an impossible range, a family that `architectures` does not know, or a checkpoint
            whose tensors are not those its config promises.
    """
    config = read_config(source)
    row = architecture_of(config, source)
    blocks = block_count(config, row, source)
    if not (0 <= start < stop <= blocks and stop - start < blocks):
        raise FactoryError(
            f"blocks [{start}, {stop}) cannot be removed from {blocks} blocks",
            where=str(source),
            mend=f"Drop between 1 and {blocks - 1} blocks",
        )
    tensors = stored_tensors(source)
    _check_names(tensors, row, blocks, source)
    kept: list[StoredTensor] = []
    for tensor in tensors:
        block = row.block_of(tensor.name)
        if block is None or block < start:
            kept.append(tensor)
        elif block >= stop:
            kept.append(replace(tensor, name=row.renamed(tensor.name, block - (stop - start))))
    out.mkdir(parents=True, exist_ok=True)
    write_weights(kept, out, shard_bytes=shard_bytes, copied=copied)
    _write_json(out / "config.json", _pruned_config(config, row, source, start, stop))
    carry_files(source, out)
    return Dropped(_parameters(tensors, config, row), _parameters(kept, config, row))


def _check_names(tensors: list[StoredTensor], row: Architecture, blocks: int, where: Path) -> None:
    """Refuses a checkpoint with other tensors than the family has: what is not understood is not cut."""
    found = set()
    for tensor in tensors:
        block = row.block_of(tensor.name)
        if block is not None:
            found.add(block)
        elif tensor.name not in row.outer:
            raise FactoryError(
                f"the checkpoint holds {tensor.name}, which no stock {row.model_type} has",
                where=str(where),
                mend=f"Save it again from {row.causal_lm}",
            )
    if found != set(range(blocks)):
        raise FactoryError(
            f"config.json promises {blocks} blocks, the weights hold {len(found)}",
            where=str(where),
            mend="Fetch the model again",
        )


def _pruned_config(
    config: dict[str, Any], row: Architecture, source: Path, start: int, stop: int
) -> dict[str, Any]:
    pruned = dict(config)
    pruned[row.count] = config[row.count] - (stop - start)
    for key in row.per_block:
        entries = config.get(key)
        if entries is None:
            # An older config derives the list from the block's index, which pruning changes: let the
            # library derive it for the whole model, then write it out.
            from transformers import AutoConfig

            entries = getattr(AutoConfig.from_pretrained(source), key)
        if len(entries) != config[row.count]:
            raise FactoryError(
                f"{key} has {len(entries)} entries for {config[row.count]} blocks",
                where=str(source / "config.json"),
                mend="Fetch the model again",
            )
        pruned[key] = [*entries[:start], *entries[stop:]]
    return pruned


def write_weights(
    tensors: list[StoredTensor],
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    copied: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copies tensors, under the names they carry, into one safetensors file or into shards with an index.

    Args:
        tensors: what to write, with the place each is read from.
        out: an existing folder.
        shard_bytes: bound on the tensor bytes of a file.
        copied: called with (bytes copied, bytes in all).
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
    done = 0
    for name, shard in zip(names, shards, strict=True):
        done = _write_shard(out / name, shard, done, lambda bytes_done: copied(bytes_done, total))


def _write_shard(path: Path, tensors: list[StoredTensor], done: int, copied: Callable[[int], None]) -> int:
    # Wide elements first keeps every tensor aligned to its own element size, as the format asks.
    tensors = sorted(tensors, key=lambda tensor: -(tensor.size // max(tensor.count, 1)))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        offsets = [end, end + tensor.size]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        end += tensor.size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as target:
        target.write(struct.pack("<Q", len(head)) + head)
        for tensor in tensors:
            with tensor.file.open("rb") as origin:
                origin.seek(tensor.offset)
                left = tensor.size
                while left:
                    chunk = origin.read(min(left, COPY_BUFFER))
                    if not chunk:
                        raise FactoryError(
                            "the file was cut short while it was read",
                            where=str(tensor.file),
                            mend="Fetch the model again",
                        )
                    target.write(chunk)
                    left -= len(chunk)
                    done += len(chunk)
                    copied(done)
    return done


def carry_files(source: Path, out: Path) -> None:
    """Copies tokenizer, generation config, chat template and licence files (`CARRIED`) as they are."""
    for pattern in CARRIED:
        for path in sorted(source.glob(pattern)):
            if path.is_dir():
                shutil.copytree(path, out / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, out / path.name)


def follow_umask(folder: Path) -> None:
    """Gives weights the permissions of any other new file, in `folder` and below.

    The safetensors library writes through a private temporary file, so what it saves is readable by its
    owner alone (mode 0600): no colleague could load the model.
    """
    mask = os.umask(0o077)  # the only way to read it
    os.umask(mask)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
