"""Parts of a plan: which steps somebody wants, what they need, how much hangs on each."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from factory.errors import FactoryError
from factory.plan.plan import Plan, Ref, Step


def select(plan: Plan, only: Sequence[str] = ()) -> tuple[Step, ...]:
    """The steps whose names match a pattern in `only` (all, when it is empty) and all they need, in order.

    Raises:
        FactoryError: a pattern matches nothing.
    """
    if not only:
        return plan.steps
    wanted: set[str] = set()
    for pattern in only:
        found = {s.name for s in plan.steps if any(fnmatchcase(name, pattern) for name in (s.name, s.local))}
        if not found:
            names = ", ".join(step.name for step in plan.steps)
            raise FactoryError(f"--only {pattern} matches no step", mend=f"The steps are {names}")
        wanted |= found
    for step in reversed(plan.steps):  # users of a step come after it
        if step.name in wanted:
            wanted |= needs(step)
    return tuple(step for step in plan.steps if step.name in wanted)


def needs(step: Step) -> set[str]:
    """Names of the steps whose artifacts a step reads."""
    return {place.step for place in step.inputs.values() if isinstance(place, Ref)}


def depths(steps: Sequence[Step]) -> dict[str, int]:
    """For every step, how many steps the longest chain that hangs on it has."""
    depth = {step.name: 0 for step in steps}
    for step in reversed(steps):
        for name in needs(step):
            depth[name] = max(depth[name], depth[step.name] + 1)
    return depth
