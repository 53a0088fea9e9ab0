"""The fields of PEFT's LoraConfig and TRL's SFTConfig, and mergekit's parameters, that a recipe may set.

`recipe.py` checks `train.lora`, `train.sft` and merges against these tables before anything runs. The
fields of PEFT and TRL are read from the installed sources (importing the libraries takes seconds), so
they are those of the version that will do the work.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

# (package, file, class), base classes first, as a dataclass inherits its fields.
_SOURCES = {
    "lora": (("peft", "tuners/lora/config.py", "LoraConfig"),),
    "sft": (
        ("transformers", "training_args.py", "TrainingArguments"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("trl", "trainer/sft_config.py", "SFTConfig"),
    ),
}
OWNERS = {"lora": "PEFT's LoraConfig", "sft": "TRL's SFTConfig"}

_SEED = "the recipe's `seed` decides it"
_ROWS = "training rows are prompt and completion, made from `datasets`"
_CODE = "code from a repository is never run"
_HERE = "the store keeps and resumes the work"
_EVALUATION = "the evaluate stage scores the models"
_PUBLISHING = "a run publishes nothing"

# Fields that the factory sets itself, and why a recipe may not.
CONTROLLED: Mapping[str, Mapping[str, str]] = {
    "lora": {},
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
        "report_to": "facts go into the record", "run_name": "facts go into the record",
        "do_train": "the train stage trains", "do_eval": _EVALUATION, "do_predict": _EVALUATION,
        "eval_strategy": _EVALUATION, "eval_steps": _EVALUATION, "eval_on_start": _EVALUATION,
        "push_to_hub": _PUBLISHING, "hub_token": "a recipe holds no secrets", "hub_model_id": _PUBLISHING,
        "hub_private_repo": _PUBLISHING, "hub_strategy": _PUBLISHING, "hub_always_push": _PUBLISHING,
        "hub_revision": _PUBLISHING,
        "local_rank": "the launcher sets it", "use_cpu": "the train stage picks the device",
    },
}  # fmt: skip


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


@lru_cache
def fields(kind: str) -> Mapping[str, str]:
    """Field names of `lora` or `sft` with their annotations as source text; empty if not installed."""
    found: dict[str, str] = {}
    for package, file, name in _SOURCES[kind]:
        spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        if spec is None or spec.origin is None:
            return {}
        tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                found |= {
                    item.target.id: ast.unparse(item.annotation)
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
    return found


# Annotations are source text; only the simple ones are checked, the libraries check the rest.
_SIMPLE: Mapping[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}
_SAID = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}


def wrong_type(kind: str, name: str, value: Any) -> str | None:
    """What a field should be (`a number`), where `value` is not that; None where it is fine."""
    names = [part.strip() for part in fields(kind)[name].split("|")]
    if any(part not in _SIMPLE for part in names):
        return None
    if isinstance(value, bool):  # a bool is an int to Python, not to a reader of recipes
        fits = "bool" in names
    else:
        fits = any(isinstance(value, _SIMPLE[part]) for part in names)
    return None if fits else " or ".join(_SAID[part] for part in names)
