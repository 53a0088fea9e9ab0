"""Are there the modules that `train.lora` names? Asked by outside.py, of the headers of the base's weights.

PEFT finds out only when it has the pruned model before it, after all responses have been regenerated; and
of several names it lets pass those that match nothing. How names match is PEFT's way, see
`peft.tuners.tuners_utils.check_target_module_exists`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import Architecture
from factory.models.checkpoint import StoredTensor
from factory.nearest import suggest
from factory.recipe.recipe import Recipe

ALL_LINEAR = "all-linear"
_TIED = ("embed_tokens", "lm_head")
Modules = Mapping[str, bool]  # by full name; True where there is a matrix, which an adapter fits


def check_modules(
    recipe: Recipe, tensors: Iterable[StoredTensor], config: Mapping[str, Any], row: Architecture
) -> None:
    """Checks every `lora` of a recipe against the pruned model.

    Args:
        recipe: its `prune.count` is smaller than the model.
        tensors: of the base model.
        config: of the base model.
        row: its family.

    Raises:
        FactoryError: a module or block that the pruned model does not have, or that cannot be trained.
    """
    blocks, tied = config[row.count] - recipe.prune.count, bool(config.get("tie_word_embeddings"))
    modules = _modules(tensors, row, blocks, tied)
    parts: list[tuple[tuple[str, ...], dict[str, Any]]] = [(("train", "lora"), recipe.train.lora)]
    for name, variant in recipe.trained().items():
        parts.append((("variants", name, "train", "lora"), variant.train.lora))
    for path, lora in parts:
        for key in ("target_modules", "exclude_modules", "modules_to_save"):
            written = lora.get(key) or ()
            for i, name in enumerate(written if isinstance(written, list) else [written] if written else ()):
                pattern, place = isinstance(written, str), () if isinstance(written, str) else (i,)
                _check_name(key, name, pattern, modules, tied, recipe.where(*path, key, *place))
        chosen = lora.get("layers_to_transform")
        for block in chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]:
            if not 0 <= block < blocks:
                what = f"the pruned model has no block {block}, only 0 to {blocks - 1}"
                where = recipe.where(*path, "layers_to_transform")
                raise FactoryError(what, where=where, mend="Correct the number, or leave the line out")


def _modules(tensors: Iterable[StoredTensor], row: Architecture, blocks: int, tied: bool) -> Modules:
    found: dict[str, bool] = {"lm_head": True} if tied else {}
    for tensor in tensors:
        block = row.block_of(tensor.name)
        if tensor.name.endswith(row.buffers) or (block is not None and block >= blocks):
            continue
        *above, leaf = tensor.name.split(".")
        name = ".".join(above)
        found[name] = found.get(name, False) or (leaf == "weight" and len(tensor.shape) == 2)
        for depth in range(1, len(above)):
            found.setdefault(".".join(above[:depth]), False)
    return found


def _matches(key: str, name: str, pattern: bool, module: str) -> bool:
    if pattern:
        return re.fullmatch(name, module) is not None
    if key == "modules_to_save":
        return module.endswith(name)
    return module == name or module.endswith(f".{name}")


def _check_name(key: str, name: str, pattern: bool, modules: Modules, tied: bool, where: str) -> None:
    if key == "target_modules" and pattern and name.lower() == ALL_LINEAR:
        return
    try:
        matched = [module for module in modules if _matches(key, name, pattern, module)]
    except re.error as error:
        what = f"'{name}' is no regular expression ({error})"
        raise FactoryError(what, where=where, mend="Correct it, or write a list of names") from None
    short = {module.rpartition(".")[2] for module, fits in modules.items() if fits}
    short -= set(_TIED) if tied else set()
    if not matched:
        what = f"no module of the pruned model {'matches' if pattern else 'is called'} '{name}'"
        mend = f"Write a list: [{name}]" if name in short else suggest(name, short | {ALL_LINEAR})
        raise FactoryError(f"{key}: {what}", where=where, mend=mend)
    unfit = [module for module in matched if not modules[module]]
    if key == "target_modules" and unfit:
        what = f"target_modules: '{unfit[0]}' has no matrix of its own, so no adapter fits it"
        raise FactoryError(what, where=where, mend=f"Name some of {', '.join(sorted(short))}")
    shared = {module.rpartition(".")[2] for module in matched} & set(_TIED)
    if key != "exclude_modules" and tied and shared:
        what = "this model's embeddings are also its head (tie_word_embeddings), so they cannot be trained"
        raise FactoryError(what, where=where, mend=f"Leave {' and '.join(sorted(shared))} out")
