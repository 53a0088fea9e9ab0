"""Rows of text for the stages: which columns mean what, loaded as plain instruction-response rows.

`importance` reads texts (`TextSpec`), `curate`, `regenerate` and `train` read rows (`DataSpec`).
`first_rows.py` looks at them before a run, through the same functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from factory import prompts
from factory.data import checks, conversations
from factory.data.files import PartError, split_files
from factory.data.reading import column_names, read_rows
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.refused import refused

ROW_COLUMNS = ("instruction", "context", "response", "answer")
CURATED = "curated.json"  # beside the rows that the stage curate wrote: how many it read and removed


def _known_prompt(kind: str) -> str:
    if kind not in prompts.KINDS:
        raise refused(f"there is no prompt '{kind}'", mend=suggest(kind, prompts.KINDS))
    return kind


Prompt = Annotated[str, AfterValidator(_known_prompt)]


def _known_check(name: str) -> str:
    try:
        checks.find(name)
    except KeyError:
        names = [*checks.CHECKS, checks.REGEX]
        raise refused(f"there is no check '{name}'", mend=suggest(name, names)) from None
    except re.error as error:
        mend = "Correct it; Python's regular expressions are meant"
        raise refused(f"the pattern behind `regex:` cannot be read: {error}", mend=mend) from None
    return name


Check = Annotated[str, AfterValidator(_known_check)]


class Columns(BaseModel):
    """What a dataset's columns are called; None where the usual names are to be tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str | None = None
    context: str | None = None
    response: str | None = None
    answer: str | None = None
    text: str | None = None


class TextSpec(BaseModel):
    """A part of a dataset folder and how to find its texts: all that calibration needs.

    Attributes:
        name: the recipe's name of the dataset; names seeds and messages, not files.
        rows: how many of the first rows or texts, in file order; None for all.
        skip_empty: rows without an instruction or a response are left out (Alpaca has 28), not refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    config: str | None = None
    split: str = "train"
    rows: int | None = Field(default=None, ge=1)
    skip_empty: bool = False
    columns: Columns = Columns()


class DataSpec(TextSpec):
    """A part of a dataset folder and how to read its rows.

    Attributes:
        prompt: one of `factory.prompts.KINDS`.
        check: how the answer of a regenerated response is compared with the original's.
    """

    prompt: Prompt = "instruct"
    check: Check = "none"


# Tried in order. `tests/test_data.py` holds a row of each.
GUESSES = (
    Columns(instruction="instruction", context="context", response="response", answer="answer"),  # Dolly
    Columns(instruction="instruction", context="input", response="output"),  # Alpaca
    Columns(instruction="question", response="generated_solution", answer="expected_answer"),  # OpenMath 1
    Columns(instruction="problem", response="generated_solution", answer="expected_answer"),  # OpenMath 2
    Columns(instruction="question", response="answer"),  # GSM8K
    Columns(instruction="problem", response="solution", answer="answer"),  # MATH, NuminaMath
    Columns(instruction="prompt", response="completion"),  # TRL's prompt-completion
    Columns(instruction="prompt", response="response"),
)
TEXT_GUESSES = ("text", "page", "content")  # most corpora, WikiText by document, code


def _check_written(written: Columns, names: Sequence[str], where: str) -> None:
    for role, column in written.model_dump().items():
        if column is not None and column not in names:
            what = f"the dataset has no column '{column}' (asked for as {role})"
            raise PartError(what, "columns", role, where=where, mend=suggest(column, names))


def choose_columns(names: Sequence[str], written: Columns, where: str) -> Columns:
    """The columns of instruction, context, response and answer among a dataset's columns.

    Raises:
        FactoryError: a named column that is not there, one named for both, or none named and none of the
            usual ones.
    """
    _check_written(written, names, where)
    named = {role: column for role, column in written.model_dump().items() if column is not None}
    fitting = [
        (guess, chosen)
        for guess in GUESSES
        for chosen in [guess.model_copy(update=named)]
        if chosen.instruction in names and chosen.response in names
    ]
    if fitting:
        # With columns named, several may fit: the one that knows most of the others is meant.
        chosen = max(fitting, key=lambda pair: sum(c in names for c in pair[0].model_dump().values()))[1]
        taken = (chosen.instruction, chosen.response)
        if chosen.instruction == chosen.response:
            what = f"column '{chosen.response}' is named for instruction and response"
            raise PartError(what, "columns", "response", where=where, mend="Name one of each")
        extra = {
            role: column
            for role in ("context", "answer")
            if (column := getattr(chosen, role)) in names and column not in taken
        }
        return Columns(instruction=chosen.instruction, response=chosen.response, **extra)
    mend = f"Add `columns: {{instruction: .., response: ..}}`, naming two of {', '.join(names)}"
    what = "cannot tell which columns hold instruction and response"
    raise PartError(what, "columns", where=where, mend=mend)


def _text(value: Any, column: str, row: int, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        what = f"column '{column}' holds {type(value).__name__} in row {row} (from 0), not text"
        raise FactoryError(what, where=where, mend="Name a column of text under `columns`")
    return value


def iterate_rows(folder: Path, spec: TextSpec, where: str | None = None) -> Iterator[dict[str, str]]:
    """A dataset's rows, one by one: instruction, context, response and answer, all text.

    The first `spec.rows` rows in file order; context and answer are "" where there are none.

    Raises:
        FactoryError: the config, split or columns are not there, there are no rows or fewer than asked
            for, a row has no instruction or no response, or a file cannot be read. `where` replaces the
            folder's name.
    """
    return (row for _, row in numbered_rows(folder, spec, where))


def numbered_rows(
    folder: Path, spec: TextSpec, where: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of `iterate_rows`, each with its place in the files, from 0, those left out counted.

    Raises:
        FactoryError: as `iterate_rows`.
    """
    place = where or str(folder)
    files = split_files(folder, spec.config, spec.split, place)
    names = column_names(files)
    if not names:
        _refuse_empty(spec, place)
    chats = _are_chats(spec, names)
    if chats:
        by_role = dict.fromkeys(("instruction", "response"), conversations.COLUMN)
    else:
        columns = choose_columns(names, spec.columns, place)
        by_role = {role: column for role in ROW_COLUMNS if (column := getattr(columns, role)) is not None}
    count = 0
    for index, row in enumerate(read_rows(files, sorted(set(by_role.values())), None)):
        if chats:
            found = conversations.row(row[conversations.COLUMN], index, place)
        else:
            found = _by_role(row, by_role, index, place)
        empty = next((role for role in ("instruction", "response") if not found[role].strip()), None)
        if empty is None:
            yield index, found
            count += 1
            if count == spec.rows:
                return
        elif not spec.skip_empty:
            column = by_role[empty]
            what = f"dataset '{spec.name}' has no {empty} in row {index} (from 0, column '{column}')"
            mend = "Fill it in, or set `skip_empty: true` to leave such rows out"
            raise FactoryError(what, where=place, mend=mend)
    refuse_few(spec, count, place, left_out(folder))


