"""A stranger's recipe held to one folder: it names nothing on this machine that lies outside.

Before planning, where a person or a workflow says `--within DIR`. A recipe of one's own may name any folder;
one from a pull request is read on a machine that holds more than the pull request. Some fields of the
libraries take files, too (`deepspeed`, a cache of CorDA's): any value of them that is a path is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from factory.errors import FactoryError
from factory.recipe.recipe import Recipe, is_reference
from factory.recipe.sweep import load
from factory.recipe.variants import MergedVariant, Train
from factory.sources import SANDBOX

_MEND = "Name a Hub id, or a folder of this repository"


def confine(path: Path, overrides: list[str], root: Path) -> None:
    """Refuses a recipe that reaches outside a folder.

    Args:
        path: the recipe's file.
        overrides: laid over it.
        root: the folder.

    Raises:
        FactoryError: the file, a folder that it names or anything in that is elsewhere; it wants a variable
            of this machine's environment; or it is no recipe.
    """
    _check_file(path, root)
    read = load(path, overrides)
    for recipe in [read] if isinstance(read, Recipe) else [point.recipe for point in read.points]:
        server = recipe.regenerate.server
        if server is not None and server.api_key_env is not None:
            what = "a recipe from outside may not send a variable of this machine to a server"
            where = recipe.where("regenerate", "server", "api_key_env")
            raise FactoryError(what, where=where, mend="Leave api_key_env out")
        for reference, where in (*_references(recipe), *_paths(recipe)):
            _check_reference(reference, where, recipe.folder, root)


def _check_file(path: Path, root: Path) -> None:
    mend = f"Put it into {root} as a file of its own"
    if path.is_symlink():
        raise FactoryError("this recipe is a link to another place", where=str(path), mend=mend)
    if not _is_inside(path, root):
        raise FactoryError(f"this recipe is not in {root}", where=str(path), mend=mend)


def _is_inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _references(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """All models and datasets that a recipe names, each with its place there."""
    yield recipe.base.model, recipe.where("base", "model")
    yield recipe.prune.calibration.dataset, recipe.where("prune", "calibration", "dataset")
    for name, dataset in recipe.datasets.items():
        yield dataset.id, recipe.where("datasets", name, "id")
    for name, variant in recipe.variants.items():
        if isinstance(variant, MergedVariant):
            for i, part in enumerate(variant.of):
                if is_reference(part):
                    yield part, recipe.where("variants", name, "of", i)
    for task, reference in recipe.evaluate.datasets.items():
        yield reference, recipe.where("evaluate", "datasets", task)
    if recipe.drift is not None:
        if recipe.drift.embedding is not None:
            yield recipe.drift.embedding, recipe.where("drift", "embedding")
        if recipe.drift.text is not None:
            yield recipe.drift.text.dataset, recipe.where("drift", "text", "dataset")
    if recipe.draft is not None:
        if recipe.draft.target is not None:
            yield recipe.draft.target.model, recipe.where("draft", "target", "model")
        for name, prompts in recipe.draft.prompts.items():
            if prompts.id is not None:
                yield prompts.id, recipe.where("draft", "prompts", name, "id")


def _paths(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Values of the libraries' fields that lead away from where they are read, each with its place."""
    trains: list[tuple[tuple[str, ...], Train]] = [(("train",), recipe.train)]
    trains += [(("variants", name, "train"), variant.train) for name, variant in recipe.trained().items()]
    for place, train in trains:
        for kind, fields in (("lora", train.lora), ("sft", train.sft)):
            for name, value in (fields or {}).items():
                for text in _texts(value):
                    if text.startswith("~") or PurePath(text).is_absolute() or ".." in PurePath(text).parts:
                        yield text, recipe.where(*place, kind, name)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _check_reference(reference: str, where: str, folder: Path, root: Path) -> None:
    """Refuses a folder elsewhere, there or not, and one with a link in it that leads elsewhere."""
    if reference.startswith(SANDBOX):
        return
    try:
        written = Path(reference).expanduser() if reference.startswith("~") else Path(reference)
        path = folder / written
        outside = not _is_inside(path, root)
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # no path at all: a name too long, a NUL, nobody's home
        raise FactoryError(f"'{reference[:80]}' is no reference", where=where, mend=_MEND) from None
    if outside:
        raise FactoryError(f"'{reference}' lies outside '{root}'", where=where, mend=_MEND)
    for parent, folders, names in os.walk(path) if there else ():
        for name in (*folders, *names):
            entry = Path(parent, name)
            if entry.is_symlink() and not _is_inside(entry, root):
                what = f"'{reference}' holds a link to outside '{root}': {entry.relative_to(path)}"
                raise FactoryError(what, where=where, mend="Put the file itself there")
