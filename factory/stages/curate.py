"""Curate: which rows of a dataset are trained on, and in which order; regenerate and train read the result.

Planned for a dataset whose recipe asks for it. In one pass over the rows those go that share text with the
scored benchmarks (`factory/data/overlap.py`), of the rest those that stand there twice but the first
(`factory/data/duplicates.py`); what is left is written as parquet shards, in file order or in one drawn
under a seed (`factory/data/row_order.py`). Every removed row is in `removed.jsonl`, with the reason. All
rows are read, however many a recipe takes: another number of rows redoes nothing here. Memory: the
benchmarks' words, 16 bytes a row for duplicates, and some thousand rows.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from factory import prompts
from factory.data.duplicates import COMPARED, FirstRows, Same, digest
from factory.data.files import split_files
from factory.data.overlap import Benchmarks, Shared
from factory.data.reading import stored_rows
from factory.data.row_order import ByRank, Order, rank
from factory.data.rows import CURATED, DataSpec, numbered_rows
from factory.errors import FactoryError
from factory.stages import Frozen, Progress, shards
from factory.tasks import rows as benchmark_rows
from factory.tasks.suites import SUITES
from factory.wording import counted

VERSION = 2
LIBRARIES = ("numpy", "pyarrow")

REMOVED = "removed.jsonl"
SHARD = 5_000  # rows
BATCH = 1_000  # rows that are compared at once
EXAMPLES = 3  # of each reason, in the record
BEGINS = 200  # characters of a removed row that are told
COLUMNS = {
    "instruction": ("string", "the task"),
    "context": ("string", "further input, may be empty; of a chat the turns before, as JSON"),
    "response": ("string", "the response of the source dataset"),
    "answer": ("string", "the answer alone, may be empty"),
    "row": ("int64", "the row's place in the source dataset, from 0"),
}


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the dataset, without a number of rows.
        deduplicate: by what rows count as the same; None keeps them all.
        overlap: remove rows that share so many words in a row with a benchmark; None keeps them.
        suite: of the benchmarks.
        tasks: of that suite.
        versions: of each task's definition.
        order: `file`, or `random` under the seed.
        seed: of that order.
    """

    data: DataSpec
    deduplicate: Same | None = None
    overlap: int | None = Field(default=None, ge=1)
    suite: str | None = None
    tasks: tuple[str, ...] = ()
    versions: dict[str, int] = Field(default_factory=dict)
    order: Order = "file"
    seed: int = 0


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes data/train-*.parquet, removed.jsonl, curated.json and a README.

    Args:
        settings: see `Settings`.
        inputs: `data`, a dataset folder; with `overlap`, `data.<task>` for every task.
        out: what an interrupted run left there is thrown away.
        progress: told the rows read.

    Returns:
        Rows read and left; those removed as duplicates and as overlaps, the latter by task; how many
        documents each task has and how many of them were met; some removed rows of each reason.

    Raises:
        FactoryError: the dataset or a benchmark cannot be read, or no row is left.
    """
    for left in out.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    benchmarks = Benchmarks(_documents(settings, inputs), settings.overlap) if settings.overlap else None
    sieve = _Sieve(settings, benchmarks)
    files = split_files(inputs["data"], settings.data.config, settings.data.split, str(inputs["data"]))
    total = stored_rows(files)

    def kept() -> Iterator[tuple[int, dict[str, str]]]:
        with (out / REMOVED).open("w", encoding="utf-8") as removed:
            rows = numbered_rows(inputs["data"], settings.data)
            progress(0, total or 0, "rows")
            while batch := list(islice(rows, BATCH)):
                left, gone = sieve.sift(batch)
                removed.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in gone)
                yield from left
                progress(sieve.read, total or sieve.read, "rows", f"{sieve.removed:,} removed")

    rows = _write(out, _ordered(settings, kept(), out / "order"))
    if not rows:
        what = f"no row of dataset '{settings.data.name}' is left: {counted(sieve.removed, 'row')} removed"
        mend = f"See {REMOVED} in the step's folder, or leave `overlap` or `deduplicate` out"
        raise FactoryError(what, where=str(inputs["data"]), mend=mend)
    facts = {"rows_read": sieve.read, "rows": rows, **sieve.facts()}
    told = {key: facts[key] for key in ("rows_read", "rows", "duplicates", "overlaps")}
    (out / CURATED).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shards.card(out, f"{settings.data.name}, curated", _made(settings), COLUMNS, ("count", "rows"), told)
    return facts


def _documents(settings: Settings, inputs: Mapping[str, Path]) -> Iterator[tuple[str, str, Any]]:
    """All documents of the scored splits, whatever a limit leaves of them in a run."""
    for name in settings.tasks:
        task = SUITES[str(settings.suite)][name]
        # A limit of 1 only says that not all of a suite's subjects must be there.
        for found in benchmark_rows.read(task, inputs[f"data.{name}"], 0, 1):
            yield name, found.group, found.scored


class _Sieve:
    """Sorts rows into those that stay and those that go, and counts."""

    def __init__(self, settings: Settings, benchmarks: Benchmarks | None) -> None:
        self.read = 0
        self._settings, self._benchmarks = settings, benchmarks
        self._first = FirstRows()
        self._duplicates = 0
        self._overlaps: Counter[str] = Counter()
        self._met: dict[str, set[tuple[str, int]]] = {}
        self._examples: dict[str, list[dict[str, Any]]] = {"duplicate": [], "overlap": []}

    @property
    def removed(self) -> int:
        """Rows that went."""
        return self._duplicates + self._overlaps.total()

    def sift(
        self, batch: Sequence[tuple[int, dict[str, str]]]
    ) -> tuple[list[tuple[int, dict[str, str]]], list[dict[str, Any]]]:
        """The numbered rows that stay, and what is told of the others."""
        self.read += len(batch)
        gone: dict[int, dict[str, Any]] = {}
        # Overlaps go first: the first of two rows must not go for a benchmark after the second went for it.
        for (index, row), shared in zip(batch, self._shared(batch), strict=True):
            if shared:
                gone[index] = self._overlapping(index, row, shared)
        left = [(index, row) for index, row in batch if index not in gone]
        if same := self._settings.deduplicate:
            digests = [digest(row, same) for _, row in left]
            firsts = self._first.first(digests, [index for index, _ in left])
            for (index, row), first in zip(left, firsts, strict=True):
                if first != index:
                    gone[index] = self._twice(index, row, first)
            left = [(index, row) for index, row in left if index not in gone]
        return left, [gone[index] for index in sorted(gone)]

    def _shared(self, batch: Sequence[tuple[int, dict[str, str]]]) -> Iterable[Shared | None]:
        if self._benchmarks is None:
            return [None] * len(batch)
        return self._benchmarks.find([(_asked(row, self._settings), row["response"]) for _, row in batch])

    def _overlapping(self, index: int, row: Mapping[str, str], shared: Shared) -> dict[str, Any]:
        self._overlaps[shared.task] += 1
        self._met.setdefault(shared.task, set()).add((shared.group, shared.document))
        return self._told({"row": index, "why": "overlap", **asdict(shared)}, row)

    def _twice(self, index: int, row: Mapping[str, str], first: int) -> dict[str, Any]:
        self._duplicates += 1
        return self._told({"row": index, "why": "duplicate", "first": first}, row)

    def _told(self, gone: dict[str, Any], row: Mapping[str, str]) -> dict[str, Any]:
        told = {**gone, "begins": row["instruction"][:BEGINS]}
        examples = self._examples[gone["why"]]
        if len(examples) < EXAMPLES:
            examples.append(told)
        return told

    def facts(self) -> dict[str, Any]:
        """The counts, and some examples."""
        counts = self._benchmarks.counts if self._benchmarks else {}
        return {
            "duplicates": self._duplicates,
            "overlaps": self._overlaps.total(),
            "overlaps_by_task": {task: self._overlaps[task] for task in counts},
            "documents": counts,
            "documents_met": {task: len(self._met.get(task, ())) for task in counts},
            "examples": [one for examples in self._examples.values() for one in examples],
        }


def _asked(row: Mapping[str, str], settings: Settings) -> str:
    """Instruction and context as one text; of a chat, the turns before without their roles."""
    context = row["context"]
    if settings.data.prompt == prompts.CHAT and context:
        with contextlib.suppress(ValueError):  # is told by the stage that renders it
            context = "\n".join(turn["content"] for turn in prompts.turns(context))
    return f"{row['instruction']}\n{context}"


def _ordered(
    settings: Settings, rows: Iterable[tuple[int, dict[str, str]]], folder: Path
) -> Iterator[dict[str, Any]]:
    """The rows with their numbers, in the order asked for."""
    numbered = ((index, {**row, "row": index}) for index, row in rows)
    if settings.order == "file":
        yield from (row for _, row in numbered)
        return
    drawn = ByRank(folder)
    for index, row in numbered:
        drawn.add(rank(settings.seed, index), row)
    yield from drawn.rows()
    shutil.rmtree(folder, ignore_errors=True)


def _write(out: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Writes the shards; how many rows."""
    written = number = 0
    while shard := list(islice(rows, SHARD)):
        shards.write(out, number, shard, COLUMNS)
        written, number = written + len(shard), number + 1
    return written


def _made(settings: Settings) -> str:
    said = []
    if settings.overlap:
        tasks = ", ".join(settings.tasks)
        said.append(f"Rows that share {settings.overlap} words in a row with {tasks} are removed.")
    if settings.deduplicate:
        parts = " and ".join(COMPARED[settings.deduplicate])
        said.append(f"Of rows with the same {parts} the first stays.")
    if settings.order == "random":
        said.append(f"The order is drawn under the seed {settings.seed}.")
    return " ".join(said)
