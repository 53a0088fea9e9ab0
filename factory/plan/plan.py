"""What a plan is: ordered steps, each with the key of all that decides its artifact.

make.py lays it out from a recipe, run/run.py has it made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.recipe import Recipe
from factory.sources import Source
from factory.stages import Frozen

__all__ = ["Plan", "Planned", "Ref", "Source", "Step"]


@dataclass(frozen=True)
class Ref:
    """Another step's artifact, or a folder inside it."""

    step: str
    path: str = "."


@dataclass(frozen=True)
class Step:
    """One stage with its settings and inputs.

    Attributes:
        name: such as `train/math-self`; unique in the plan. A sweep's begin with the point: `drop=2/prune`.
        stage: one of `factory.stages.NAMES`.
        settings: of that stage's `Settings` type.
        inputs: by role, what it reads.
        key: names its artifact.
        saving: roles of inputs that only save work: no part of the key, nor of what is recorded.
        point: what its name begins with in a sweep, if anything.
    """

    name: str
    stage: str
    settings: Frozen
    inputs: Mapping[str, Ref | Source]
    key: str
    point: str = ""
    saving: frozenset[str] = frozenset()

    @property
    def local(self) -> str:
        """The name without the point: what the step is called in a plan of its point alone."""
        return self.name.removeprefix(f"{self.point}/") if self.point else self.name


@dataclass(frozen=True)
class Plan:
    """A recipe's steps, each behind those it reads.

    Attributes:
        parameters: of `base` and `pruned`, where weights are at hand (see `Outside`); not of a sweep.
        points: of a sweep, what it consists of; its steps are theirs, each once, and its own report.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    parameters: Mapping[str, int] = field(default_factory=dict)
    points: tuple[Planned, ...] = ()

    def step(self, name: str) -> Step:
        """The step of that name.

        Raises:
            FactoryError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise FactoryError(
            f"there is no step '{name}'", mend=suggest(name, [step.name for step in self.steps])
        )


@dataclass(frozen=True)
class Planned:
    """A point of a sweep: its name, its values by the swept key, and its plan as a run of its own."""

    name: str
    values: Mapping[str, Any]
    plan: Plan
