"""The part `datasets` of a recipe: where a training set is, how it is read, which of its rows are taken."""

from __future__ import annotations

from pydantic import Field

from factory.data.duplicates import Same
from factory.data.mixture import MOST
from factory.data.row_order import Order
from factory.data.rows import Check, Prompt
from factory.recipe.parts import RecipeColumns, Written


class Dataset(Written):
    """A training set, named in `datasets`: where it is, how it is read, and which of its rows are taken.

    Attributes:
        rows: how many are taken, of those left, the first in the order.
        deduplicate: of rows with the same question (or the same in all) the first stays.
        overlap: rows that share so many words in a row with a scored benchmark go.
        order: as in the files, or drawn under the recipe's seed.
    """

    id: str = Field(min_length=1)
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    prompt: Prompt
    check: Check = "none"
    rows: int | None = Field(default=None, ge=1, le=MOST)
    skip_empty: bool = False
    columns: RecipeColumns = Field(default_factory=RecipeColumns)
    deduplicate: Same | None = None
    overlap: int | None = Field(default=None, ge=5, le=100)
    order: Order = "file"

    @property
    def is_curated(self) -> bool:
        """Whether its rows are chosen or ordered before anybody reads them."""
        return self.deduplicate is not None or self.overlap is not None or self.order != "file"
