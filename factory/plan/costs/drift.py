"""What measuring drift takes: answers to held-out prompts, read by two models. Under `factory.plan.costs`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from factory.plan.costs.generate import LIKE, generated
from factory.plan.costs.known import Known, Model
from factory.plan.costs.rows import Rows
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step

# As in texts/reader.py, which is not imported for it: it takes torch along, and a plan does without.
LOGITS = 2**22  # of one model that are held at once while a batch is read
TOKENS = 8_192  # of a batch that is read


def drift(known: Known, step: Step) -> Work:
    """Prompts are answered, the base's answers are read by the base and the model, answers become vectors."""
    settings: Any = step.settings
    asks = step if "drift" not in step.inputs else known.above(step.inputs["drift"])
    drawn = _drawn(known, asks)
    base = known.base
    model = known.model(step.inputs["model"], step) if "model" in step.inputs else None
    answering = model or base
    passes: list[Passes] = []
    memory = kept = 0.0
    for rows in drawn:
        new = min(settings.max_new_tokens, LIKE * rows.answer)
        more, most = generated(
            answering, rows.rows, rows.question, new, engine=settings.engine, batch=settings.batch_size
        )
        passes += more
        passes += [_read(one, rows.rows, rows.question + new) for one in (base, model) if one]
        passes.append(_read(base, rows.rows, new))  # its vectors
        memory = max(memory, most)
        kept += rows.rows * (4 * new + 4 * base.width)
    if text := settings.text:
        tokens = known.text_tokens(step, "text", text.data, text.max_tokens)
        passes.append(_read(answering, text.data.rows or 0, tokens))
    known.assume(f"a response to a held-out prompt is {LIKE:g} times as long as the dataset's own")
    if settings.embedding:
        known.assume(f"the embedding model {settings.embedding} is no larger than the base")
    both = base.weights + (model.weights if model else 0.0)
    judging = both + base.activations(TOKENS, scored=LOGITS / base.vocabulary * (2 if model else 1))
    return Work(
        step.name,
        step.stage,
        passes=tuple(passes),
        memory=max(memory, judging),
        disk=kept,
        moved=both + answering.weights + base.weights,
    )


def _drawn(known: Known, step: Step) -> list[Rows]:
    """The held-out prompts of each dataset."""
    settings: Any = step.settings
    found = []
    for asked in settings.held_out:
        rows = known.rows(step, f"held_out.{asked.data.name}", asked.data)
        found.append(replace(rows, rows=asked.rows))  # fewer are left of a small dataset
    return found


def _read(model: Model, texts: float, tokens: float) -> Passes:
    """So many texts are read by a model, in batches."""
    through = texts * tokens / max(tokens, TOKENS)
    return Passes(
        "forward",
        flops=texts * model.sizes.prefill_flops(max(1, round(tokens))),
        read=through * model.weights + model.traffic(texts * tokens),
        blocks=through * model.blocks,
    )
