"""A look at a dataset's first rows before a run, so that what is wrong with them costs nothing.

plan/outside.py asks here for every dataset that is at hand; what stands behind the first rows is checked by
the stage that reads it. Nothing is refused here that the stage would not refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from factory import prompts
from factory.data import checks
from factory.data.files import PartError, split_files
from factory.data.reading import stored_rows
from factory.data.rows import DataSpec, TextSpec, iterate_rows, iterate_texts, refuse_few

CHECKED_ROWS = 20_000


def check_rows(folder: Path, spec: DataSpec, where: str) -> None:
    """Refuses before a run what `iterate_rows` would refuse, and a check that finds no answer in any row.

    Looks at the first `CHECKED_ROWS` rows; more are counted where the files tell their number.
    """
    if spec.rows is not None and spec.rows > CHECKED_ROWS:
        stored = stored_rows(split_files(folder, spec.config, spec.split, where))
        if stored is not None:
            refuse_few(spec, stored, where)
    rows = islice(_askable(iterate_rows(folder, spec, where), spec, where), CHECKED_ROWS)
    if not sum(checks.has_answer(row, spec.check) for row in rows):  # reads them all
        what = f"check '{spec.check}' finds no answer in dataset '{spec.name}', so no rewritten row can pass"
        mend = "Name the column of answers under `columns`, or take another check"
        raise PartError(what, "check", where=where, mend=mend)


def _askable(rows: Iterable[dict[str, str]], spec: DataSpec, where: str) -> Iterator[dict[str, str]]:
    """The rows, of which the prompt `chat` wants turns for a context."""
    for number, row in enumerate(rows):
        if spec.prompt == prompts.CHAT:
            try:
                prompts.turns(row["context"])
            except ValueError as error:
                what = f"row {number} (from 0) of dataset '{spec.name}' is no chat: {error}"
                mend = "Correct it, or take the prompt instruct"
                raise PartError(what, "prompt", where=where, mend=mend) from None
        yield row


def count_rows(folder: Path, spec: DataSpec, most: int, where: str) -> int | None:
    """How many rows there are, counted up to `most`; None where that would take reading too many.

    What is stored may be a few rows more than can be read, where empty ones are left out.
    """
    if most > CHECKED_ROWS:
        return stored_rows(split_files(folder, spec.config, spec.split, where))
    every = spec.model_copy(update={"rows": None})
    return sum(1 for _ in islice(iterate_rows(folder, every, where), most))


def check_texts(folder: Path, spec: TextSpec, where: str) -> None:
    """Refuses before a run what `iterate_texts` would refuse, and fewer texts than `spec.rows`.

    Looks at the first `CHECKED_ROWS` texts.
    """
    count = sum(1 for _ in islice(iterate_texts(folder, spec, where), CHECKED_ROWS))
    if count < CHECKED_ROWS:
        refuse_few(spec, count, where)
