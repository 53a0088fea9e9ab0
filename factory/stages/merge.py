"""Merge: one model from several trained variants. Follows train; evaluate scores it like any other.

mergekit does the arithmetic, in float32; the result is stored in the first variant's dtype and keeps its
tokenizer, chat template and generation config. Merging models tuned on different self-distilled sets is the
paper's way of using several sets at once; that it does so by SLERP is told by others' digests of it.

mergekit's slerp interpolates linearly where two tensors are nearly parallel (|cos| > 0.9995), as tensors
of LoRA siblings mostly are: the share that was truly spherical is a fact of the record.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.errors import FactoryError
from factory.models.carried import carry_files
from factory.models.checkpoint import follow_umask, stored_dtype, stored_tensors
from factory.stages import Frozen, Progress
from factory.wording import counted

VERSION = 1
LIBRARIES = ("mergekit", "torch", "transformers")

# Methods that work on differences from the pruned model; the others know only the variants.
TASK_VECTOR_METHODS = ("task_arithmetic", "ties", "dare_ties", "dare_linear")
METHODS = ("slerp", "linear", *TASK_VECTOR_METHODS)
# A recipe's parameters that have a value a variant, and mergekit's name for one variant's value.
PER_VARIANT = {"weights": "weight", "density": "density"}
# slerp leaves the sphere above this; mergekit.merge_methods.slerp.slerp(dot_threshold=...).
LINEAR_ABOVE = 0.9995


class Settings(Frozen):
    """What a person chose.

    Attributes:
        method: one of `METHODS`.
        of: names of the merged variants; slerp goes from the first (t = 0) to the second (t = 1).
        parameters: mergekit's parameters; `weights` and `density` are a number or a list in the order of
            `of`, the others are passed on as they are.
        seed: for the methods that drop entries at random.
    """

    method: str
    of: tuple[str, ...] = Field(min_length=2)
    parameters: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/, a stock folder.

    Args:
        settings: see `Settings`.
        inputs: `of.<variant>`, a stock model folder each; `base`, the pruned model, for the methods in
            `TASK_VECTOR_METHODS`.
        out: receives model/.
        progress: told the steps done.

    Returns:
        The method, and for slerp the share of tensors that were interpolated on the sphere.

    Raises:
        FactoryError: an unknown method, a wrong number of values, or variants of different shapes.
    """
    if settings.method not in METHODS:
        raise FactoryError(
            f"there is no merge method {settings.method!r}", mend=f"Use one of {', '.join(METHODS)}"
        )
    models = [inputs[f"of.{name}"].absolute() for name in settings.of]
    base = inputs["base"].absolute() if settings.method in TASK_VECTOR_METHODS else None
    _check_shapes([*models, base] if base else models)
    target = out / "model"
    if target.exists():  # an interrupted merge leaves half-written weights
        shutil.rmtree(target)
    progress(0, 2, "steps", f"{settings.method} of {' and '.join(settings.of)}")
    _mergekit(settings, models, base, target.absolute())
    shutil.copyfile(
        models[0] / "config.json", target / "config.json"
    )  # mergekit may start from any variant's
    carry_files(models[0], target)
    follow_umask(target)
    progress(1, 2, "steps", "measuring")
    share = spherical_share(*models) if settings.method == "slerp" else None
    progress(2, 2, "steps")
    return {"method": settings.method, "spherical_share": share}


def _mergekit(settings: Settings, models: list[Path], base: Path | None, target: Path) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    each: list[dict[str, Any]] = [{} for _ in models]
    shared = {}
    for name, value in settings.parameters.items():
        if name not in PER_VARIANT:
            shared[name] = value
            continue
        values = value if isinstance(value, list | tuple) else [value] * len(models)
        if len(values) != len(models):
            raise FactoryError(
                f"{name} has {counted(len(values), 'value')} for {len(models)} variants",
                mend=f"Give one value for each of {', '.join(settings.of)}",
            )
        for parameters, own in zip(each, values, strict=True):
            parameters[PER_VARIANT[name]] = own
    config: dict[str, Any] = {
        "merge_method": settings.method,
        "models": [{"model": str(model), "parameters": own} for model, own in zip(models, each, strict=True)],
        "parameters": shared,
        "dtype": "float32",
        "out_dtype": stored_dtype(models[0]),
    }
    if settings.method == "slerp":
        config["base_model"] = str(models[0])
    elif base is not None:
        config["base_model"] = str(base)
    options = MergeOptions(
        copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=settings.seed
    )
    try:
        parsed = MergeConfiguration.model_validate(config)
        run_merge(parsed, str(target), options)
    except RuntimeError as error:
        # mergekit says so where a parameter is missing, unknown to the method, or of the wrong type.
        raise FactoryError(
            f"mergekit refuses this {settings.method} merge: {error}",
            mend="Correct the merge's parameters in the recipe",
        ) from error


def _check_shapes(models: list[Path]) -> None:
    """Refuses to merge models whose tensors differ in name or shape."""
    first = {tensor.name: tensor.shape for tensor in stored_tensors(models[0])}
    for other in models[1:]:
        shapes = {tensor.name: tensor.shape for tensor in stored_tensors(other)}
        if shapes == first:
            continue
        name = min(name for name in first.keys() | shapes.keys() if first.get(name) != shapes.get(name))
        raise FactoryError(
            f"{name} is {first.get(name, 'absent')} in {models[0]} and {shapes.get(name, 'absent')} here",
            where=str(other),
            mend="Merge only variants of the same pruned model",
        )


def spherical_share(one: Path, other: Path) -> float:
    """The share of tensors whose |cos| is at most `LINEAR_ABOVE`, so that slerp used the sphere (0 to 1).

    Args:
        one: a stock model folder.
        other: another of the same shapes.
    """
    import torch
    from safetensors import safe_open

    def opened(folder: Path) -> dict[str, Any]:
        tensors = stored_tensors(folder)
        files = {tensor.file: safe_open(tensor.file, "pt") for tensor in tensors}
        return {tensor.name: files[tensor.file] for tensor in tensors}

    ours, theirs = opened(one), opened(other)
    spherical = 0
    for name, file in ours.items():
        a, b = file.get_tensor(name).flatten().double(), theirs[name].get_tensor(name).flatten().double()
        cosine = torch.nn.functional.cosine_similarity(a, b, dim=0)
        spherical += bool(cosine.abs() <= LINEAR_ABOVE)
    return spherical / len(ours)
