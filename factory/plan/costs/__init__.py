"""What the steps of a plan take, before any of them is made: FLOPs, GPU memory, disk, hours and dollars.

plan.py -> here -> `factory plan`. The base's config and the headers of its weights are all that is known of
the model; the rest is counted where it can be and assumed where it cannot, and every assumption is named in
the result. Two ends are given, a fast and a slow one. RESULTS.md compares them with runs that were measured.

known.py has the plan's models and datasets; prune.py, generate.py, train.py, evaluate.py, drift.py and
speed.py the work of the stages; work.py makes seconds of it; table.py tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from factory.plan.costs import drift, evaluate, generate, prune, speed, train
from factory.plan.costs.known import RESERVE, Device, Known
from factory.plan.costs.work import HEADROOM, Costs, How, Passes, Work
from factory.plan.plan import Plan, Step

__all__ = ["HEADROOM", "RESERVE", "STAGES", "Costs", "Device", "How", "Passes", "Work", "estimate"]


def _without_models(known: Known, step: Step) -> Work:
    return Work(step.name, step.stage)


def _nothing(known: Known, step: Step) -> Work:
    """Pages of what is there already: seconds of a processor."""
    return Work(step.name, step.stage, starts=0)


STAGES: Mapping[str, Callable[[Known, Step], Work]] = {
    "importance": prune.importance,
    "prune": prune.prune,
    "curate": _without_models,
    "regenerate": generate.regenerate,
    "train": train.train,
    "merge": prune.merge,
    "evaluate": evaluate.evaluate,
    "drift": drift.drift,
    "measure": speed.measure,
    "respond": generate.respond,
    "draft": speed.draft,
    "report": _nothing,
    "sweep": _nothing,
}
"""By stage, the work of a step of it. A stage that is not here could cost anything, unseen by a limit."""


def estimate(plan: Plan, device: Device = "cuda") -> Costs:
    """What a plan's steps take.

    Args:
        plan: of a recipe or a sweep.
        device: what they run on; it decides the weights' type and training's defaults.

    Raises:
        FactoryError: the config of the base, or of another model, is none that can be taken apart.
    """
    known = Known(plan, device)
    work = tuple(STAGES[step.stage](known, step) for step in plan.steps)
    return Costs(work, tuple(known.assumed))
