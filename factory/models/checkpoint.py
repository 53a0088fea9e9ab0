"""Reads a stock model folder without building a model: config, weights' headers, and what comes along.

Stands under the stages and under surgery.py, which writes. What is understood here is what stock
transformers would load; anything else is refused before a byte is copied.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import Architecture, architecture_of, block_count
from factory.models.carried import readable
from factory.models.fields import FIELDS, Behind
from factory.models.headers import StoredTensor, read_header
from factory.models.refused import refuse_foreign, refuse_quantised

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_AGAIN = "Fetch the model again"


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a model folder.

    Raises:
        FactoryError: the folder or the file is missing, cannot be read, or is no JSON object.
    """
    path = folder / "config.json"
    if path.exists():
        readable(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FactoryError(
            "there is no config.json", where=str(folder), mend="Name a folder written by save_pretrained"
        ) from None
    except IsADirectoryError:
        raise FactoryError("this is a folder, not a file", where=str(path), mend=_AGAIN) from None
    except ValueError as error:
        marked = path.read_bytes().startswith(codecs.BOM_UTF8)
        mend = "Save it without the byte order mark, which transformers refuses too" if marked else _AGAIN
        raise FactoryError(f"not JSON ({error})", where=str(path), mend=mend) from None
    if not isinstance(config, dict):
        raise FactoryError("not a JSON object", where=str(path), mend="Fetch the model again")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that stock transformers would read, in the order of their names.

    Raises:
        FactoryError: none are there (also where the weights are pickles), the index is broken or leads out
            of the folder, or a shard is missing.
    """
    # A single file wins over an index beside it, as in transformers (_get_resolved_checkpoint_files).
    sharded = not (folder / SINGLE).is_file() and (folder / INDEX).is_file()
    files = [folder / name for name in sorted(set(_weight_map(folder).values()))] if sharded else []
    for file in files or [folder / SINGLE]:
        if file.is_file():
            readable(file)
            continue
        variants = sorted(path.name for path in folder.glob("model.*.safetensors"))
        if not sharded and (any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))):
            what, mend = (
                "the weights are pickle files",
                "Save the model again with safetensors (save_pretrained)",
            )
        elif not sharded and variants:
            what = (
                f"there are no weights but a variant, {variants[0]}, which is not loaded unless it is named"
            )
            mend = f"Load it with variant={variants[0].split('.')[1]!r} and save the model again"
        else:
            named = f", though {INDEX} names it" if sharded else ""
            what, mend = f"the weights file {file.name} is missing{named}", "Fetch the model again"
        raise FactoryError(what, where=str(folder), mend=mend)
    return files or [folder / SINGLE]


def _weight_map(folder: Path) -> dict[str, str]:
    """The index: the shard's name for every tensor."""
    index = folder / INDEX
    readable(index)
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = content["weight_map"]
        odd = [name for name in names.values() if name != Path(name).name or ".safetensors" not in name]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FactoryError("the index is broken", where=str(index), mend="Fetch the model again") from None
    if not names:
        raise FactoryError("the index names no tensor", where=str(index), mend="Fetch the model again")
    if odd:
        raise FactoryError(
            f"the index names {odd[0]!r}, which is no safetensors file of this folder",
            where=str(index),
            mend="Fetch the model again, from a source you trust",
        )
    if not isinstance(content.get("metadata"), dict):  # it reads it unasked
        raise FactoryError(
            "the index has no metadata, without which transformers does not load the model",
            where=str(index),
            mend='Fetch the model again, or write "metadata": {} into the index',
        )
    return dict(names)


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """Every tensor of a model folder, read from the headers alone, in file and offset order.

    Raises:
        FactoryError: no safetensors, a header that cannot be read, a file cut short, a tensor stored twice,
            or one that the index promises and its file lacks.
    """
    files = weight_files(folder)
    tensors = [tensor for file in files for tensor in read_header(file)]
    found: dict[str, StoredTensor] = {}
    for tensor in tensors:
        if tensor.name in found:
            raise FactoryError(
                f"{tensor.name} is stored twice, in {found[tensor.name].file.name} and {tensor.file.name}",
                where=str(folder),
                mend="Fetch the model again into an empty folder",
            )
        found[tensor.name] = tensor
    if files[0].name != SINGLE:
        for name, shard in _weight_map(folder).items():
            if name not in found or found[name].file.name != shard:
                raise FactoryError(
                    f"{INDEX} promises {name} in {shard}, which does not hold it",
                    where=str(folder),
                    mend="Fetch the model again",
                )
    return tensors


@dataclass(frozen=True)
class Checkpoint:
    """A model folder as far as it can be understood without building the model.

    Attributes:
        folder: where it is.
        config: its parsed config.json.
        tensors: every stored tensor, in file and offset order.
        row: its family, with the names that this checkpoint uses.
        blocks: how many blocks it has.
    """

    folder: Path
    config: dict[str, Any]
    tensors: tuple[StoredTensor, ...]
    row: Architecture
    blocks: int

    @property
    def parameters(self) -> int:
        """Number of parameters; a tied head counts once, stored buffers not at all."""
        return self.row.total if self.row.total is not None else self.count(self.tensors)

    def count(self, tensors: Iterable[StoredTensor]) -> int:
        """Number of parameters of some of its tensors."""
        return sum(tensor.count for tensor in tensors if self.row.is_parameter(tensor.name, self.config))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model folder whose blocks are to be removed.

    Raises:
        FactoryError: as `read_config`, `stored_tensors` and `architecture_of`; quantised weights; or tensors
            that are not those which the config promises.
    """
    config = read_config(folder)
    refuse_foreign(config, folder)
    if (folder / ADAPTER).exists():
        raise FactoryError(
            f"there is an adapter beside the weights ({ADAPTER}), which transformers applies to them",
            where=str(folder),
            mend="Merge it first (merge_and_unload, save_pretrained), or remove it from the folder",
        )
    tensors = stored_tensors(folder)
    refuse_quantised(tensors, folder)
    row = architecture_of(config, folder, [tensor.name for tensor in tensors])
    blocks = block_count(config, row, folder)
    extra = sum(config.get(key) or 0 for key, field in FIELDS.items() if isinstance(field, Behind))
    found = set()
    for tensor in tensors:
        block = row.block_of(tensor.name)
        if block is not None:
            found.add(block)
        elif row.outer is not None and tensor.name not in row.outer:
            raise FactoryError(
                f"the checkpoint holds {tensor.name}, which no stock {row.model_type} has",
                where=str(folder),
                mend=f"Save it again from {row.causal_lm}",
            )
    if not set(range(blocks)) <= found <= set(range(blocks + extra)):
        raise FactoryError(
            f"config.json promises {blocks} blocks, the weights hold {len(found)}",
            where=str(folder),
            mend="Fetch the model again",
        )
    return Checkpoint(folder, config, tuple(tensors), row, blocks)


def parameter_count(folder: Path) -> int:
    """Number of parameters of a model folder, from the headers; a tied head counts once.

    Raises:
        FactoryError: as `read_checkpoint`.
    """
    return read_checkpoint(folder).parameters


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


def follow_umask(folder: Path) -> None:
    """Gives weights the permissions of any other new file, in `folder` and below.

    The safetensors library writes through a private temporary file, so what it saves is readable by its
    owner alone (mode 0600): no colleague could load the model.
    """
    mask = os.umask(0o077)  # the only way to read it
    os.umask(mask)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o666 & ~mask)
