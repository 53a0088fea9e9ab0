"""PEFT's and TRL's options for the train stage: our defaults, a recipe's fields over them, what they refuse.

Under train.py, which trains with them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models import load

# Defaults are ours where the paper gives none; rank and learning rate follow SDFT's LoRA runs.
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
    "max_length": 1024,  # longer rows are left out, never cut: a cut response has no stop token
    "save_strategy": "steps",
    "save_steps": 50,
    "save_total_limit": 2,  # a kill may tear the newest
    "logging_strategy": "steps",
    "log_level": "error",
    "disable_tqdm": True,
}
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

REFUSALS = (TypeError, ValueError, AttributeError, KeyError, ImportError)
"""What PEFT and TRL raise at values they do not take."""


def used(lora: Any, arguments: Any) -> dict[str, Any]:
    """The values a reader asks for first; a recipe may leave them to defaults of ours or the libraries'."""
    at_once = arguments.train_batch_size * arguments.world_size
    return {
        "learning_rate": arguments.learning_rate,
        "schedule": str(getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)),
        "rank": lora.r,
        "alpha": lora.lora_alpha,
        "batch": at_once * arguments.gradient_accumulation_steps,
        "packing": arguments.packing,
        "max_length": arguments.max_length,
    }


def configs(lora: Mapping[str, Any], sft: Mapping[str, Any], seed: int, checkpoints: Path) -> tuple[Any, Any]:
    """PEFT's and TRL's own configuration objects.

    Args:
        lora: fields of LoraConfig over `LORA`.
        sft: fields of SFTConfig over `SFT` and `SFT_ON`.
        seed: the step's.
        checkpoints: the folder for them.

    Raises:
        FactoryError: a library refuses a value.
    """
    from peft import LoraConfig
    from trl import SFTConfig

    device = load.device()
    ours = {
        "output_dir": str(checkpoints),
        "seed": seed,
        "data_seed": seed,
        "report_to": "none",
        "use_cpu": device == "cpu",
        "completion_only_loss": True,
    }
    adapter = _checked("lora", LoraConfig, {**LORA, "task_type": "CAUSAL_LM"}, lora)
    return adapter, _checked("sft", SFTConfig, {**SFT, **SFT_ON[device], **ours}, sft)


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


def refuse_tied(model: Any, lora: Any) -> None:
    """A tied embedding is also the head; an adapter on one of the two would be lost or doubled on saving."""
    if not model.config.get_text_config().tie_word_embeddings:
        return
    named = [lora.target_modules, lora.modules_to_save, lora.trainable_token_indices]
    if any(name in str(part) for part in named for name in ("embed_tokens", "lm_head")):
        raise FactoryError(
            "this model's embeddings are also its head (tie_word_embeddings), so they cannot be trained",
            where="train.lora",
            mend="Leave embed_tokens and lm_head out",
        )
