"""The benchmarks that score models: which tasks, with how many solved examples, on which rows.

For a recipe (part of `outside.py`'s work) and for `factory evaluate`: names and numbers are checked against
the suite, and rows that stand in for a task's own against what the task reads. `where` tells the place of a
key, `("evaluate", "shots", "arc")`, as the person wrote it: a line of a recipe, or an option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from factory.data.files import PartError, Wanted, select_local
from factory.data.reading import column_names, read_rows
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.parts import Evaluate
from factory.sources import Source, at_hand, resolve_dataset
from factory.tasks.rows import part_of
from factory.tasks.suites import SUITES, Task

Where = Callable[..., str]


def shots_of(written: Evaluate, where: Where) -> dict[str, int]:
    """The tasks to score, in the suite's order, with their solved examples.

    Raises:
        FactoryError: an unknown suite or task, or shots for a task that takes none or is not scored.
    """
    if written.suite not in SUITES:
        what = f"there is no suite '{written.suite}'"
        raise FactoryError(what, where=where("evaluate", "suite"), mend=suggest(written.suite, SUITES))
    suite = SUITES[written.suite]
    for key in ("tasks", "shots", "datasets"):
        for i, name in enumerate(getattr(written, key) or ()):
            if name not in suite:
                place = where("evaluate", key, i if key == "tasks" else name)
                what = f"suite '{written.suite}' has no task '{name}'"
                raise FactoryError(what, where=place, mend=suggest(name, suite))
    for name, count in written.shots.items():
        if suite[name].preamble and count:
            what = f"task '{name}' takes no shots: its preamble stands for them"
            place = where("evaluate", "shots", name)
            raise FactoryError(what, where=place, mend="Leave it out, or set it to 0")
    chosen = written.tasks or tuple(suite)
    for name in written.shots:
        if name not in chosen:
            what = f"task '{name}' has shots, but is not among the tasks to score"
            mend = "Leave its shots out, or name it among the tasks"
            raise FactoryError(what, where=where("evaluate", "shots", name), mend=mend)
    return {name: written.shots.get(name, task.shots) for name, task in suite.items() if name in chosen}


def find_benchmarks(
    written: Evaluate, shots: Mapping[str, int], folder: Path, where: Where
) -> dict[str, Source]:
    """The datasets of the tasks in `shots`; relative folders start from `folder`.

    Raises:
        FactoryError: a dataset lacks a config, split or column that its task reads, or rows for the shots.
    """
    suite = SUITES[written.suite]
    return {name: _benchmark(written, suite[name], count, folder, where) for name, count in shots.items()}


def _benchmark(written: Evaluate, task: Task, shots: int, folder: Path, where: Where) -> Source:
    name = task.task
    own = name not in written.datasets
    place = where(*(("evaluate", "suite") if own else ("evaluate", "datasets", name)))
    place_shots = where("evaluate", "shots", name) if name in written.shots else place
    wanted = part_of(task, shots, written.limit)
    try:
        reference = written.datasets.get(name, task.dataset)
        revision = task.revision if own else None
        source = resolve_dataset(reference, revision, place, folder, wanted)
        if own and source.kind == "sandbox" and name not in written.shots:
            return source  # known to do
        with at_hand(source) as there:
            if there is not None:
                _check_rows(there, task, shots, wanted, place, place_shots)
    except FactoryError as error:
        mend = error.mend
        if isinstance(error, PartError) and error.part == ("config",):  # `datasets` has no place to name one
            mend = f"Name a dataset with one config{f', or with {task.config!r}' if task.config else ''}"
        raise FactoryError(f"task '{name}': {error.what}", where=error.where, mend=mend) from None
    return source


def _check_rows(folder: Path, task: Task, shots: int, wanted: Wanted, where: str, where_shots: str) -> None:
    for config, splits in select_local(folder, wanted, where).items():
        for split, names in splits.items():
            files = [folder / name for name in names]
            there = column_names(files)
            place = f"split '{split}'" + (f" of config '{config}'" if config else "")
            if not there:
                what = f"{place} has no rows"
                raise FactoryError(what, where=where, mend="Fill it, or name another folder")
            for column in task.columns:
                if column not in there:
                    what = f"{place} has no column '{column}'"
                    raise FactoryError(what, where=where, mend=suggest(column, there))
            if split == task.shots_split:
                count = sum(1 for _ in read_rows(files, task.columns[:1], shots))
                if count < shots:
                    what = f"{place} has only {count} rows for {shots} shots"
                    mend = f"Ask for {count} shots at most, or add rows"
                    raise FactoryError(what, where=where_shots, mend=mend)
