"""Whether a model can be used at all: looked at before a run, under sources.py. None of its code is run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import architecture_of
from factory.models.carried import tokenizer_files
from factory.models.checkpoint import read_config, stored_tensors
from factory.models.load import tokenizer as load_tokenizer
from factory.models.refused import refuse_code


def check_model_folder(folder: Path, prunable: bool) -> None:
    """Looks at config, tokenizer and the headers of the weights.

    Args:
        folder: a stock model folder.
        prunable: whether its family must be one whose blocks can be removed.

    Raises:
        FactoryError: one of them is missing or damaged, wants its own code, or the family is another.
    """
    config = read_config(folder)
    stored_tensors(folder)
    named = tokenizer_files(folder)
    if not named:
        mend = "Save it beside the weights (tokenizer.save_pretrained)"
        raise FactoryError("the folder has no tokenizer", mend=mend)
    if prunable:
        architecture_of(config, folder)
    else:
        refuse_code(config, folder)
    _check_tokenizer(folder / "tokenizer_config.json")
    if named == ["tokenizer_config.json"]:  # enough where tokens are bytes; else there is no vocabulary
        load_tokenizer(folder)


def _check_tokenizer(file: Path) -> None:
    """Refuses a tokenizer that needs code of its own; transformers leaves `auto_map` aside where it can."""
    try:
        written = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        raise FactoryError("tokenizer_config.json is not JSON", mend="Fetch the model again") from None
    if not isinstance(written, dict) or not written.get("auto_map"):
        return
    try:
        load_tokenizer(file.parent)
    except Exception as error:  # its loaders raise whatever comes
        what = "the tokenizer wants code of its own to be run (auto_map in tokenizer_config.json)"
        mend = "Name a model whose tokenizer transformers loads by itself, without trust_remote_code"
        raise FactoryError(what, mend=mend) from error


def check_config(config: dict[str, Any], reference: str, where: str, prunable: bool) -> None:
    """Looks at a config alone, of a model that is not here yet.

    Raises:
        FactoryError: as `check_model_folder`, with the place in the recipe.
    """
    try:
        if prunable:
            architecture_of(config, Path(reference))
        else:
            refuse_code(config, Path(reference))
    except FactoryError as error:
        raise FactoryError(f"model '{reference}': {error.what}", where=where, mend=error.mend) from None


def check_names(names: Iterable[str], reference: str, where: str) -> None:
    """Looks at the list of files of a Hub model.

    Raises:
        FactoryError: config or safetensors are not among them.
    """
    top = {name for name in names if "/" not in name}
    if "config.json" not in top:
        mend = "Name a repository with a whole transformers model"
        raise FactoryError(f"model '{reference}' has no config.json", where=where, mend=mend)
    if not any(name.endswith(".safetensors") for name in top):
        pickles = any(name.endswith((".bin", ".pt", ".pth")) for name in top)
        what = "has only pickled weights" if pickles else "has no weights"
        mend = "Name a revision with safetensors" if pickles else "Name a repository with safetensors"
        raise FactoryError(f"model '{reference}' {what}", where=where, mend=mend)
