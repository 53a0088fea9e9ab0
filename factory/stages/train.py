"""Train: fine-tuning of the pruned model on original or regenerated responses; merge and evaluate read the
result.

TRL's trainers with PEFT, told what to do by the words of factory/recipe/training.py. `lora` and `sft` take
PEFT's and TRL's own field names over our defaults (train_options.py). Rows become tokens and labels in
train_rows.py, methods are in train_methods.py, train_watch.py stops what cannot come to good, train_head.py
spares a CPU half of the output layer, and train_processes.py has several processes train together.
`model/` is a stock folder that differs from the pruned model in nothing but its weights. A run that was
killed resumes from its last whole checkpoint, bit for bit.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory.data.rows import DataSpec
from factory.data.training_rows import TrainingRows
from factory.models import load
from factory.models.checkpoint import read_config
from factory.recipe.training import FOLLOWING, Freeze, LongRows, Loss, Method
from factory.stages import Frozen, Progress, train_processes
from factory.stages.train_methods import freeze_half, model_to_train, refuse_tied, write_model
from factory.stages.train_options import configs, used
from factory.stages.train_packing import refuse_leaks
from factory.stages.train_processes import Strategy
from factory.stages.train_rows import Renderer, Rows, stops_of, training_rows
from factory.stages.train_watch import curve, fit, last_checkpoint, make_trainer, told_if_full

VERSION = 4
LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "peft", "accelerate")
# Who looks on changes nothing; nor does how many share a step.
KEYLESS: dict[str, Any] = {"sft": set(FOLLOWING), "processes": True, "strategy": True}

CURVE_POINTS = 50


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the datasets, by name; their rows are put together and shuffled.
        shares: of each dataset in the mix, where it takes counting rows to know how many that are.
        targets: `original` trains on the datasets' own responses (SFT), `self` on regenerated ones.
        method: see factory/recipe/training.py.
        freeze: of `full`, what does not learn.
        loss: see factory/recipe/training.py.
        beta: of `distill`: 0 forward KL, 1 reverse KL, between them generalised Jensen-Shannon.
        long_rows: what becomes of rows longer than `sft.max_length`, or than the model reads.
        lora: fields of PEFT's LoraConfig over `LORA`.
        sft: fields of TRL's SFTConfig over `SFT`, `SFT_OF` and `SFT_ON`.
        quantiser: of `qlora`, the version of the library that quantises: it decides the result.
        seed: of the shuffling, the adapter's first weights, dropout and the half that is frozen.
        processes: how many train together, see train_processes.py.
        strategy: what each of several holds: `ddp` the whole model, `fsdp` (FSDP2) a part of it.
    """

    data: tuple[DataSpec, ...] = Field(min_length=1)
    shares: dict[str, float] = Field(default_factory=dict)
    targets: Literal["original", "self"]
    method: Method = "lora"
    freeze: Freeze | None = None
    loss: Loss = "sft"
    beta: float = Field(default=0.0, ge=0, le=1)
    long_rows: LongRows = "drop"
    lora: dict[str, Any] = Field(default_factory=dict)
    sft: dict[str, Any] = Field(default_factory=dict)
    quantiser: str | None = None
    seed: int = 0
    processes: int = 1
    strategy: Strategy = "ddp"


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/ (stock) and, of LoRA and QLoRA, adapter/ (its weights).

    Args:
        settings: see `Settings`.
        inputs: `model`, the pruned model's folder; `teacher`, of `distill` the base's; `data.<name>`, for
            each dataset its folder, or the regenerated artifact where targets is `self`.
        out: may hold checkpoints/ of an interrupted run of the same step.
        progress: told the steps done, with the loss.

    Returns:
        Rows `taken` of each dataset; of them rows trained on, left out, cut and empty; tokens and how many
        have a label, steps, epochs, first and last loss, the curves as [step, value] pairs, whether there is
        an adapter, parameters and how many of them were trained; `half`: of HFT the matrices and how many
        were frozen; `used`: the values behind the run, written in the recipe or not; `measured`: what it
        cost; `said`: what a person has to be told; `processes`: of several, how many, how they shared and
        talked. Only the first process has facts, and writes.

    Raises:
        FactoryError: PEFT or TRL refuse a value, the tokenizer has no chat template, the template does
            not end a turn with a stop token, no row fits max_length, the model does not keep packed rows
            apart, the device has too little memory, the loss grew beyond all bounds, or what the method or
            `report_to` needs is not installed.
    """
    train_processes.one_gpu()
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # Those of FSDP are of another kind: under another strategy training begins anew.
    checkpoints = out / ("checkpoints-fsdp" if settings.strategy == "fsdp" else "checkpoints")
    source = inputs["model"]
    spread = settings.processes, settings.strategy
    sft = train_processes.options(*spread, settings.method, settings.loss, settings.sft)
    chosen = (settings.method, settings.loss, settings.beta, settings.lora, sft, settings.seed)
    lora, arguments = configs(*chosen, checkpoints)
    transformers.set_seed(settings.seed)
    lighter = "Use `method: qlora`, a smaller base, or free the device's memory"
    with told_if_full("to hold the model", "train.method", lighter):
        model = model_to_train(settings.method, source, arguments)
        teacher = load.causal_lm(inputs["teacher"]) if settings.loss == "distill" else None
    if lora:
        refuse_tied(model, lora)
    tokenizer, room = load.tokenizer(source), _room(source, arguments.max_length)
    found = TrainingRows(settings.targets, settings.data, inputs, settings.shares)
    renderer = Renderer(tokenizer, stops_of(tokenizer, model.generation_config), str(source))
    rows = training_rows(found, renderer, room, settings.long_rows, settings.seed)
    half = freeze_half(model, settings.seed) if settings.freeze == "half" else None
    tokens = rows.tokens / len(rows.dataset)
    train_processes.portion(arguments, settings.loss, tokens, model.num_parameters())
    trainer = make_trainer(
        settings.loss, model, teacher, tokenizer, (lora, arguments), rows.dataset, progress
    )
    refuse_leaks(trainer)
    train_processes.prepare(trainer, *spread)
    if "logging_steps" not in settings.sft:
        arguments.logging_steps = _logging_steps(trainer)
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    fit(trainer, train_processes.first_before_others(lambda: last_checkpoint(checkpoints)))
    together = train_processes.facts(trainer, settings.strategy)
    trained = train_processes.whole(trainer, settings.strategy, source, lora)
    if not train_processes.is_first():
        return {}
    written = write_model(settings.method, trained, source, out)
    for folder in out.glob("checkpoints*"):
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "taken": found.taken,
        **_facts(rows, room, trainer),
        "adapter": lora is not None,
        "parameters": written.num_parameters(),
        "trainable_parameters": trainable,
        "half": half,
        "used": {**used(settings.method, lora, trainer.args), "max_length": room},
        **together,
    }


def _room(source: Path, max_length: int | None) -> int | None:
    """How many tokens a row may have: no more than `max_length`, nor than the model has positions."""
    positions = load.limits(read_config(source), source)[0]
    return min((bound for bound in (max_length, positions) if bound is not None), default=None)


def _logging_steps(trainer: Any) -> int:
    """So often that a curve has its points; it divides save_steps, so a resumed curve is the same."""
    steps = trainer.args.max_steps
    if steps <= 0:
        batches = len(trainer.get_train_dataloader()) / trainer.args.gradient_accumulation_steps
        steps = math.ceil(batches * trainer.args.num_train_epochs)
    return 10 if steps >= 100 else 1


def _facts(rows: Rows, room: int | None, trainer: Any) -> dict[str, Any]:
    state = trainer.state
    losses = curve(state.log_history, "loss")
    return {
        "rows": len(rows.dataset),
        "rows_left_out": rows.left_out,
        "rows_cut": rows.cut,
        "rows_empty": rows.empty,
        "tokens": rows.tokens,
        "tokens_trained": rows.trained,
        "steps": state.global_step,
        "epochs": round(state.epoch, 3),
        "loss_first": losses[0][1],
        "loss_last": losses[-1][1],
        "losses": _thinned(losses),
        "grad_norms": _thinned(curve(state.log_history, "grad_norm")),
        "learning_rates": _thinned(curve(state.log_history, "learning_rate")),
        "measured": trainer.measured.facts(),
        "said": rows.said(room, whole=room != trainer.args.max_length),
    }


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """At most about `CURVE_POINTS` of them, the first and the last among them."""
    kept = points[:: math.ceil(len(points) / CURVE_POINTS) or 1]
    return kept if kept[-1:] == points[-1:] else [*kept, points[-1]]
