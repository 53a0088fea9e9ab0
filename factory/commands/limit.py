"""The limit on what a plan may cost: `factory plan --max-cost DOLLARS --gpu KIND`.

plan/costs -> here -> cli.py; plan.py and plan_page.py tell the limit that was kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.plan.costs import estimate
from factory.plan.costs.gpu_kinds import KINDS, Kind
from factory.plan.plan import Plan
from factory.run.store import Store


@dataclass(frozen=True)
class Kept:
    """A limit that a plan keeps.

    Attributes:
        dollars: the limit.
        at_most: what may be paid, in dollars: the slow end of the estimate.
        gpu: the kind of GPU.
    """

    dollars: float
    at_most: float
    gpu: str

    @property
    def said(self) -> str:
        """For a person, without a full stop."""
        return f"at most {_rounded(self.at_most)} of {_written(self.dollars)} dollars on one {self.gpu}"

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"max_cost": self.dollars, "at_most": self.at_most, "gpu": self.gpu}


def kind_of(gpu: str) -> Kind:
    """The kind of GPU of that name.

    Raises:
        FactoryError: no price is known of one.
    """
    kinds = {kind.name.lower(): kind for kind in KINDS}
    kind = kinds.get(gpu.lower())
    if kind is None:
        mend = suggest(gpu, [kind.name for kind in KINDS])
        raise FactoryError(f"there is no price of a GPU '{gpu}'", where="--gpu", mend=mend)
    return kind


def check_limit(dollars: float | None) -> None:
    """Refuses a limit that is none: nothing costs more than nan.

    Raises:
        FactoryError: it is no finite number, or below zero.
    """
    if dollars is not None and not (math.isfinite(dollars) and dollars >= 0):
        mend = "Write a plain number, such as 50, or leave the limit out"
        raise FactoryError(f"'{dollars}' is no amount of dollars", where="--max-cost", mend=mend)


def keep(plan: Plan, store: Store, dollars: float, kind: Kind) -> Kept:
    """Refuses a plan whose missing steps may cost more: at the slow end of the estimate.

    Args:
        plan: of a recipe or a sweep.
        store: what is done is paid for.
        dollars: the limit.
        kind: of the GPU that it is to run on.

    Raises:
        FactoryError: it may cost more, does not fit on that GPU, or nobody knows what it costs.
    """
    found = estimate(plan)
    missing = [step.name for step in plan.steps if not store.has(step.stage, step.key)]
    too_large = [work.step for work in found.too_large(kind) if work.step in missing]
    if too_large:
        what = f"{too_large[0]} does not fit on one {kind.name}"
        raise FactoryError(what, where="--gpu", mend="Name a larger one, or a smaller model")
    hours = found.hours(kind, missing)[1]
    if (most := hours * kind.dollars) > dollars:
        what = (
            f"this may cost {_rounded(most)} dollars ({hours:,.1f} h on one {kind.name}), "
            f"more than {_written(dollars)}"
        )
        mend = "Raise the limit, or take fewer variants, points or rows"
        raise FactoryError(what, where="--max-cost", mend=mend)
    return Kept(dollars, most, kind.name)


def _rounded(dollars: float) -> str:
    """To the cent; what is less than that is not shown as nothing."""
    return f"{Decimal(f'{dollars:.1g}'):f}" if 0 < dollars < 0.01 else f"{dollars:,.2f}"


def _written(dollars: float) -> str:
    """As a person writes it."""
    return f"{Decimal(repr(dollars)):,f}".removesuffix(".0")
