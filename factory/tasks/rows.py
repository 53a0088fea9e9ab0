"""The rows of a benchmark's dataset folder, read, rendered and checked: between a suite's row and scoring.

Light: a mistake in the last of six datasets shows before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.data.files import Wanted, select_local
from factory.data.reading import column_names, read_rows
from factory.errors import FactoryError
from factory.tasks import gsm8k
from factory.tasks.document import Document
from factory.tasks.suites import Task, wanted
from factory.wording import counted

_UNNAMED = ("", "default")  # what a dataset's only configuration is called that nobody named


@dataclass(frozen=True)
class Rows:
    """The rendered rows of one task, or of one MMLU subject.

    Attributes:
        group: the subject, else the task.
        scored: what is asked, in file order.
        examples: what the solved examples are drawn from.
        config: the dataset configuration they were read from, where it has a name.
    """

    group: str
    scored: list[Document]
    examples: list[Document]
    config: str | None = None


def part_of(task: Task, shots: int, limit: int | None) -> Wanted:
    """What a task reads of its dataset; unless limited, all subjects its suite has must be there.

    A mean over some of MMLU's subjects would be printed beside means over all of them.
    """
    return replace(wanted(task, shots), configs=() if limit else task.subjects)


def read(task: Task, folder: Path, shots: int, limit: int | None) -> list[Rows]:
    """The rendered rows of a task, by group.

    Args:
        task: row of a suite.
        folder: dataset folder in one of the usual layouts.
        shots: solved examples a question.
        limit: documents that will be scored of each group; None for all.

    Raises:
        FactoryError: a split, column or subject is missing, there are too few rows for the shots, or a row
            cannot be read.
    """
    if task.preamble and shots:
        raise FactoryError(f"{task.task} takes no shots: its preamble stands for them", mend="Set them to 0")
    preamble = task.preamble
    if task.preamble_file and (folder / task.preamble_file).is_file():
        preamble = (folder / task.preamble_file).read_text(encoding="utf-8").strip()
    groups = []
    for config, splits in select_local(folder, part_of(task, shots, limit), str(folder)).items():
        where = f"{folder} ({config})" if config else str(folder)
        files = {split: [folder / name for name in names] for split, names in splits.items()}
        scored = _rendered(task, files[task.split], preamble, f"{where}, {task.split}")
        examples = (
            _rendered(task, files[task.shots_split], preamble, f"{where}, {task.shots_split}")
            if shots
            else []
        )
        if not scored:
            raise FactoryError(f"split '{task.split}' has no rows", where=where, mend="Add its rows")
        if len(examples) < shots:
            what = (
                f"{task.task} wants {counted(shots, 'shot')}, "
                f"but split '{task.shots_split}' has {counted(len(examples), 'row')}"
            )
            raise FactoryError(what, where=where, mend="Ask for fewer shots or add rows")
        named = config if config not in _UNNAMED else None
        groups.append(Rows(config if task.by_subject else task.task, scored, examples, named))
    return groups


def _rendered(task: Task, files: Sequence[Path], preamble: str, where: str) -> list[Document]:
    """The rows of some files as documents."""
    there = column_names(files)
    missing = [column for column in task.columns if there and column not in there]
    if missing:
        what = f"{task.task} needs columns {', '.join(task.columns)}; missing: {', '.join(missing)}"
        raise FactoryError(what, where=where, mend="Rename or add them")
    documents = []
    for index, row in enumerate(read_rows(files, task.columns, None)):
        try:
            for column in task.columns:  # most would be rendered as the word None
                if _has_gap(row[column]):
                    where_in = "is" if row[column] is None else "has an entry that is"
                    raise ValueError(f"its column '{column}' {where_in} empty")
            document = task.document(row)
            _check(document, task)
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            what = f"row {index} is no row of {task.task} ({_in_words(error)})"
            raise FactoryError(what, where=where, mend="Mend or remove the row") from error
        documents.append(replace(document, instruction=preamble) if preamble else document)
    return documents


def _has_gap(value: Any) -> bool:
    """Whether a value, or one inside it, is null."""
    if isinstance(value, Mapping):
        return any(map(_has_gap, value.values()))
    return value is None or (isinstance(value, list | tuple) and any(map(_has_gap, value)))


def _in_words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no '{error.args[0]}'"
    # Only a ValueError was written for people.
    return str(error) if isinstance(error, ValueError) else "a column holds values of another kind"


def _check(document: Document, task: Task) -> None:
    """Refuses, as a ValueError, what renders but cannot be scored."""
    if task.metric != "exact_match" and not all(choice.strip() for choice in document.choices):
        raise ValueError("a choice is empty, which has no log-probability")
    # A label of -1 marks a row whose answer is kept secret, and would index the last choice.
    if not document.gold or not all(0 <= index < len(document.choices) for index in document.gold):
        raise ValueError("none of its choices is marked as right")
    if task.metric == "exact_match" and gsm8k.final_number(document.choices[0]) is None:
        raise ValueError("its answer does not end in `#### n`")
