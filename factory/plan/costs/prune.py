"""What choosing and removing blocks takes, and merging: under `factory.plan.costs`."""

from __future__ import annotations

from typing import Any

from factory.plan.costs.known import Known
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step

AT_ONCE = 4  # calibration texts in a pass


def importance(known: Known, step: Step) -> Work:
    """The base reads the calibration texts, once or as often as the metric wants."""
    settings: Any = step.settings
    base = known.base
    tokens = known.text_tokens(step, "calibration", settings.data, settings.max_tokens)
    longest = min(settings.max_tokens, base.sizes.positions or settings.max_tokens)
    texts = settings.data.rows or 128
    times = {"taylor": 3.0, "perplexity": base.blocks + 1.0}.get(settings.metric, 1.0)
    if settings.metric == "perplexity_iterative":  # the model without each block, round by round
        times = float(sum(base.blocks - i for i in range(settings.rounds or 1)))
    through = times * texts / AT_ONCE
    return Work(
        step.name,
        step.stage,
        passes=(
            Passes(
                "forward",
                flops=times * texts * base.sizes.prefill_flops(max(1, round(tokens))),
                read=through * base.weights + base.traffic(times * texts * tokens),
                blocks=through * base.blocks,
            ),
        ),
        memory=base.weights * (2 if settings.metric == "taylor" else 1)
        + base.activations(AT_ONCE * longest, scored=longest * (settings.metric != "angular")),
        moved=base.weights,
    )


def prune(known: Known, step: Step) -> Work:
    """Weights are copied; the proof reads both models again."""
    settings: Any = step.settings
    base, kept = known.base.stored, known.pruned(step).stored
    proof = base + kept if settings.proof else 0.0
    return Work(step.name, step.stage, disk=kept, moved=base + 2 * kept + proof)


def merge(known: Known, step: Step) -> Work:
    """The parts are read, and a model of their shape is written."""
    settings: Any = step.settings
    kept = known.pruned(step).stored
    return Work(step.name, step.stage, disk=kept, moved=kept * (1 + len(settings.of)))
