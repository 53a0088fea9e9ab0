"""A recipe in miniature: the same steps on the sandbox model with a few rows, for `factory run --miniature`.

Between file.py, which reads the recipe, and sweep.py, which checks what comes from here as if a person
had written it. Whatever needs a network, a GPU or hours is put smaller; what makes the graph stays: stages,
variants, merges, sweep points, methods of training. So a recipe is proven to run before anything is paid for.
Its scores say nothing: all that shows them says "miniature".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.errors import FactoryError
from factory.recipe.file import RecipeFile
from factory.recipe.prune import Prune
from factory.recipe.recipe import MINIATURE, is_reference

MARK = "miniature"
SUFFIX = f"-{MARK}"
LONGEST_NAME = 64

# The sandbox model has 12 blocks; two of them stay whatever a recipe drops or excludes.
DROP = 10
EXCLUDE = 1
ROWS = 24
TEXTS = {"rows": 8, "max_tokens": 64}
NEW_TOKENS = 24
REWRITTEN_TOKENS = 96  # enough for most of sandbox/math, so that variants learn from regenerated responses
SAMPLES = 2
DOCUMENTS = 2  # a task, of MMLU a subject
SUITE, TASKS = "sandbox_v1", ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
RANK = 8
TRIED = 4  # prompts

# By a dataset's prompt, the rows that stand for it and how their answers are checked.
_STANDS_FOR = {"math": ("sandbox/math", "final_number"), "instruct": ("sandbox/instruct", "contains")}
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LORA = ("lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias")
# What of TRL's fields says how is learnt; how long, on what and watched by whom is put smaller or left out.
_SFT = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "weight_decay", "max_grad_norm",
    "adam_beta1", "adam_beta2", "adam_epsilon", "neftune_noise_alpha", "label_smoothing_factor",
    "packing", "loss_type",
)  # fmt: skip
_STEPS = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_length": 256,
}


def shrink(file: RecipeFile) -> RecipeFile:
    """The recipe in miniature.

    Args:
        file: of a recipe that has been checked, without a sweep.

    Raises:
        FactoryError: a merge takes so much from outside that nothing of it is left.
    """
    data = {key: value for key, value in file.data.items() if key != MARK}
    data["name"] = f"{data['name'][: LONGEST_NAME - len(SUFFIX)]}{SUFFIX}"
    data[MARK] = True
    data["base"] = {"model": "sandbox/base"}
    data["prune"] = _prune(data["prune"])
    data["datasets"] = {name: _dataset(written) for name, written in data["datasets"].items()}
    data["regenerate"] = _regenerate(data.get("regenerate") or {})
    train = _train(data.get("train") or {})
    data["train"] = {**train, "sft": {**train.get("sft", {}), **_STEPS}}
    data["variants"] = {
        name: _merged(name, written, file) if "merge" in written else _trained(written, data["datasets"])
        for name, written in data["variants"].items()
    }
    data["evaluate"] = _evaluate(data["evaluate"])
    for key, part in (("measure", _measure), ("drift", _drift), ("draft", _draft)):
        if data.get(key) is not None:  # `drift: {}` asks for all that is usual, which is much
            data[key] = part(data[key])
    if data.get("publish"):
        kept = ("push", "datasets", "private")  # to whom, and under what licence, is the real one's
        data["publish"] = {key: data["publish"][key] for key in kept if key in data["publish"]}
    return replace(file, data=data, places={**file.places, (MARK,): MINIATURE})


def shrink_axes(axes: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """A sweep's values in miniature: as many, in the same order, each of a size that the sandbox has.

    Values that are no sizes stay; `shrink` sees to the recipe of each point.
    """
    shrunk = {}
    for key, values in axes.items():
        numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        if numbers and key == "prune.drop":
            values = _ranked(values, DROP)
        elif numbers and key.split(".")[0] in ("datasets", "variants") and key.endswith(".rows"):
            values = _ranked(values, ROWS)
        shrunk[key] = values
    return shrunk


def _ranked(values: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The numbers themselves where they fit, else others in the same order."""
    if max(values) <= most:
        return values
    order = sorted(values)
    return tuple(max(1, most * (order.index(value) + 1) // len(order)) for value in values)


def _prune(written: Mapping[str, Any]) -> dict[str, Any]:
    drop: Any = Prune.model_validate(dict(written)).drop
    if isinstance(drop, int):
        drop = min(drop, DROP)
    else:  # as far into the model as in the real one
        drop = sorted({1 + round(block * (DROP - 1) / max(*drop, 1)) for block in drop})
    kept = {key: min(count, EXCLUDE) for key, count in (written.get("exclude") or {}).items()}
    return {
        **{key: value for key, value in written.items() if key in ("importance", "proof")},
        "drop": drop,
        "exclude": kept,
        "calibration": {"dataset": "sandbox/corpus", **TEXTS},
    }


def _dataset(written: Mapping[str, Any]) -> dict[str, Any]:
    prompt = written["prompt"] if written["prompt"] in _STANDS_FOR else "instruct"
    place, check = _STANDS_FOR[prompt]
    kept = {key: written[key] for key in ("deduplicate", "overlap", "order", "skip_empty") if key in written}
    return {
        "id": place,
        "prompt": prompt,
        "check": "none" if written.get("check", "none") == "none" else check,
        "rows": min(written.get("rows") or ROWS, ROWS),
        **kept,
    }


def _regenerate(written: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: written[key] for key in ("sees", "select", "temperature") if key in written}
    samples = {"samples": min(written["samples"], SAMPLES)} if "samples" in written else {}
    return {**kept, **samples, "max_new_tokens": REWRITTEN_TOKENS}


def _train(written: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in written.items() if key not in ("lora", "sft")}
    if kept.get("method") == "qlora":  # its library wants a GPU
        kept["method"] = "lora"
    if lora := written.get("lora"):
        kept["lora"] = {key: lora[key] for key in _LORA if key in lora}
        if "r" in lora:
            kept["lora"]["r"] = min(lora["r"], RANK)
        modules = lora.get("target_modules")
        if isinstance(modules, list) and modules and set(modules) <= set(_LINEAR):
            kept["lora"]["target_modules"] = modules
    if sft := written.get("sft"):
        kept["sft"] = {key: sft[key] for key in _SFT if key in sft}
    return kept


def _trained(written: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = {"data": written["data"], "targets": written["targets"]}
    if isinstance(written["data"], dict):  # shares too are made numbers: of a few rows one may have none
        numbers = {n: a if isinstance(a, int) else round(a * ROWS) for n, a in written["data"].items()}
        kept["data"] = {n: max(1, min(number, datasets[n]["rows"])) for n, number in numbers.items()}
    if written.get("train"):
        kept["train"] = _train(written["train"])
    return kept


def _merged(name: str, written: Mapping[str, Any], file: RecipeFile) -> dict[str, Any]:
    """A merge without models from outside: the first of them gives way to the pruned one, the rest go."""
    of, stand_in = [], "pruned" not in written["of"]
    for part in written["of"]:
        if not is_reference(part):
            of.append(part)
        elif stand_in:
            of.append("pruned")
            stand_in = False
        else:
            of.append(None)
    kept = [i for i, part in enumerate(of) if part is not None]
    if len(kept) < 2:
        what = f"variant '{name}' merges models from outside only, of which a miniature takes none"
        mend = "Merge it with a variant of this recipe, or run the recipe itself"
        raise FactoryError(what, where=file.where(("variants", name, "of")), mend=mend)
    lists = {key: [written[key][i] for i in kept] for key in ("weights", "density") if key in written}
    return {**written, "of": [of[i] for i in kept], **lists}


def _evaluate(written: Mapping[str, Any]) -> dict[str, Any]:
    tasks = [task for task in written.get("tasks") or () if task in TASKS]
    limit = min(written.get("limit") or DOCUMENTS, DOCUMENTS)
    return {"suite": SUITE, "limit": limit, **({"tasks": tasks} if tasks else {})}


def _measure(written: Mapping[str, Any]) -> dict[str, Any]:
    return {**written, "batch": 1, "prompt": 16, "new": 4, "rounds": 1}


def _drift(written: Mapping[str, Any]) -> dict[str, Any]:
    domains = {
        name: [task for task in tasks if task in TASKS]
        for name, tasks in (written.get("domains") or {}).items()
    }
    return {
        "rows": TRIED,
        "max_new_tokens": NEW_TOKENS,
        **({"domains": domains} if domains else {}),
        # The sandbox's is read where a recipe names none.
        "text": {"dataset": "sandbox/corpus", **TEXTS},
    }


def _draft(written: Mapping[str, Any]) -> dict[str, Any]:
    """Drafts of the sandbox model, whatever model they are to be drafts of."""
    sets = {}
    for name, prompts in written["prompts"].items():
        if prompts.get("of"):
            sets[name] = {"of": prompts["of"], "rows": TRIED}
        elif prompts["prompt"] == "text":
            sets[name] = {"id": "sandbox/corpus", "prompt": "text", "rows": TRIED}
        else:
            kind = prompts["prompt"] if prompts["prompt"] in _STANDS_FOR else "instruct"
            sets[name] = {"id": _STANDS_FOR[kind][0], "split": "test", "prompt": kind, "rows": TRIED}
    kept = {key: written[key] for key in ("temperature",) if key in written}
    if models := [name for name in written.get("models") or () if name != "base"]:  # no draft of itself
        kept["models"] = models
    return {**kept, "prompts": sets, "max_new_tokens": NEW_TOKENS, "timed": 1, "rounds": 1}
