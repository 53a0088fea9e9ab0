"""The part `prune` of a recipe: how many blocks go or which, and by what measure they are chosen."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from factory.errors import FactoryError
from factory.metrics import Name as MetricName
from factory.models import blocks
from factory.recipe.parts import Calibration, Written
from factory.refused import refuse, written


class Exclude(Written):
    """How many blocks at the beginning and at the end are never removed."""

    first: int = Field(default=0, ge=0)
    last: int = Field(default=0, ge=0)


def _drop(value: Any) -> int | tuple[int, ...]:
    """`6` (how many), `[4, 7, 9]` or `"22:28"` (which, as ascending indices)."""
    mend = 'Write how many, such as 6, or which: [4, 7, 9], or "22:28" for blocks 22 to 27'
    if isinstance(value, str):
        number = value.strip()
        if number.isdecimal() and len(number) <= 6:  # so many blocks, or the one block of that number
            how = f"Write {number} without quotation marks for how many, or [{number}] for that block alone"
            refuse("prune.drop: {value} in quotation marks could mean two things", value=number, mend=how)
        try:
            return blocks.parse(value)
        except FactoryError:
            pass
    elif isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            refuse("prune.drop should be at least 1, not {value}", value=value, mend=mend)
        return value
    elif isinstance(value, list | tuple) and value:
        for i, block in enumerate(value):
            if not isinstance(block, int) or isinstance(block, bool) or block < 0:
                what = "prune.drop should name blocks by whole numbers from 0, not {block}"
                refuse(what, block=written(block), mend=mend, at=str(i))
            if block in value[:i]:
                what = "block {block} stands twice in prune.drop"
                refuse(what, block=block, mend="Name it once", at=str(i))
        return tuple(sorted(value))
    what = "prune.drop should be a whole number, a list of blocks or a range, not {value}"
    refuse(what, value=written(value), mend=mend)


class Prune(Written):
    """How many blocks go, or which; by what measure they are chosen; whether the result is proved."""

    drop: Annotated[int | tuple[int, ...], BeforeValidator(_drop)]
    importance: MetricName = "angular"
    exclude: Exclude = Exclude()
    calibration: Calibration
    proof: bool = True

    @property
    def count(self) -> int:
        """The number of blocks that go."""
        return self.drop if isinstance(self.drop, int) else len(self.drop)
