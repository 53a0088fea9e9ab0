"""The part `measure` of a recipe: what base and pruned model generate when their speed is measured.

Beside parts.py; plan/outside.py has it checked against the base's config before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from factory.errors import FactoryError
from factory.recipe.parts import LARGEST, Written

if TYPE_CHECKING:
    from factory.recipe.recipe import Recipe


class Measure(Written):
    """What is generated in turns: `batch` sequences of `prompt` + `new` tokens, `rounds` times each."""

    batch: int = Field(default=1, ge=1, le=4096)
    prompt: int = Field(default=256, ge=1, le=LARGEST)
    new: int = Field(default=64, ge=2, le=LARGEST)
    rounds: int = Field(default=5, ge=1, le=100)


def check(recipe: Recipe, longest: int | None) -> None:
    """Refuses more tokens than the model has positions.

    Args:
        recipe: the recipe.
        longest: how many positions its base has; None where nobody says.

    Raises:
        FactoryError: so it is, with its line.
    """
    if recipe.measure is None:
        return
    wanted = recipe.measure.prompt + recipe.measure.new
    if longest is not None and wanted > longest:
        what = f"measure.prompt and measure.new are {wanted:,} tokens, '{recipe.base.model}' has {longest:,}"
        mend = f"Let them be {longest:,} together at most"
        raise FactoryError(what, where=recipe.where("measure"), mend=mend)
