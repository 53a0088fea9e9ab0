"""How much of each dataset a variant is trained on: shares, or numbers of rows.

`data: {math: 0.7, chat: 0.3}` are shares, `data: {math: 2000, chat: 1000}` numbers; recipe/variants.py reads
them, plan/plan.py turns them into rows where it can, the train stage where it takes counting. A smaller mix
of the same shares takes no row that a larger one does not take: rows are handed out one by one, to the
dataset that is owed most (Webster's method, under which nobody loses by there being more).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from factory.refused import refused

MOST = 10**12  # rows; beyond, figures are no longer exact
LEAST = 1e-6  # as a share


def _amount(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        mend = "Write shares such as {math: 0.7, chat: 0.3}, or rows such as {math: 2000, chat: 1000}"
        raise refused(f"{repr(value)[:40]} is no share and no number of rows", mend=mend)
    if value > MOST or value < LEAST:
        what = f"{repr(value)[:40]} is {'more' if value > MOST else 'less'} than anybody has use for"
        raise refused(what, mend=f"Write a share of at least {LEAST}, or at most {MOST:,} rows")
    return value


def _one_kind(amounts: dict[str, int | float]) -> dict[str, int | float]:
    if len({isinstance(amount, int) for amount in amounts.values()}) > 1:
        mend = "Write all as shares (0.7, 1.0) or all as numbers of rows (2000)"
        raise refused("shares and numbers of rows are mixed", mend=mend)
    return amounts


Amounts = Annotated[
    dict[str, Annotated[int | float, BeforeValidator(_amount)]],
    Field(min_length=1),
    AfterValidator(_one_kind),
]
"""By dataset: whole numbers are rows, numbers with a point are shares."""


def are_shares(data: Iterable[str] | Mapping[str, float]) -> bool:
    """Whether a variant's `data` says shares."""
    return isinstance(data, Mapping) and any(isinstance(amount, float) for amount in data.values())


def apportion(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` rows by share; with a larger total nobody gets fewer.

    Args:
        shares: positive, of any sum. What is equally owed goes to the dataset that stands first.
        total: how many rows.
    """
    whole = math.fsum(shares.values())
    parts = {name: share / whole for name, share in shares.items()}
    # As many as all have for certain at a somewhat smaller total; the rest one by one.
    sure = max(0, total - len(parts))
    counts = {name: math.floor(sure * part + 0.5) for name, part in parts.items()}
    for _ in range(total - sum(counts.values())):
        owed = max(counts, key=lambda name: parts[name] / (2 * counts[name] + 1))
        counts[owed] += 1
    return counts


def largest(shares: Mapping[str, float], available: Mapping[str, int]) -> int:
    """The largest total whose parts are all there, so that no row is taken twice."""
    whole = math.fsum(shares.values())
    total = min(math.ceil((available[name] + 0.5) * whole / share) for name, share in shares.items())
    total += len(shares)
    while any(count > available[name] for name, count in apportion(shares, total).items()):
        total -= 1
    return total


def rows_of(
    data: Iterable[str] | Mapping[str, float], total: int | None, limits: Mapping[str, int | None]
) -> dict[str, int | None] | None:
    """How many rows a variant takes of each dataset; None where that takes counting what there is.

    Args:
        data: of the variant: names, shares or numbers of rows.
        total: `rows` of the variant, beside shares.
        limits: for each dataset the rows that the recipe takes of it; None for all there are.
    """
    if not isinstance(data, Mapping):
        return {name: limits[name] for name in data}
    if not are_shares(data):
        return {name: int(amount) for name, amount in data.items()}
    if total is None:
        known = {name: limit for name in data if (limit := limits[name]) is not None}
        if len(known) < len(data):
            return None
        total = largest(data, known)
    return dict(apportion(data, total))
