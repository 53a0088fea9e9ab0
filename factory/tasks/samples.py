"""What a model answered, document by document: kept as it comes, and at the end one parquet file a task.

Written by the evaluate stage, read by the report. While a task is being scored its rows are appended to
`<task>.jsonl`, a line a document, so that whoever is killed loses the batch in hand and no more. Once
all are there they become `<task>.parquet`, in dataset order, and the lines go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One scored document.

    Attributes:
        index: its row in the scored split.
        score: 0 to 1, by the task's metric.
        group: its MMLU subject, else the task.
        prediction: the choice or the generated text that was scored.
        gold: the right answer.
        correct: whether it was answered rightly; of mc2, whether more than half of the model's mass on the
            choices is on true ones.
        logprobs: of each choice in order; None for generated text.
        text: what was generated; None for choices.
        prompt: hash of all that the model read before the answer, see `prompt_hash`.
        cut: tokens cut from the left of the prompt because the model is too short for it.
    """

    index: int
    score: float
    group: str
    prediction: str
    gold: str
    correct: bool | None
    logprobs: tuple[float, ...] | None
    text: str | None
    prompt: str
    cut: int

    @property
    def place(self) -> tuple[str, int]:
        """What tells it from all others of its task."""
        return self.group, self.index


def prompt_hash(contexts: Sequence[str]) -> str:
    """16 hex digits over the rendered contexts of a document, shots and instruction included."""
    return hashlib.sha256("\0".join(contexts).encode()).hexdigest()[:16]


class Journal:
    """The rows of one task as they come.

    Args:
        path: the file of lines; what an interrupted run left there is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: Any = None

    def read(self) -> list[Sample]:
        """The rows that are there, each once. A last line that was torn goes, with all behind it."""
        found: dict[tuple[str, int], Sample] = {}
        whole = 0
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        for line in content.splitlines(keepends=True):
            try:
                row = json.loads(line)
                logprobs = row["logprobs"]
                sample = Sample(**{**row, "logprobs": None if logprobs is None else tuple(logprobs)})
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n"):
                break
            found[sample.place] = sample
            whole += len(line)
        if whole < len(content):
            with self.path.open("rb+") as stream:
                stream.truncate(whole)
        return list(found.values())

    def write(self, samples: Iterable[Sample]) -> None:
        """Append rows; once this returns, a kill of the process does not lose them."""
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("ab")
        lines = (json.dumps(asdict(sample), allow_nan=False) for sample in samples)
        self._stream.write("".join(f"{line}\n" for line in lines).encode())
        self._stream.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def write_parquet(samples: Iterable[Sample], path: Path, told: Mapping[str, str] | None = None) -> None:
    """One row a sample, whole or not at all: what is there counts as done after an interruption.

    `told` goes into the file's own metadata, by key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "index": pa.int64(),
        "score": pa.float64(),
        "group": pa.string(),
        "prediction": pa.string(),
        "gold": pa.string(),
        "correct": pa.bool_(),
        "logprobs": pa.list_(pa.float64()),
        "text": pa.string(),
        "prompt": pa.string(),
        "cut": pa.int64(),
    }
    rows = [asdict(sample) for sample in samples]
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()), metadata=dict(told or {})))
    _write_whole(path, lambda place: pq.write_table(table, place))


def sign(path: Path, key: str) -> None:
    """Puts the key of the scores into a file's metadata: whose answers they are, wherever it goes.

    Safe to be interrupted in and to be done again.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    told = {**(table.schema.metadata or {}), b"factory.key": json.dumps(key).encode()}
    if told != table.schema.metadata:
        _write_whole(path, lambda place: pq.write_table(table.replace_schema_metadata(told), place))


def read_parquet(path: Path) -> list[Sample]:
    """The rows of a file that `write_parquet` wrote, in its order."""
    import pyarrow.parquet as pq

    names = [field.name for field in fields(Sample)]
    rows = pq.read_table(path, columns=names).to_pylist()
    return [
        Sample(**{**row, "logprobs": None if row["logprobs"] is None else tuple(row["logprobs"])})
        for row in rows
    ]


def write_text(path: Path, text: str) -> None:
    """A text file that is whole or absent."""
    _write_whole(path, lambda place: place.write_text(text, encoding="utf-8"))


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    write(beside)
    beside.replace(path)
