"""Generations on disk while regeneration works: what is done, what is still to be asked for.

Under regenerate.py, beside shards.py. A line a generation is appended to the piece of its row as it
finishes, so that a run that was killed loses the rows in work and no other. Neither the pieces nor the
dataset are ever held whole: what is in memory is one piece and the rows in work.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.data import selection
from factory.engines import Generated, Request

PIECE = 5_000
"""Rows whose generations are in one file, and rows in one shard of the result."""


@dataclass(frozen=True)
class Row:
    """A row of the dataset with what was generated for it so far, by the number of the sample."""

    index: int
    fields: dict[str, str]
    samples: dict[int, Generated]


class Journal:
    """Generations, one JSON line each, in a file for every `PIECE` rows.

    Attributes:
        tokens: generated, over all sessions; counted by `tally` and `add`, as are the others.
        seconds: that it took.
        logprob: sum of the tokens' log-probabilities, in nats; None once an engine did not tell.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens, self.seconds = 0, 0.0
        self.logprob: float | None = 0.0
        self._before = time.monotonic()

    def walk(self, rows: Iterable[dict[str, str]]) -> Iterator[Row]:
        """The rows of the dataset in file order with what was written for them before this walk came by."""
        found: dict[int, dict[int, Generated]] = {}
        for index, fields in enumerate(rows):
            if index % PIECE == 0:
                found = {}
                for line in self._lines(index // PIECE):
                    generated = Generated(**line["generated"])
                    found.setdefault(line["row"], {})[line["sample"]] = generated
            yield Row(index, fields, found.get(index, {}))

    def tally(self) -> None:
        """Counts the tokens and seconds of the sessions before this one."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in self._lines(int(path.stem)):
                self._count(Generated(**line["generated"]), line["seconds"])

    def start(self) -> None:
        """Starts the clock: what is added from here on took the time since the line before it."""
        self._before = time.monotonic()

    def add(self, row: int, sample: int, generated: Generated) -> None:
        """Writes a generation down; from here on it outlives a kill."""
        seconds = round(time.monotonic() - self._before, 6)
        self._before += seconds
        line = {"row": row, "sample": sample, "seconds": seconds, "generated": asdict(generated)}
        self.folder.mkdir(exist_ok=True)
        with self._path(row // PIECE).open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        self._count(generated, seconds)

    def _count(self, generated: Generated, seconds: float) -> None:
        self.tokens += generated.new_tokens
        self.seconds += seconds
        if self.logprob is not None:
            self.logprob = None if generated.logprob is None else self.logprob + generated.logprob

    def mean_logprob(self) -> float | None:
        """Nats a token over all that was generated; None where an engine did not tell."""
        return None if self.logprob is None or not self.tokens else self.logprob / self.tokens

    def speed(self) -> float:
        """New tokens a second, over all sessions."""
        return self.tokens / max(self.seconds, 1e-9)

    def _path(self, piece: int) -> Path:
        return self.folder / f"{piece:05}.jsonl"

    def _lines(self, piece: int) -> Iterator[dict[str, Any]]:
        """The whole lines of a piece; a last line that a kill tore is cut off."""
        path = self._path(piece)
        if not path.exists():
            return
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield json.loads(line)
        if whole < path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(whole)


@dataclass(frozen=True)
class Wanted:
    """What is to be generated for every row.

    Attributes:
        policy: how a row's response is chosen.
        check: what tells, under `best_of`, whether a sample is good enough to draw no other.
        samples: the most a row gets.
    """

    policy: selection.Policy
    check: str
    samples: int

    def next(self, row: Row) -> list[int]:
        """The samples to ask for now; none where the row has all it needs."""
        if self.policy != "best_of":
            return [sample for sample in range(self.samples) if sample not in row.samples]
        done = any(selection.settled(row.fields, generated, self.check) for generated in row.samples.values())
        return [] if done or len(row.samples) == self.samples else [len(row.samples)]


class Work:
    """Asks for what is missing and takes what comes back, in whatever order.

    A row's next sample may depend on the one before it (`best_of`), so `requests` is to be drawn from
    again until `left` is False.
    """

    def __init__(
        self, rows: Iterator[Row], wanted: Wanted, journal: Journal, request: Callable[[Row, int], Request]
    ) -> None:
        self._rows, self._wanted, self._journal, self._request = rows, wanted, journal, request
        self._working: dict[int, Row] = {}
        self._again: deque[tuple[Row, int]] = deque()
        self.left = True

    def requests(self) -> Iterator[Request]:
        """What is to be generated, as far as can be told now."""
        while True:
            if self._again:
                yield self._ask(*self._again.popleft())
            elif (row := next(self._rows, None)) is not None:
                self._again.extend((row, sample) for sample in self._wanted.next(row))
            else:
                self.left = False
                return

    def take(self, generated: Generated) -> int:
        """Writes a generation down; how many rows it finished, 0 or 1."""
        index, sample = divmod(generated.id, self._wanted.samples)
        row = self._working[index]
        self._journal.add(index, sample, generated)
        row.samples[sample] = generated
        missing = self._wanted.next(row)
        if not missing:
            del self._working[index]
            return 1
        if self._wanted.policy == "best_of":
            self._again.extend((row, sample) for sample in missing)
            self.left = True
        return 0

    def _ask(self, row: Row, sample: int) -> Request:
        self._working[row.index] = row
        return self._request(row, sample)


def finished(rows: Iterable[Row], wanted: Wanted) -> tuple[int, int]:
    """How many rows have all they need, and how many there are."""
    done = total = 0
    for row in rows:
        total += 1
        done += not wanted.next(row)
    return done, total
