"""What taking the time of models takes: drafts beside their target, the pruned model beside the base.

Under `factory.plan.costs`. One sequence is decoded at a time, so memory and Python decide, not FLOPs.
"""

from __future__ import annotations

from typing import Any

from factory.drafts import TRIED
from factory.plan.costs.generate import MODES, generated, prompts
from factory.plan.costs.known import Known, Model
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step

ROUNDS = 201  # in which latencies of forward passes are taken, the first to warm up
MOST = 8  # proposed tokens of the longest step that is timed
WARM_UPS = 2  # turns of `measure` that do not count
READ = 8_192  # tokens of a batch that a draft reads; as in texts/reader.py, which takes torch along


def draft(known: Known, step: Step) -> Work:
    """The draft reads the target's texts; latencies are taken; some prompts are decoded with and without it.

    Assisted generation is taken at its worst, a token a step, for acceptance is what the step finds out.
    """
    settings: Any = step.settings
    target = known.model(step.inputs["target"], step)
    tried = known.model(step.inputs["model"], step)
    passes: list[Passes] = []
    prompt = new = 0.0
    for one in settings.sets:
        rows, asked, said = prompts(known, known.above(step.inputs[f"responses.{one.name}"]))
        prompt, new = max(prompt, asked), max(new, said)
        # The draft reads both kinds of texts, the target those that were sampled.
        passes += [_read(tried, MODES * rows, asked + said), _read(target, rows, asked + said)]
    passes += [_behind(tried, ROUNDS, 1, prompt + new), _behind(target, ROUNDS, 1, prompt + new)]
    passes += [_behind(target, ROUNDS, k + 1, prompt + new) for k in range(1, MOST + 1)]
    known.assume("assisted generation is timed at its worst: a step of draft and target for every token")
    timed = settings.prompts * settings.rounds
    # Alone, and both together with each number of proposed tokens; forward passes may add one to those.
    for model, times in ((target, len(TRIED) + 2), (tried, len(TRIED) + 1)):
        passes += generated(model, timed * times, prompt, new, batch=1)[0]
    cache = target.cache(prompt + new) + tried.cache(prompt + new)
    return Work(
        step.name,
        step.stage,
        passes=tuple(passes),
        memory=target.weights + tried.weights + cache + target.activations(READ, scored=0),
        moved=target.weights + tried.weights,
    )


def measure(known: Known, step: Step) -> Work:
    """Base and pruned model generate in turns, each in a process of its own, both in memory."""
    settings: Any = step.settings
    turns, new = WARM_UPS + settings.rounds, settings.new
    passes: list[Passes] = []
    memory = moved = 0.0
    for name in ("base", "pruned"):
        model = known.model(step.inputs[name], step)
        rows = turns * settings.batch
        passes += generated(model, rows, settings.prompt, new, batch=settings.batch)[0]
        cache = settings.batch * model.cache(settings.prompt + new)
        tokens = settings.batch * settings.prompt
        memory += model.weights + cache + model.activations(tokens, scored=settings.batch)
        moved += model.weights
    return Work(step.name, step.stage, passes=tuple(passes), memory=memory, moved=moved, starts=2)


def _read(model: Model, texts: float, tokens: float) -> Passes:
    through = texts * tokens / READ
    return Passes(
        "forward",
        flops=texts * model.sizes.prefill_flops(int(tokens)),
        read=through * model.weights + model.traffic(texts * tokens),
        blocks=through * model.blocks,
    )


def _behind(model: Model, times: int, tokens: int, context: float) -> Passes:
    """So many passes of a few tokens behind a text, one sequence."""
    return Passes(
        "decode",
        flops=times * tokens * model.sizes.flops(int(context)),
        read=times * (model.weights + model.cache(context)),
        blocks=times * model.blocks,
    )
