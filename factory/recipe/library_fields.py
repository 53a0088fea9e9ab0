"""What a recipe may set of PEFT's LoraConfig, TRL's SFTConfig and mergekit's merge methods.

`variants.py` checks `train.lora`, `train.sft` and merges against these tables before anything runs; names
and types of the libraries' fields come from `library_sources.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from factory.nearest import nearest, suggest
from factory.recipe.library_sources import Form, fields, forms
from factory.recipe.parts import LARGEST
from factory.recipe.training import unknown_reporter
from factory.refused import written

LIKE = 0.75  # of 1, how like a word has to be to a field
OWNERS = {"lora": "PEFT's LoraConfig", "sft": "TRL's SFTConfig"}

_SEED = "the recipe's `seed` decides it"
_ROWS = "training rows are prompt and completion, made from `datasets`"
_CODE = "code from a repository is never run"
_HERE = "the store keeps and resumes the work"
_EVALUATION = "the evaluate stage scores the models"
_PUBLISHING = "a run publishes nothing"

# Fields that the factory sets itself, and why a recipe may not.
CONTROLLED: Mapping[str, Mapping[str, str]] = {
    "lora": {
        "megatron_core": "it names a module to import, and training here is without Megatron",
        "megatron_config": "training here is without Megatron",
    },
    "sft": {
        "output_dir": _HERE, "resume_from_checkpoint": _HERE, "save_only_model": _HERE,
        "load_best_model_at_end": _HERE, "ignore_data_skip": _HERE,
        "seed": _SEED, "data_seed": _SEED,
        "dataset_text_field": _ROWS, "dataset_kwargs": _ROWS, "completion_only_loss": _ROWS,
        "packing_strategy": "rows are packed whole, never cut (bfd)",
        "assistant_only_loss": _ROWS, "remove_unused_columns": _ROWS, "label_names": _ROWS,
        "chat_template_path": "the base model's chat template is kept",
        "eos_token": "the base model's tokenizer is kept", "pad_token": "the base model's tokenizer is kept",
        "model_init_kwargs": "the pruned model is loaded by the train stage", "trust_remote_code": _CODE,
        "logging_strategy": "the record keeps the loss",
        "do_train": "the train stage trains", "do_eval": _EVALUATION, "do_predict": _EVALUATION,
        "eval_strategy": _EVALUATION, "eval_steps": _EVALUATION, "eval_on_start": _EVALUATION,
        "push_to_hub": _PUBLISHING, "hub_token": "a recipe holds no secrets", "hub_model_id": _PUBLISHING,
        "hub_private_repo": _PUBLISHING, "hub_strategy": _PUBLISHING, "hub_always_push": _PUBLISHING,
        "hub_revision": _PUBLISHING,
        "local_rank": "the launcher sets it", "use_cpu": "the train stage picks the device",
    },
}  # fmt: skip

# What people call a field where the library has another word, not like it.
MEANT: Mapping[str, Mapping[str, str]] = {
    "lora": {"rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"},
    "sft": {
        "lr": "learning_rate", "epochs": "num_train_epochs", "steps": "max_steps",
        "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
        "scheduler": "lr_scheduler_type", "max_seq_length": "max_length", "max_tokens": "max_length",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """What a number must be, in a person's words and as a test."""

    said: str
    holds: Callable[[float], bool]


# Numbers of the right type that the libraries refuse late, or that train nothing or forever.
BOUNDS: Mapping[str, Bound] = {
    name: bound
    for bound, names in (
        (Bound("more than 0", lambda x: x > 0), "learning_rate num_train_epochs adam_epsilon lora_alpha"),
        (Bound("at least 0", lambda x: x >= 0),
         "warmup_steps weight_decay max_grad_norm neftune_noise_alpha dataloader_num_workers"),
        (Bound("at least 1", lambda x: x >= 1),
         "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps "
         "dataset_num_proc dataloader_prefetch_factor pad_to_multiple_of torch_empty_cache_steps"),
        (Bound("at least 1 and at most 65,536, for no model's matrices have a higher rank",
               lambda x: 1 <= x <= 65_536), "r"),
        (Bound("at least 0 and less than 1", lambda x: 0 <= x < 1),
         "lora_dropout adam_beta1 adam_beta2 label_smoothing_factor"),
        (Bound("at least 1, or -1 for num_train_epochs to decide", lambda x: x == -1 or x >= 1), "max_steps"),
        (Bound("a whole number of steps, or a share of all steps between 0 and 1",
               lambda x: 0 < x < 1 or (x >= 1 and x == int(x))), "logging_steps save_steps"),
        (Bound("at least 16 tokens, for a chat template alone takes some", lambda x: x >= 16), "max_length"),
    )
    for name in names.split()
}  # fmt: skip

