"""What scoring a model on benchmarks takes: under `factory.plan.costs`."""

from __future__ import annotations

from typing import Any

from factory.plan.costs.documents import documents
from factory.plan.costs.known import PACK, Known
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step
from factory.sources import SANDBOX
from factory.tasks.suites import SUITES

JUDGED = 2  # passes for a batch of questions: what they share, and their choices


def evaluate(known: Known, step: Step) -> Work:
    """Every document is read with its choices, or answered; what a group begins with is read once."""
    settings: Any = step.settings
    model = known.model(step.inputs["model"], step)
    sizes = model.sizes
    forward = decode = reading = steps = cached = tokens = 0.0
    for name in settings.tasks:
        task = SUITES[settings.suite][name]
        sandbox = task.dataset.startswith(SANDBOX)
        found = documents(task, settings.shots[name], settings.limit, sandbox)
        context = int(found.context)
        # Only what is judged runs through the head.
        whole, beginning = (sizes.prefill_flops(int(n), "blocks") for n in (context, found.shared))
        forward += found.groups * beginning + found.count * (whole - beginning)
        forward += found.count * found.choices * sizes.flops(context)
        tokens += found.groups * found.shared
        tokens += found.count * (context - found.shared + found.choices)
        decode += found.count * found.new * sizes.flops(context)
        reading += JUDGED * found.count / settings.batch_size
        steps += found.count * found.new / settings.batch_size
        cached += found.count * found.new * model.cache(context + found.new / 2)
    read = reading * model.weights + model.traffic(tokens)
    known.assume("documents of the benchmarks are as long as on average")
    return Work(
        step.name,
        step.stage,
        passes=(
            Passes("forward", forward, read, reading * model.blocks),
            Passes("decode", decode, steps * model.weights + cached, steps * model.blocks),
        ),
        memory=model.weights + model.activations(8 * PACK, scored=PACK / 4),
        moved=model.weights,
    )
