"""A recipe with a `sweep`: the recipe of every point, each checked as if it had been written by itself.

Between file.py and plan/sweep.py. `sweep: {prune.drop: [2, 4]}` is two recipes that differ in one
value; several keys are combined, each value with each. `rows: [1000, 4000]` of a dataset is the same as
`datasets.<name>.rows` in the sweep. A point's value stands where the recipe's own would
stand, and is blamed on its line of the sweep.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.errors import first_error
from factory.recipe.file import (
    SWEEP,
    RecipeFile,
    apply_overrides,
    fold_rows,
    lay_over,
    path_of,
    read,
)
from factory.recipe.miniature import MARK, shrink, shrink_axes
from factory.recipe.parts import Values
from factory.recipe.recipe import Recipe, recipe_of

MAX_POINTS = 100
_LONGEST = 200  # characters of a point's name, which is a folder's
_UNSAFE = re.compile(r"[^A-Za-z0-9._:+-]+")


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes:
        name: such as `drop=2`, or `drop=2,r=8`; unique in its sweep, and a folder's name.
        words: the parts of that name by key.
        values: by key.
        recipe: with these values.
    """

    name: str
    words: Mapping[str, str]
    values: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Sweep:
    """What a recipe with a sweep stands for. The points are in the order written, the last key fastest."""

    name: str
    axes: Mapping[str, tuple[Any, ...]]
    points: tuple[Point, ...]


class _Swept(BaseModel):
    """The one part of a recipe that is read before its points are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    sweep: dict[str, Values] = {}


def load(path: Path | str, overrides: Iterable[str] = (), miniature: bool = False) -> Recipe | Sweep:
    """Reads and checks a recipe: a `Sweep` where it sweeps over something, else as `load_recipe` does.

    Args:
        path: the YAML file.
        overrides: `key.key=value` assignments laid over it.
        miniature: put it smaller, see miniature.py; it is checked as it is written first.

    Raises:
        FactoryError: the first thing that is wrong, with its line and how to mend it.
    """
    overrides = list(overrides)
    if miniature:
        load(path, overrides)
    written = apply_overrides(read(Path(path)), overrides)
    file = fold_rows(written)
    try:
        axes = _Swept.model_validate(file.data).sweep
    except ValidationError as error:
        raise first_error(error, file) from None
    rest = RecipeFile(
        {key: value for key, value in file.data.items() if key != SWEEP}, file.places, file.name
    )
    folder = Path(path).parent
    size = shrink if miniature else _as_written
    if not axes:
        return recipe_of(size(rest), folder)
    folded = file.data[SWEEP].keys() - (written.data.get(SWEEP) or {}).keys()
    _check_keys(axes, file, [o for o in overrides if o.partition("=")[0].strip() not in folded])
    if miniature:
        axes = shrink_axes(axes)
    words = _words(axes)
    points: list[Point] = []
    for places in itertools.product(*(range(len(values)) for values in axes.values())):
        chosen = dict(zip(axes, places, strict=True))
        values = {key: axes[key][i] for key, i in chosen.items()}
        laid = {key: (axes[key][i], file.where((SWEEP, key, i))) for key, i in chosen.items()}
        recipe = recipe_of(size(lay_over(rest, laid)), folder)
        said = {key: words[key][i] for key, i in chosen.items()}
        points.append(Point(_name(said, points), said, values, recipe))
    return Sweep(points[0].recipe.name, axes, tuple(points))


def _as_written(file: RecipeFile) -> RecipeFile:
    return file


def _check_keys(axes: Mapping[str, tuple[Any, ...]], file: RecipeFile, overrides: Iterable[str]) -> None:
    """Refuses keys that cannot be swept; those that no recipe has are found when the points are read."""
    for key in axes:
        where, path = file.where((SWEEP, key)), path_of(key)
        if not all(path):
            raise FactoryError(f"'{key}' is no key", where=where, mend="Write it as in prune.drop")
        if path[0] not in Recipe.model_fields:
            raise FactoryError(
                f"unknown key '{key}' in sweep", where=where, mend=suggest(path[0], _sweepable())
            )
        if path[0] not in _sweepable():
            what = f"a sweep cannot change {path[0]}"
            raise FactoryError(what, where=where, mend="It is one recipe: sweep over another key")
        for other in axes:
            if other != key and path_of(other)[: len(path)] == path:
                what = f"the sweep sets {key} and inside it {other}"
                raise FactoryError(what, where=file.where((SWEEP, other)), mend="Leave one of them out")
        for assignment in overrides:
            if path_of(assignment.partition("=")[0])[: len(path)] == path:
                what = f"{key} takes its values from the recipe's sweep"
                mend = f"Write --set sweep.{key}=[...], or leave the sweep out with --set sweep={{}}"
                raise FactoryError(what, where=f"--set {assignment}", mend=mend)
    if (count := math.prod(map(len, axes.values()))) > MAX_POINTS:
        what = f"the sweep has {count} points, more than {MAX_POINTS}"
        raise FactoryError(what, where=file.where((SWEEP,)), mend="Take fewer values")


def _sweepable() -> list[str]:
    return [key for key in Recipe.model_fields if key not in ("name", "publish", SWEEP, MARK)]


def _words(axes: Mapping[str, tuple[Any, ...]]) -> dict[str, list[str]]:
    """For each key, its values as `drop=2`: by the end of the key that no other key has."""
    paths = {key: path_of(key) for key in axes}
    words = {}
    for key, path in paths.items():
        others = [other for name, other in paths.items() if name != key]
        ends = (n for n in range(1, len(path)) if all(other[-n:] != path[-n:] for other in others))
        end = ".".join(path[-next(ends, len(path)) :])
        words[key] = [f"{_UNSAFE.sub('-', end)}={_said(value)}" for value in axes[key]]
    return words


def _said(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        text = "+".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return _UNSAFE.sub("-", text).strip("-")[:40] or "none"


def _name(words: Mapping[str, str], before: list[Point]) -> str:
    """The words joined; with a number behind where a point before is called so already."""
    name = whole = ",".join(words.values())[:_LONGEST]
    taken = {point.name.casefold() for point in before}  # on some disks case makes no difference
    for number in itertools.count(2):
        if name.casefold() not in taken:
            return name
        name = f"{whole}~{number}"
    raise AssertionError  # numbers do not end
