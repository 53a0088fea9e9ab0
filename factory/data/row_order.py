"""The order of a dataset's rows: by chance under a seed, such that every beginning is a sample of its own.

Curate writes whole datasets so, drift and respond draw their prompts so (`drawn`).

The stage curate writes rows in it, and whoever takes the first n has n drawn rows; the first 4,000 hold the
first 1,000. A row's rank depends on the seed and its place in the files alone, so removing some rows, or
adding others behind, leaves the rest in their order.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

Order = Literal["file", "random"]
_MASK = 2**64 - 1
_BUCKETS_BITS = 8
Row = TypeVar("Row")

UNSEEN = 0
"""The seed under which prompts of a split that trains nothing are drawn: the same for all that ask there, and
for all seeds of a recipe, so that answers can be compared and taken over."""


def rank(seed: int, row: int) -> int:
    """Where a row stands by chance: 0 <= value < 2**64, no two rows of a seed the same.

    SplitMix64's output for the counter `row` (Steele, Lea & Flood 2014): a bijection, the same everywhere.
    """
    value = (seed * 0xD1342543DE82EF95 + (row + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def drawn(rows: Iterable[tuple[int, Row]], seed: int, count: int) -> list[tuple[int, Row]]:
    """So many rows of the least rank, or all, in file order; no more than those are in memory.

    Args:
        rows: with their place in the files.
        seed: of the draw.
        count: at least 1.
    """
    # The highest rank stands first and gives way; no two ranks are the same, so no rows are compared.
    kept: list[tuple[int, int, Row]] = []
    for place, row in rows:
        entry = (-rank(seed, place), place, row)
        if len(kept) < count:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    return sorted(((place, row) for _, place, row in kept), key=lambda entry: entry[0])


class ByRank:
    """Rows in any order in, by rank out. In memory are `held` rows, and at the end a 256th of all.

    Args:
        folder: for what does not fit into memory; made where it is needed, for the caller to remove.
        held: rows kept in memory.
    """

    def __init__(self, folder: Path, held: int = 20_000) -> None:
        self._folder, self._most, self._held = folder, held, 0
        self._buckets: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in range(1 << _BUCKETS_BITS)]

    def add(self, rank: int, row: dict[str, Any]) -> None:
        """Takes a row."""
        self._buckets[rank >> (64 - _BUCKETS_BITS)].append((rank, row))
        self._held += 1
        if self._held >= self._most:
            self._put_away()

    def _put_away(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, bucket in enumerate(self._buckets):
            with self._path(number).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in bucket)
            bucket.clear()
        self._held = 0

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:03}.jsonl"

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, least rank first."""
        for number, bucket in enumerate(self._buckets):
            entries = bucket
            if self._path(number).exists():
                with self._path(number).open(encoding="utf-8") as file:
                    entries = [*map(json.loads, file), *bucket]
            yield from (row for _, row in sorted(entries, key=lambda entry: entry[0]))