_SCORES = "it follows scores, and nothing is scored while training"
# Values that the libraries know but the train stage has no use for, and why.
UNUSABLE: Mapping[str, Mapping[Any, str]] = {
    "lr_scheduler_type": {"reduce_lr_on_plateau": _SCORES, "greedy": _SCORES},
    "save_strategy": {"best": _SCORES},
}


def complaint(kind: str, name: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with a field of `train.lora` or `train.sft`, and how to mend it; None if nothing is."""
    known, owner = fields(kind), OWNERS[kind]
    if name in CONTROLLED[kind]:
        return f"'{name}' of {owner} is not a recipe's to set: {CONTROLLED[kind][name]}", "Remove the line"
    if not known:
        return None  # the library is not installed; the stage that needs it says so
    if name not in known:
        meant = MEANT[kind].get(name.lower())
        # Of a hundred fields something is always a little like a word: only what is very like it is told.
        like = meant or nearest(name, set(known) - set(CONTROLLED[kind]), LIKE)
        mend = f"Write '{like}', if that is meant" if like else f"The documentation of {owner} lists them all"
        return f"{owner} has no field '{name}'", mend
    unusable = UNUSABLE.get(name, {})
    if isinstance(value, str) and value in unusable:
        return f"'{name}' cannot be '{value}': {unusable[value]}", "Choose another"
    if name == "report_to" and (found := unknown_reporter(value)):
        return found
    return _wrong_form(name, value, forms(known[name])) or _out_of_bounds(name, value)


def _wrong_form(name: str, value: Any, allowed: list[Form]) -> tuple[str, str] | None:
    if not allowed or any(form.fits(value) for form in allowed):
        return None
    words = [str(word) for form in allowed for word in form.words]
    if words:
        usable = set(words) - set(UNUSABLE.get(name, {}))
        return f"'{name}' cannot be {written(value)}", suggest(str(value), usable)
    wanted = " or ".join(form.said for form in allowed)
    return f"'{name}' should be {wanted}, not {written(value)}", "Correct the value"


def _out_of_bounds(name: str, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, int | float):
        return None
    bound = BOUNDS.get(name)
    if bound is not None and not bound.holds(value):
        said = bound.said
    elif abs(value) > LARGEST:
        said = f"at most {LARGEST:,}" if value > 0 else f"at least {-LARGEST:,}"
    else:
        return None
    return f"'{name}' should be {said}, not {written(value)}", "Correct the value"


@dataclass(frozen=True)
class Method:
    """What a merge method takes: names of mergekit's parameters (`weight` and `density` per model)."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    models: int | None = None  # exactly so many, else two or more
    base: bool = False  # works on differences from the pruned model
    random: bool = False  # draws random numbers, so the seed decides its output


_TASK_VECTORS = ("normalize", "rescale", "lambda")
METHODS: Mapping[str, Method] = {
    "slerp": Method(required=("t",), models=2),
    "linear": Method(required=("weights",), optional=("normalize",)),
    "task_arithmetic": Method(required=("weights",), optional=_TASK_VECTORS, base=True),
    "ties": Method(required=("weights",), optional=("density", *_TASK_VECTORS), base=True),
    "dare_ties": Method(required=("weights",), optional=("density", *_TASK_VECTORS), base=True, random=True),
    "dare_linear": Method(
        required=("weights",), optional=("density", *_TASK_VECTORS), base=True, random=True
    ),
}
