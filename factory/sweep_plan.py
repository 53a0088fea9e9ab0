"""A sweep as one plan: every step that points have in common once, and the sweep's own report at the end.

sweep.py -> `make_plan_of` -> run.py. Each point is planned as a run of its own; steps with the same key are
the same step. A metric that removes block by block gives the order of a smaller drop as the beginning of a
larger one's, so points that differ in the drop alone share the pass of the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory import hub_files
from factory.keys import stage_key
from factory.metrics import METRICS
from factory.outside import gather
from factory.plan import Plan, Planned, Ref, Step, lay_out, make_plan
from factory.recipe import Recipe
from factory.stages import load as load_stage
from factory.sweep import Point, Sweep, load


def plan_file(path: Path | str, overrides: Iterable[str] = ()) -> Plan:
    """The plan of a recipe file, be it one run or a sweep.

    Raises:
        FactoryError: the recipe, or what it names, cannot be used.
    """
    read = load(path, overrides)
    return make_plan(read) if isinstance(read, Recipe) else make_plan_of(read)


def make_plan_of(sweep: Sweep) -> Plan:
    """Resolves and checks all points of a sweep and lays out their steps, shared ones once.

    Raises:
        FactoryError: a model, dataset, suite or task that cannot be used, with its line in the recipe.
    """
    with hub_files.remembered():
        outsides = [gather(point.recipe) for point in sweep.points]
    plans = [lay_out(p.recipe, outside) for p, outside in zip(sweep.points, outsides, strict=True)]
    passes = [_pass(plan) for plan in plans]
    for i, (point, outside) in enumerate(zip(sweep.points, outsides, strict=True)):
        if passes[i] is not None:
            counts = [
                p.recipe.prune.count for p, own in zip(sweep.points, passes, strict=True) if own == passes[i]
            ]
            plans[i] = lay_out(point.recipe, outside, max(counts))
    steps, names = _shared(sweep, plans)
    steps.append(_report(sweep, steps, names))
    whole = sweep.points[0].recipe.model_copy(update={"sweep": dict(sweep.axes)})
    planned = [Planned(p.name, p.values, plan) for p, plan in zip(sweep.points, plans, strict=True)]
    return Plan(whole, tuple(steps), points=tuple(planned))


def _pass(plan: Plan) -> tuple[Any, ...] | None:
    """What a pass that removes block by block depends on, but for how far it goes; None for other metrics."""
    step = plan.step("importance")
    settings = step.settings.model_dump(mode="json")
    if METRICS[settings["metric"]].shape != "order":
        return None
    return ({**settings, "rounds": None}, step.inputs)


def _shared(sweep: Sweep, plans: list[Plan]) -> tuple[list[Step], list[dict[str, str]]]:
    """The steps of all plans, each once; and for every plan, its steps' names here by their own."""
    users: dict[tuple[str, str], list[Point]] = {}
    for point, plan in zip(sweep.points, plans, strict=True):
        for step in plan.steps:
            users.setdefault((step.name, step.key), []).append(point)
    kinds = [name for name, _ in users]
    steps: dict[tuple[str, str], Step] = {}
    names: list[dict[str, str]] = []
    for plan in plans:
        mine: dict[str, str] = {}
        for step in plan.steps:
            at = (step.name, step.key)
            if at not in steps:
                everyones = len(plans) > 1 and kinds.count(step.name) == 1
                label = "" if everyones else _label(users[at])
                inputs = {
                    role: replace(place, step=mine[place.step]) if isinstance(place, Ref) else place
                    for role, place in step.inputs.items()
                }
                name = f"{label}/{step.name}" if label else step.name
                steps[at] = replace(step, name=name, inputs=inputs, point=label)
            mine[step.name] = steps[at].name
        names.append(mine)
    return list(steps.values()), names


def _label(points: list[Point]) -> str:
    """What some points have in common, as `drop=2`; where that is nothing, the first one's name."""
    if len(points) == 1:
        return points[0].name
    first = points[0].words
    common = [word for key, word in first.items() if all(point.words[key] == word for point in points)]
    return ",".join(common) or points[0].name


def _report(sweep: Sweep, steps: list[Step], names: Sequence[Mapping[str, str]]) -> Step:
    """The step that lays the points' reports side by side."""
    keys = {step.name: step.key for step in steps}
    settings = load_stage("sweep").Settings(
        recipe=sweep.name,
        keys=tuple(sweep.axes),
        points=tuple({"name": point.name, "values": dict(point.values)} for point in sweep.points),
    )
    inputs = {point.name: Ref(mine["report"]) for point, mine in zip(sweep.points, names, strict=True)}
    key = stage_key("sweep", settings, {role: f"{keys[place.step]}/." for role, place in inputs.items()})
    return Step("sweep", "sweep", settings, dict(inputs), key)
