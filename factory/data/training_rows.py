"""The rows a variant is trained on, one by one from the disk; the train stage reads here.

Of every dataset the first rows of its order are taken, as many as the recipe says, or as many as the shares
of a mix allow without taking a row twice. What was taken goes into the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from factory.data.mixture import apportion, largest
from factory.data.reading import read_rows
from factory.data.rows import DataSpec, iterate_rows, refuse_few
from factory.errors import FactoryError
from factory.wording import counted

Row = tuple[str, str, str]  # instruction, context, response


class TrainingRows:
    """Iterated over, gives each dataset with an iterator over its rows, to be used before the next.

    Args:
        targets: `original` reads dataset folders, `self` regenerated artifacts.
        specs: the datasets; `rows` limits what is taken of each.
        inputs: `data.<name>` for each, its folder.
        shares: of each dataset, where they decide how many rows are taken; else empty.

    Attributes:
        taken: rows by dataset, once they were iterated over.

    Raises:
        FactoryError: a dataset has too few rows, or the shares leave one without any.
    """

    def __init__(
        self,
        targets: Literal["original", "self"],
        specs: Sequence[DataSpec],
        inputs: Mapping[str, Path],
        shares: Mapping[str, float],
    ) -> None:
        self.taken = {spec.name: 0 for spec in specs}
        self._targets, self._specs, self._inputs = targets, specs, inputs
        self._limits: Mapping[str, int | None] = dict.fromkeys(self.taken)
        if shares:
            available = {spec.name: sum(1 for _ in self._of(spec)) for spec in specs}
            self._limits = apportion(shares, largest(shares, available))
            for name, count in self._limits.items():
                if not count:
                    there = ", ".join(f"{counted(rows, 'row')} of '{key}'" for key, rows in available.items())
                    what = f"the shares of the mix leave no row of '{name}': there are {there}"
                    raise FactoryError(what, where="variants", mend="Give it a larger share, or fewer rows")

    def __iter__(self) -> Iterator[tuple[DataSpec, Iterator[Row]]]:
        self.taken = dict.fromkeys(self.taken, 0)
        for spec in self._specs:
            yield spec, self._counted(spec)

    def _counted(self, spec: DataSpec) -> Iterator[Row]:
        for row in islice(self._of(spec), self._limits[spec.name]):
            self.taken[spec.name] += 1
            yield row

    def _of(self, spec: DataSpec) -> Iterator[Row]:
        folder = self._inputs[f"data.{spec.name}"]
        if self._targets == "original":
            for row in iterate_rows(folder, spec):
                yield row["instruction"], row["context"], row["response"]
            return
        count, columns = 0, ("instruction", "context", "response")
        for row in read_rows(sorted((folder / "data").glob("*.parquet")), columns, spec.rows):
            count += 1
            yield row["instruction"], row["context"], row["response"]
        refuse_few(spec, count, str(folder))
