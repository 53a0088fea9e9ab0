"""A recipe looked at as it is written, before it is run in miniature.

Beside sweep.py, which plans the miniature: there base, datasets and drop are others, so a mistake in the
recipe's own would pass. The Hub is not asked, for a miniature needs no network; and what training needs on
its machine is not looked for, as another one may train.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from factory.hashing import postponed
from factory.hub_files import NotAskedError, unasked
from factory.plan.outside import gather
from factory.recipe.recipe import Recipe
from factory.recipe.sweep import load


def check(path: Path, overrides: Iterable[str] = ()) -> str | None:
    """Refuses what `factory validate` would, as far as the sandbox and this machine's folders tell.

    Args:
        path: the recipe's file.
        overrides: laid over it.

    Returns:
        What was left out, for a person; None where all was looked at.

    Raises:
        FactoryError: the recipe, or what it names here, cannot be used.
    """
    read = load(path, overrides)
    recipes = [read] if isinstance(read, Recipe) else [point.recipe for point in read.points]
    left_out = False
    with postponed(), unasked():
        for recipe in recipes:
            try:
                gather(recipe, here=False)
            except NotAskedError:  # a point of a sweep may name it where another names a folder
                left_out = True
    if not left_out:
        return None
    return f"what {path} names on the Hub is not looked at in miniature; `factory validate {path}` does"
