"""The benchmarks that score a recipe's models: which tasks, with how many solved examples, on which rows.

Part of `outside.py`'s work: names and numbers of `evaluate` are checked against the suite, and rows that
stand in for a task's own against what the task reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from factory.dataset_files import PartError, column_names, read_rows, select_local
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe import Recipe
from factory.sources import Source, at_hand, resolve_dataset
from factory.tasks.suites import SUITES, Task, wanted


def shots_of(recipe: Recipe) -> dict[str, int]:
    """The tasks to score, in the suite's order, with their solved examples.

    Raises:
        FactoryError: an unknown suite or task, or shots for a task that takes none.
    """
    written = recipe.evaluate
    if written.suite not in SUITES:
        where = recipe.where("evaluate", "suite")
        what = f"there is no suite '{written.suite}'"
        raise FactoryError(what, where=where, mend=suggest(written.suite, SUITES))
    suite = SUITES[written.suite]
    for key in ("tasks", "shots", "datasets"):
        for i, name in enumerate(getattr(written, key) or ()):
            if name not in suite:
                where = recipe.where("evaluate", key, i if key == "tasks" else name)
                what = f"suite '{written.suite}' has no task '{name}'"
                raise FactoryError(what, where=where, mend=suggest(name, suite))
    for name, count in written.shots.items():
        if suite[name].preamble and count:
            where = recipe.where("evaluate", "shots", name)
            what = f"task '{name}' takes no shots: its preamble stands for them"
            raise FactoryError(what, where=where, mend="Remove the line, or set it to 0")
    chosen = written.tasks or tuple(suite)
    return {name: written.shots.get(name, task.shots) for name, task in suite.items() if name in chosen}


def find_benchmarks(recipe: Recipe, shots: Mapping[str, int]) -> dict[str, Source]:
    """The datasets of the tasks in `shots`.

    Raises:
        FactoryError: a dataset lacks a config, split or column that its task reads, or rows for the shots.
    """
    return {name: _benchmark(recipe, SUITES[recipe.evaluate.suite][name], shots[name]) for name in shots}


def _benchmark(recipe: Recipe, task: Task, shots: int) -> Source:
    name, written = task.task, recipe.evaluate
    own = name not in written.datasets
    where = recipe.where(*(("evaluate", "suite") if own else ("evaluate", "datasets", name)))
    where_shots = recipe.where("evaluate", "shots", name) if name in written.shots else where
    try:
        reference = written.datasets.get(name, task.dataset)
        source = resolve_dataset(reference, None, where, recipe.folder, wanted(task, shots))
        if own and source.kind == "sandbox" and name not in written.shots:
            return source  # known to do
        with at_hand(source) as folder:
            if folder is not None:
                _check_rows(folder, task, shots, where, where_shots)
    except FactoryError as error:
        mend = error.mend
        if isinstance(error, PartError) and error.part == ("config",):  # `datasets` has no place to name one
            mend = f"Name a dataset with one config{f', or with {task.config!r}' if task.config else ''}"
        raise FactoryError(f"task '{name}': {error.what}", where=error.where, mend=mend) from None
    return source


def _check_rows(folder: Path, task: Task, shots: int, where: str, where_shots: str) -> None:
    for config, splits in select_local(folder, wanted(task, shots), where).items():
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
