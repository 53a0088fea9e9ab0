"""`factory run --processes N`: has the train steps of a plan run in several processes, or says why not.

Between plan/plan.py and run.py. Nothing of it is in a key: an artifact is the same whatever the number of
processes, and what one process began several go on with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from factory.errors import FactoryError
from factory.plan.places import line_of
from factory.plan.plan import Plan, Step
from factory.stages import train
from factory.stages.train_processes import Strategy, unfit


def spread(
    plan: Plan, processes: int, strategy: Strategy, wanted: Callable[[Step], bool] = lambda step: True
) -> Plan:
    """The plan with so many processes for each training.

    Args:
        plan: of a recipe or a sweep.
        processes: for each train step.
        strategy: how they hold the model.
        wanted: whether a step is to be made at all; what is not, need not be fit for it.

    Raises:
        FactoryError: there are too few GPUs, or a training cannot be shared so; with its line in the recipe.
    """
    if processes == 1:
        if strategy != "ddp":
            raise FactoryError(
                f"--strategy {strategy} is for several processes", mend="Add --processes, or leave it out"
            )
        return plan
    device = _device(processes, strategy)
    steps = []
    for step in plan.steps:
        if isinstance(settings := step.settings, train.Settings) and wanted(step):
            found = unfit(processes, strategy, settings.method, settings.loss, settings.sft, device)
            if found:
                raise FactoryError(
                    found.what, where=line_of(plan, step, ("train", *found.keys)), mend=found.mend
                )
            several = settings.model_copy(update={"processes": processes, "strategy": strategy})
            step = replace(step, settings=several)
        steps.append(step)
    return replace(plan, steps=tuple(steps))


def _device(processes: int, strategy: Strategy) -> str:
    """`cuda` or `cpu`.

    Raises:
        FactoryError: there are GPUs, but not one for each process; or none, and the strategy needs them.
    """
    import torch

    count = torch.cuda.device_count()
    here = "there is none here" if count == 0 else f"there {'is' if count == 1 else 'are'} {count}"
    fewer = f"Use --processes {count}" if count > 1 else "Leave --processes out"
    if strategy == "fsdp" and count < processes:
        what = f"--strategy fsdp shards a model over a GPU for each process, and {here}"
        raise FactoryError(what, mend=fewer if count else "Use --strategy ddp")
    if 0 < count < processes:
        raise FactoryError(f"--processes {processes} wants a GPU for each, and {here}", mend=fewer)
    return "cuda" if count else "cpu"
