"""A plan in parts that several machines make: what is shared, one part a trained variant, and the end.

plan/plan.py -> here -> run.py. The parts are for a workflow's jobs: `shared` first, then all those of the
variants side by side (of a sweep, of every point), then `last`. A step stands in one part alone, beside its
inputs where it can: what only one variant needs is made in that variant's part. Names of parts are plain
words that do as names of files and of a workflow's artifacts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.plan.plan import Plan
from factory.plan.select import needs

SHARED, LAST = "shared", "last"
MOST = 256  # jobs that a matrix of GitHub's may have
_ENDS = ("report", "sweep")  # stages that lay everything side by side
_LONGEST = 120  # characters of a part's name


@dataclass(frozen=True)
class Part:
    """Some steps of a plan, in its order.

    Attributes:
        name: `shared`, `last`, or as the step that trains its variant: `train.math-self`.
        steps: their names.
    """

    name: str
    steps: tuple[str, ...]


def parts_of(plan: Plan, most: int = MOST) -> tuple[Part, ...]:
    """The parts in the order in which they can be made; those between the first and the last at once.

    Args:
        plan: of a recipe or a sweep.
        most: variants' parts at most; where there are more variants, several share one.
    """
    legs = _legs(plan)
    trained = [step.name for step in plan.steps if step.stage == "train"]
    names: dict[str, str] = {}
    for i, training in enumerate(trained):  # beyond `most` they go round, so that the parts are alike
        names[training] = _plain(training, names.values()) if i < most else names[trained[i % most]]
    found: dict[str, list[str]] = {SHARED: [], **{name: [] for name in names.values()}, LAST: []}
    for step in plan.steps:
        at = {names[leg] for leg in legs[step.name]}
        last = step.stage in _ENDS or len(at) > 1
        found[LAST if last else next(iter(at), SHARED)].append(step.name)
    return tuple(Part(name, tuple(steps)) for name, steps in found.items())


def chosen_steps(plan: Plan, part: str | None, only: Sequence[str]) -> Sequence[str]:
    """Patterns of the steps that `--part` or `--only` chooses; none for all.

    Raises:
        FactoryError: there is no such part, or both are given.
    """
    if part is None:
        return only
    if only:
        raise FactoryError("--part and --only choose steps in two ways", mend="Leave one of them out")
    known = {one.name: one for one in parts_of(plan)}
    if part not in known:
        mend = suggest(part, known)
        raise FactoryError(f"the plan of '{plan.recipe.name}' has no part '{part}'", mend=mend)
    return known[part].steps


def _legs(plan: Plan) -> dict[str, set[str]]:
    """For each step, the trainings beside which it is to be made; none for what they have in common."""
    users: dict[str, set[str]] = {step.name: set() for step in plan.steps}
    for step in reversed(plan.steps):  # whose training cannot begin without it
        users[step.name] |= {step.name} if step.stage == "train" else set()
        for name in needs(step):
            users[name] |= users[step.name]
    legs: dict[str, set[str]] = {}
    for step in plan.steps:
        before = set().union(*(legs[name] for name in needs(step)))
        legs[step.name] = users[step.name] if len(users[step.name]) == 1 else before
    return legs


def _plain(step: str, taken: Iterable[str]) -> str:
    name = whole = re.sub(r"[^A-Za-z0-9._+=,-]", ".", step)[:_LONGEST]
    others, number = set(taken), 2
    while name in others:
        name, number = f"{whole}.{number}", number + 1
    return name
