"""Prompts that no training saw: so many rows of a dataset, drawn under a seed, none of them a training row.

The stage drift asks the models these. They come from another split of a training set or, where it has one
split alone, from the rows behind those that training takes. A row whose question (instruction and context,
as `data/duplicates.py` compares them) training reads too is left out and counted. Rows stream through: kept
are the drawn ones and eight bytes for each question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from factory import prompts
from factory.data.duplicates import digest
from factory.data.row_order import drawn
from factory.data.rows import DataSpec, iterate_rows
from factory.errors import FactoryError
from factory.wording import counted


class HeldOut(BaseModel):
    """Where a dataset's held-out rows are.

    Attributes:
        data: the split they are drawn from.
        skip: how many of its first rows training takes; 0 for another split.
        seen: the rows that training takes, at most.
        rows: how many are drawn.
        seed: of the draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSpec
    skip: int = Field(default=0, ge=0)
    seen: DataSpec
    rows: int = Field(ge=2)
    seed: int = 0


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt.

    Attributes:
        id: its number among all that are asked.
        dataset: the recipe's name of its dataset.
        row: its place in the split, from 0.
        messages: what the model reads.
    """

    id: int
    dataset: str
    row: int
    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Drawn:
    """The prompts of one dataset, and how they came about.

    Attributes:
        prompts: in file order.
        held_out: rows there were to draw from, those left out counted.
        overlapping: of these, rows left out because training reads their question.
        repeated: rows left out because an earlier one asks the same.
    """

    prompts: tuple[Prompt, ...]
    held_out: int
    overlapping: int
    repeated: int

    def facts(self, asked: HeldOut) -> dict[str, Any]:
        """For the record."""
        return {
            "split": asked.data.split,
            "skipped": asked.skip,
            "asked": asked.rows,
            "rows": len(self.prompts),
            "held_out": self.held_out,
            "overlapping": self.overlapping,
            "repeated": self.repeated,
        }


def draw(asked: HeldOut, held_out: Path, trained: Path, first: int) -> Drawn:
    """The prompts of a dataset.

    Args:
        asked: which and how many.
        held_out: the dataset's folder, for `asked.data`.
        trained: the folder of the rows that training takes, for `asked.seen`.
        first: number of the first prompt.

    Raises:
        FactoryError: a dataset cannot be read, a row is no chat, or fewer than two rows are left.
    """
    import numpy as np

    trained_on = np.unique(
        np.fromiter((digest(row, "questions") for row in _all(trained, asked.seen)), np.uint64)
    )
    rows = islice(enumerate(iterate_rows(held_out, asked.data)), asked.skip, None)
    counts = {"held_out": 0, "overlapping": 0, "repeated": 0}
    chosen = drawn(_new(rows, trained_on, counts), asked.seed, asked.rows)
    if len(chosen) < 2:
        what = (
            f"dataset '{asked.data.name}' has {counted(len(chosen), 'held-out row')} for drift: split "
            f"'{asked.data.split}' has {counts['held_out']:,} that training does not take, of which "
            f"{counts['overlapping']:,} ask what training reads"
        )
        mend = "Name another split under drift.splits, or take fewer rows for training"
        raise FactoryError(what, where="drift", mend=mend)
    made = tuple(
        Prompt(first + i, asked.data.name, index, _messages(asked.data, index, row))
        for i, (index, row) in enumerate(chosen)
    )
    return Drawn(made, **counts)


def _all(folder: Path, spec: DataSpec) -> Iterator[dict[str, str]]:
    """Up to `spec.rows` rows: that there are fewer is training's to refuse."""
    return islice(iterate_rows(folder, spec.model_copy(update={"rows": None})), spec.rows)


def _new(
    rows: Iterable[tuple[int, dict[str, str]]], trained_on: Any, counts: dict[str, int]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows whose question neither training nor an earlier row asks; the others are counted."""
    import numpy as np

    met: set[int] = set()
    for index, row in rows:
        counts["held_out"] += 1
        own = digest(row, "questions")
        at = int(np.searchsorted(trained_on, np.uint64(own)))
        if at < len(trained_on) and int(trained_on[at]) == own:
            counts["overlapping"] += 1
        elif own in met:
            counts["repeated"] += 1
        else:
            met.add(own)
            yield index, row


def _messages(spec: DataSpec, index: int, row: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    try:
        return tuple(prompts.messages(spec.prompt, row["instruction"], row["context"], reference=None))
    except ValueError as error:
        what = f"row {index} (from 0) of dataset '{spec.name}', split '{spec.split}', is no chat: {error}"
        raise FactoryError(what, mend="Correct it, or take the prompt instruct") from error
