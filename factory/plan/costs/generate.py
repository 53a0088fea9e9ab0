"""What generating takes: the teacher's responses and those of a draft's target; see `factory.plan.costs`."""

from __future__ import annotations

from typing import Any

from factory.plan.costs.known import Known, Model
from factory.plan.costs.rows import TEMPLATE
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step

BATCH = {"transformers": 64, "vllm": 128, "openai": 128}  # rows that are generated for at once
LEAST = 8  # rows that must fit at once; more are taken where there is room
LIKE = 1.2  # a rewritten response is so much longer than the original
MODES = 2  # greedy and sampled


def regenerate(known: Known, step: Step) -> Work:
    """The base rewrites the responses of a dataset."""
    settings: Any = step.settings
    rows = known.rows(step, "data", settings.data)
    new = min(settings.max_new_tokens, LIKE * rows.answer)
    prompt = rows.question + (rows.answer if settings.sees == "reference" else 0)
    known.assume(f"a rewritten response is {LIKE:g} times as long as the original")
    if settings.engine == "openai":  # the server's GPU, and its bill
        known.assume("the server that answers `engine: openai` costs as much as a GPU of one's own")
    count = rows.first(settings.data.rows) * settings.samples
    passes, memory = generated(
        known.base, count, prompt, new, engine=settings.engine, batch=settings.batch_size
    )
    return Work(step.name, step.stage, passes=passes, memory=memory, moved=known.base.weights)


def respond(known: Known, step: Step) -> Work:
    """The target of drafts writes its own texts behind prompts, greedily and sampled."""
    target = known.model(step.inputs["target"], step)
    rows, prompt, new = prompts(known, step)
    passes, memory = generated(target, MODES * rows, prompt, new)
    return Work(step.name, step.stage, passes=passes, memory=memory, moved=target.weights)


def prompts(known: Known, step: Step) -> tuple[int, float, float]:
    """Of a step of respond: how many prompts, and tokens of a mean prompt and of its response."""
    settings: Any = step.settings
    known.assume("a response to a prompt of `draft` is half as long as it may be, and none is taken over")
    new = settings.max_new_tokens / 2
    if settings.kind == "text":  # the beginnings of texts
        return settings.rows, settings.prompt_tokens, new
    rows = known.rows(step, "data", settings.data)
    return rows.first(settings.rows), rows.question or TEMPLATE, new


def generated(
    model: Model,
    rows: float,
    prompt: float,
    new: float,
    *,
    engine: str = "transformers",
    batch: int | None = None,
) -> tuple[tuple[Passes, ...], float]:
    """The passes of generating, and the bytes on the GPU.

    Args:
        model: what generates.
        rows: responses.
        prompt: tokens of a mean prompt.
        new: tokens of a mean response.
        engine: of `factory.engines`.
        batch: rows in work at once; None for what engines mostly find.
    """
    batch = max(1, min(batch or BATCH[engine], int(rows)))
    sizes, eager = model.sizes, engine == "transformers"
    cache, steps, reading = model.cache(prompt + new), rows * new / batch, rows / batch
    return (
        Passes(
            "forward",
            flops=rows * sizes.prefill_flops(int(prompt), "blocks"),
            read=reading * model.weights + model.traffic(rows * prompt),
            blocks=reading * model.blocks,
            eager=eager,
        ),
        Passes(
            "decode",
            flops=rows * new * sizes.flops(int(prompt + new / 2)),
            read=steps * (model.weights + batch * cache),
            blocks=steps * model.blocks,
            eager=eager,
        ),
    ), model.weights + min(batch, LEAST) * cache + model.activations(min(batch, LEAST))