def _are_chats(spec: TextSpec, names: Sequence[str]) -> bool:
    """Whether rows are read from `messages`: for the prompt `chat`, unless other columns are named."""
    chat = isinstance(spec, DataSpec) and spec.prompt == prompts.CHAT
    return chat and conversations.COLUMN in names and spec.columns == Columns()


def _by_role(row: dict[str, Any], by_role: dict[str, str], index: int, place: str) -> dict[str, str]:
    found = dict.fromkeys(ROW_COLUMNS, "")
    for role, column in by_role.items():
        value = row[column]
        if role == "answer" and value is not None and not isinstance(value, str):
            value = str(value)  # datasets keep numeric answers as numbers
        found[role] = _text(value, column, index, place)
    return found


def _refuse_empty(spec: TextSpec, where: str) -> None:
    what = f"dataset '{spec.name}' has no rows in split '{spec.split}'"
    raise FactoryError(what, where=where, mend="Name a split with rows, or fill the files")


def refuse_few(spec: TextSpec, count: int, where: str, why: str = "") -> None:
    """Refuses `count` rows where the spec asks for more: a set must not turn out smaller in silence.

    Args:
        spec: says how many are wanted.
        count: how many there are.
        where: the place, for the message.
        why: what became of the others, from `left_out`.
    """
    if not count:
        _refuse_empty(spec, where)
    if spec.rows is not None and count < spec.rows:
        rows = f"{count} row{'s' * (count > 1)}" + " that are not empty" * spec.skip_empty
        what = f"dataset '{spec.name}' has only {rows}{why}"
        raise PartError(what, "rows", where=where, mend=f"Say rows: {count}, or leave rows out")


def left_out(folder: Path) -> str:
    """What a curated folder tells of the rows it lacks, to stand behind their number; "" for any other."""
    file = folder / CURATED
    if not file.is_file():
        return ""
    told = json.loads(file.read_text(encoding="utf-8"))
    return (
        f" left of {told['rows_read']:,}: {told['duplicates']:,} were removed as duplicates, "
        f"{told['overlaps']:,} as overlapping the benchmarks"
    )


def iterate_texts(folder: Path, spec: TextSpec, where: str | None = None) -> Iterator[str]:
    """The first `spec.rows` texts that are not blank, one by one, for calibration.

    Taken from the column `text` (or `page`, `content`, or the one named); a dataset without one gives
    instruction, context and response joined by line ends.

    Raises:
        FactoryError: as `iterate_rows`; blank texts are passed over, none at all is an error, few are not:
            the number a recipe need not write is only a limit.
    """
    place = where or str(folder)
    files = split_files(folder, spec.config, spec.split, place)
    names = column_names(files)
    _check_written(spec.columns, names, place)
    column = spec.columns.text or next((name for name in TEXT_GUESSES if name in names), None)
    if column is None and names:
        try:
            choose_columns(names, spec.columns, place)
        except PartError as error:
            if error.part != ("columns",):
                raise
            what, mend = "cannot tell which column holds the texts", f"one of {', '.join(names)}"
            mend = f"Add `columns: {{text: ..}}`, {mend}"
            raise PartError(what, "columns", where=place, mend=mend) from None
        every = spec.model_copy(update={"rows": None})
        for row in islice(iterate_rows(folder, every, where), spec.rows):
            yield "\n".join(row[role] for role in ("instruction", "context", "response") if row[role])
        return
    count = 0
    for index, row in enumerate(read_rows(files, [column] if column else None, None)):
        text = _text(row[column], column, index, place) if column else ""
        if text.strip():
            yield text
            count += 1
            if count == spec.rows:
                return
    if not count:
        _refuse_empty(spec, place)
