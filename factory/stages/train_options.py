"""PEFT's and TRL's options for the train stage: our defaults, a recipe's fields over them, what they refuse.

Under train.py, which trains with them.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models import load
from factory.recipe.training import ADAPTERS, Loss, Method, missing_reporter

# Learning rate, schedule and epochs follow SDFT's LoRA runs (arXiv 2402.13669); the other defaults are ours.
LORA: Mapping[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
}
SFT: Mapping[str, Any] = {
    "num_train_epochs": 2,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "cosine",
    "max_length": 1024,  # of longer rows `long_rows` says what becomes
    "save_strategy": "steps",
    "save_steps": 50,
    "save_total_limit": 2,  # a kill may tear the newest
    "logging_strategy": "steps",
    "log_level": "error",
    "disable_tqdm": True,
}
# Whole weights want smaller steps than an adapter that begins at zero: TRL's and HFT's rate.
SFT_OF: Mapping[str, Mapping[str, Any]] = {"lora": {}, "qlora": {}, "full": {"learning_rate": 2e-5}}
# A step reads about eight short rows on a GPU and four on a CPU, where packing gains nothing: its attention
# computes the scores between packed rows too, and masks them.
SFT_ON: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        "per_device_train_batch_size": 4,
        "packing": False,
        "bf16": False,
        "gradient_checkpointing": False,
    },
    "cuda": {
        "per_device_train_batch_size": 1,
        "packing": True,
        "packing_strategy": "bfd",
        "bf16": True,
        "gradient_checkpointing": True,
    },
}
# TRL's trainer for distillation reads rows one by one. `lmbda` 0 and no `seq_kd`: it learns from the recipe's
# responses and generates none of its own. Dropout stays what the recipe says.
DISTILL: Mapping[str, Any] = {
    "lmbda": 0.0,
    "seq_kd": False,
    "disable_dropout": False,
    "packing": False,
    "per_device_train_batch_size": 4,
}

REFUSALS = (TypeError, ValueError, AttributeError, KeyError, ImportError)
"""What PEFT and TRL raise at values they do not take."""


def used(method: Method, lora: Any, arguments: Any) -> dict[str, Any]:
    """The values a reader asks for first; a recipe may leave them to defaults of ours or the libraries'."""
    at_once = arguments.train_batch_size * arguments.world_size
    return {
        "method": method,
        "learning_rate": arguments.learning_rate,
        "schedule": str(getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)),
        "rank": lora.r if lora else None,
        "alpha": lora.lora_alpha if lora else None,
        "batch": at_once * arguments.gradient_accumulation_steps,
        "packing": arguments.packing,
        "max_length": arguments.max_length,
        "precision": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32",
    }


def configs(
    method: Method,
    loss: Loss,
    beta: float,
    lora: Mapping[str, Any],
    sft: Mapping[str, Any],
    seed: int,
    checkpoints: Path,
) -> tuple[Any, Any]:
    """PEFT's and TRL's own configuration objects; the first is None where no adapter is trained.

    Args:
        method: how it is trained.
        loss: what is made small; of `distill` TRL's GKDConfig comes back, which is an SFTConfig.
        beta: of `distill`: 0 is the divergence of the pruned model from the base (forward KL), 1 the other
            way round, between them a mixture (generalised Jensen-Shannon).
        lora: fields of LoraConfig over `LORA`.
        sft: fields of SFTConfig over `SFT`, `SFT_OF`, `SFT_ON` and `DISTILL`.
        seed: the step's.
        checkpoints: the folder for them.

    Raises:
        FactoryError: a library refuses a value, or one to follow training with is missing.
    """
    from peft import LoraConfig
    from trl import SFTConfig

    if missing := missing_reporter(sft.get("report_to")):
        raise FactoryError(missing[0], where="train.sft.report_to", mend=missing[1])
    device = load.device()
    ours = {
        "output_dir": str(checkpoints),
        "seed": seed,
        "data_seed": seed,
        "report_to": "none",
        "use_cpu": device == "cpu",
        "completion_only_loss": True,
    }
    make: Callable[..., Any] = SFTConfig
    special: dict[str, Any] = {}
    if loss == "distill":
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # a warning that its interface may change
        from trl.experimental.gkd import GKDConfig

        make, special = GKDConfig, {**DISTILL, "beta": beta}
    defaults = {**SFT, **SFT_OF[method], **SFT_ON[device], **precision(device, sft), **special, **ours}
    adapter = None
    if method in ADAPTERS:
        adapter = _checked("lora", LoraConfig, {**LORA, "task_type": "CAUSAL_LM"}, lora)
    return adapter, _checked("sft", make, defaults, sft)


def precision(device: str, sft: Mapping[str, Any]) -> dict[str, bool]:
    """What activations are computed in, where a recipe leaves it open: bf16, or fp16 on a GPU without it.

    Args:
        device: from `load.device`.
        sft: the recipe's fields; one of the two excludes the other.
    """
    for chosen, other in (("fp16", "bf16"), ("bf16", "fp16")):
        if sft.get(chosen):
            return {other: False}
    if device != "cuda":
        return {}
    import torch

    # Turing (T4) and older emulate bf16, slower than fp32.
    able = torch.cuda.is_bf16_supported(including_emulation=False)
    return {"bf16": able, "fp16": not able}


def _checked(
    kind: str, make: Callable[..., Any], defaults: Mapping[str, Any], chosen: Mapping[str, Any]
) -> Any:
    """`make` with the chosen fields over the defaults; its refusal becomes an error that names the field."""
    try:
        return make(**{**defaults, **chosen})
    except REFUSALS as together:
        for name, value in chosen.items():
            try:
                make(**{**defaults, name: value})
            except REFUSALS as alone:
                raise refusal(f"train.{kind}.{name}", alone) from alone
        raise refusal(f"train.{kind}", together) from together


def refusal(where: str, error: Exception) -> FactoryError:
    """A library's refusal as the error that a person sees."""
    traceback.print_exception(error)  # into the step's log: the one line below may not be all
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return FactoryError(f"the library refuses this: {reason}", where=where, mend="Change it in the recipe")
