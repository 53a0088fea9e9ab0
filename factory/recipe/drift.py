"""The part `drift` of a recipe: on which prompts and texts it is measured how far the models moved.

Beside parts.py; `check` refuses what shows in the recipe alone, plan/outside_drift.py the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.parts import LARGEST, Calibration, Name, Written

if TYPE_CHECKING:
    from factory.recipe.recipe import Recipe

Tasks = Annotated[tuple[str, ...], Field(strict=False)]


class GeneralText(Calibration):
    """The texts whose perplexity is told, under the base and every other model."""


class Drift(Written):
    """How far the models moved from the base.

    Attributes:
        rows: held-out prompts of each training set, drawn under the seed.
        splits: by dataset, where they are; else `test` or `validation`, else what training leaves of its own
            split.
        max_new_tokens: of a response; None as in `regenerate`.
        batch_size: rows in work at once while responses are generated; None leaves it to the engine.
        embedding: a sentence-embedding model; None takes the base's own hidden states.
        revision: of that model.
        text: general text.
        domains: by dataset, the tasks that train what it trains; all others are outside its domain.
    """

    rows: int = Field(default=200, ge=2, le=2000)  # intervals are narrow by then
    splits: dict[Name, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    max_new_tokens: int | None = Field(default=None, ge=1, le=LARGEST)
    batch_size: int | None = Field(default=None, ge=1, le=LARGEST)
    embedding: str | None = Field(default=None, min_length=1)
    revision: str | None = None
    text: GeneralText | None = None
    domains: dict[Name, Tasks] = Field(default_factory=dict)


def check(recipe: Recipe) -> None:
    """Refuses datasets that the recipe does not have, and a revision of nothing.

    Raises:
        FactoryError: so it is, with its line.
    """
    if recipe.drift is None:
        return
    for key in ("splits", "domains"):
        for name in getattr(recipe.drift, key):
            if name not in recipe.datasets:
                what = f"drift.{key} names an unknown dataset '{name}'"
                where = recipe.where("drift", key, name)
                raise FactoryError(what, where=where, mend=suggest(name, recipe.datasets))
    if recipe.drift.revision is not None and recipe.drift.embedding is None:
        what = "drift.revision is that of an embedding model, and none is named"
        mend = "Name one, such as `embedding: sentence-transformers/all-MiniLM-L6-v2`, or leave it out"
        raise FactoryError(what, where=recipe.where("drift", "revision"), mend=mend)
