"""A sweep as one plan: every step that points have in common once, and the sweep's own report at the end.

sweep.py -> `make_plan_of` -> run/run.py. Each point is planned as a run of its own; steps with the same key
are the same step. Where the beginning of one point's step is all of another's, they share the longer one: a
pass that removes block by block, which has the order of a smaller drop in it, and a regeneration, whose
first rows are those of a smaller set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory import hub_files
from factory.metrics import METRICS
from factory.plan.keys import stage_key
from factory.plan.make import AtLeast, lay_out, make_plan
from factory.plan.outside import gather
from factory.plan.plan import Plan, Planned, Ref, Step
from factory.recipe.recipe import Recipe
from factory.recipe.sweep import Point, Sweep, load
from factory.stages import load as load_stage


def plan_file(path: Path | str, overrides: Iterable[str] = (), miniature: bool = False) -> Plan:
    """The plan of a recipe file, be it one run or a sweep, as it is written or in miniature.

    Raises:
        FactoryError: the recipe, or what it names, cannot be used.
    """
    read = load(path, overrides, miniature)
    return make_plan(read) if isinstance(read, Recipe) else make_plan_of(read)


def make_plan_of(sweep: Sweep) -> Plan:
    """Resolves and checks all points of a sweep and lays out their steps, shared ones once.

    Raises:
        FactoryError: a model, dataset, suite or task that cannot be used, with its line in the recipe.
    """
    with hub_files.remembered():
        outsides = [gather(point.recipe) for point in sweep.points]
    plans = [lay_out(p.recipe, outside) for p, outside in zip(sweep.points, outsides, strict=True)]
    needs = [_Needs.of(point, plan) for point, plan in zip(sweep.points, plans, strict=True)]
    for i, (point, outside) in enumerate(zip(sweep.points, outsides, strict=True)):
        plans[i] = lay_out(point.recipe, outside, needs[i].of_all(needs))
    steps, names = _shared(sweep, plans)
    steps.append(_report(sweep, steps, names))
    whole = sweep.points[0].recipe.model_copy(update={"sweep": dict(sweep.axes)})
    planned = [Planned(p.name, p.values, plan) for p, plan in zip(sweep.points, plans, strict=True)]
    return Plan(whole, tuple(steps), points=tuple(planned))


Family = tuple[Any, ...]  # what steps of several points have in common that could be one step


@dataclass(frozen=True)
class _Needs:
    """How far a point needs those steps to go whose beginning is the whole step of a point that needs less.

    Attributes:
        removals: by family, the blocks that a pass removes one by one; none for other metrics.
        rows: by dataset, the family of its regeneration and the rows, infinite for all.
    """

    removals: Mapping[Family, int]
    rows: Mapping[str, tuple[Family, float]]

    @classmethod
    def of(cls, point: Point, plan: Plan) -> _Needs:
        """What a point needs by itself."""
        removals, rows = {}, {}
        step = plan.step("importance")
        settings = step.settings.model_dump(mode="json")
        if METRICS[settings["metric"]].shape == "order":
            removals[_family({**settings, "rounds": None}, step, plan)] = point.recipe.prune.count
        for step in plan.steps:
            if step.stage == "regenerate":
                settings = step.settings.model_dump(mode="json")
                wanted = settings["data"].pop("rows")
                family = _family(settings, step, plan)
                rows[step.name.split("/", 1)[1]] = (family, math.inf if wanted is None else wanted)
        return cls(removals, rows)

    def of_all(self, points: Sequence[_Needs]) -> AtLeast:
        """How far this point's steps go when they serve all these points."""
        removals = [count for p in points for family, count in p.removals.items() if family in self.removals]
        regenerated: dict[str, int | None] = {}
        for name, (family, _) in self.rows.items():
            most = max(rows for p in points for other, rows in p.rows.values() if other == family)
            regenerated[name] = None if math.isinf(most) else int(most)
        return AtLeast(max(removals, default=0), regenerated)


def _family(settings: Mapping[str, Any], step: Step, plan: Plan) -> Family:
    """A step by its stage, its settings and its inputs, those of the plan by their keys."""
    inputs = {
        role: f"{plan.step(place.step).key}/{place.path}" if isinstance(place, Ref) else place.fingerprint
        for role, place in step.inputs.items()
    }
    return (step.stage, json.dumps(settings, sort_keys=True), *sorted(inputs.items()))


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
        miniature=sweep.points[0].recipe.miniature,
    )
    inputs = {point.name: Ref(mine["report"]) for point, mine in zip(sweep.points, names, strict=True)}
    key = stage_key("sweep", settings, {role: f"{keys[place.step]}/." for role, place in inputs.items()})
    return Step("sweep", "sweep", settings, dict(inputs), key)
