"""The header of a safetensors file: which tensors lie where. Read by checkpoint.py, written by surgery.py.

A file is eight bytes of header length, a JSON header {name: {dtype, shape, data_offsets}} and the tensors'
raw bytes, without holes. The header alone says everything that pruning needs: no tensor is ever decoded.

Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError

# The format's own bound; more is no header but noise, and would be read into memory.
LONGEST = 100_000_000
PAGE = 4096
# Bits an element.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6,
    "F6_E3M2": 6, "F4": 4, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip


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


def read_header(file: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file, in the order of their bytes.

    Raises:
        FactoryError: not a safetensors file, a name given twice, tensors that overlap or leave a hole, or a
            file that was cut short.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            if size < 8:
                raise ValueError(f"it has {size} bytes")
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > min(size, LONGEST):
                raise ValueError("header longer than the file")
            header = json.loads(handle.read(length), object_pairs_hook=_no_name_twice)
        start = 8 + length
        tensors = [
            StoredTensor(name, row["dtype"], tuple(row["shape"]), file, start + begin, end - begin)
            for name, row in header.items()
            if name != "__metadata__"
            for begin, end in [row["data_offsets"]]
        ]
        tensors.sort(key=lambda tensor: (tensor.offset, tensor.size))
        end = _checked_end(tensors, start)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"not a safetensors file ({error})"
        raise FactoryError(what, where=str(file), mend="Fetch the model again") from None
    if end != size:
        cut = "the file is cut short: it" if size < end else "the file"
        raise FactoryError(
            f"{cut} has {size:,} bytes where its header says {end:,}",
            where=str(file),
            mend="Fetch the model again",
        )
    return tensors


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"its header names {twice} twice")
    return found


def _checked_end(tensors: Sequence[StoredTensor], start: int) -> int:
    """Where the last tensor ends; every byte before it must belong to exactly one tensor."""
    end = start
    for tensor in tensors:
        if tensor.offset != end or tensor.size < 0:
            raise ValueError(f"the bytes of {tensor.name} do not follow those before")
        if tensor.dtype in BITS and tensor.count * BITS[tensor.dtype] != tensor.size * 8:
            raise ValueError(f"{tensor.name} has {tensor.size} bytes for {tensor.count} of {tensor.dtype}")
        end += tensor.size
    return end


def header_bytes(tensors: Sequence[StoredTensor]) -> bytes:
    """The first bytes of a file that holds the tensors one behind the other.

    Spaces behind the header, which the format allows, put the first tensor as far into a page as it lies in
    the file it comes from: whole pages then stay whole pages, which a kernel copies faster and some file
    systems share. Without that it is eight bytes to which the format aligns.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        offsets = [end, end + tensor.size]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        end += tensor.size
    head = json.dumps(header, separators=(",", ":")).encode()
    place = tensors[0].offset % PAGE if tensors and tensors[0].offset % 8 == 0 else 0
    head += b" " * ((place - 8 - len(head)) % PAGE)
    return struct.pack("<Q", len(head)) + head
