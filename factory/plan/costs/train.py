"""What training a variant takes: under `factory.plan.costs`."""

from __future__ import annotations

from typing import Any

from factory.plan.costs.known import PACK, Known, Model
from factory.plan.costs.work import Passes, Work
from factory.plan.plan import Step
from factory.stages.train_options import DISTILL, SFT, SFT_ON

ADAM = 16  # bytes a learning weight takes: itself, its gradient and two moments, each float32
LORA_OF = 7  # matrices of a block, where the adapter is on all of them
STEP = 5.0  # a step tells so many times as many operations as a forward pass: there, back, and the update


def train(known: Known, step: Step) -> Work:
    """A pruned model learns rows, alone or beside the base that it is to be like."""
    settings: Any = step.settings
    model, sft = known.pruned(step), _options(known, settings)
    distilled = settings.loss == "distill"
    longest = min(sft["max_length"] or PACK, model.sizes.positions or PACK)
    count, tokens = _rows(known, step, longest)
    at_once = sft["per_device_train_batch_size"]
    batch = at_once * sft.get("gradient_accumulation_steps", 1)
    held = longest / tokens if sft["packing"] else 1.0  # rows of the dataset in a row that is trained
    steps = count * float(sft["num_train_epochs"]) / (batch * held)
    if sft.get("max_steps", -1) > 0:
        steps = sft["max_steps"]
    seen = steps * batch * held * tokens
    anew = 1.0 if sft["gradient_checkpointing"] else 0.0  # activations are computed a second time
    times = anew + (3.0 if settings.method == "full" else 2.0)  # frozen weights have no gradient
    learning = _learning(model, settings)
    frozen = {"full": 0.0, "qlora": model.weights / 3.6}.get(settings.method, model.weights)
    kept = model.stored + (learning * 4 if settings.method != "full" else 0)
    passes = [
        Passes(
            "train",
            flops=seen * times * _token(model, tokens),
            read=steps * batch / at_once * times * model.weights + times * model.traffic(seen),
            blocks=steps * batch / at_once * STEP * model.blocks,
        )
    ]
    if distilled:
        passes.append(
            Passes(
                "forward",
                flops=seen * _token(known.base, tokens),
                read=steps * batch / at_once * known.base.weights,
                blocks=steps * batch / at_once * known.base.blocks,
            )
        )
    return Work(
        step.name,
        step.stage,
        passes=tuple(passes),
        memory=frozen
        + ADAM * learning
        + (known.base.weights if distilled else 0.0)
        + model.activations(longest * at_once),
        disk=kept,
        moved=model.weights + kept,
    )


def _options(known: Known, settings: Any) -> dict[str, Any]:
    special = DISTILL if settings.loss == "distill" else {}
    return {**SFT, **SFT_ON[known.device], **special, **settings.sft}


def _rows(known: Known, step: Step, longest: int) -> tuple[int, float]:
    """How many rows of all datasets together, and the tokens of a mean one."""
    settings: Any = step.settings
    read = [(known.rows(step, f"data.{spec.name}", spec), spec) for spec in settings.data]
    count = sum(rows.first(spec.rows) for rows, spec in read) or 1
    tokens = sum(rows.first(spec.rows) * (rows.question + rows.answer) for rows, spec in read) / count
    return count, max(1.0, min(tokens, longest))


def _token(model: Model, tokens: float) -> float:
    """FLOPs of a forward pass for one token of a row of so many."""
    whole = max(1, int(tokens))
    return model.sizes.prefill_flops(whole) / whole


def _learning(model: Model, settings: Any) -> float:
    """Weights that learn: all, half of the blocks', or the adapter's."""
    if settings.method == "full":
        return model.sizes.parameters * (0.5 if settings.freeze else 1.0)
    rank = settings.lora.get("r", 16)
    modules = settings.lora.get("target_modules", "all-linear")
    of = len(modules) if isinstance(modules, list) else LORA_OF
    # A pair of matrices a module; those of the MLP are wider on one side.
    return model.blocks * of * rank * 3.0 * model.width
