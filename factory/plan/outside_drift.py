"""What a recipe's `drift` takes from outside, found and checked: held-out splits, general text, embeddings.

Beside outside.py, which asks here last, once models and training sets are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.data.files import PartError, Wanted, split_files
from factory.data.first_rows import check_rows, check_texts
from factory.data.rows import Columns, DataSpec, TextSpec
from factory.drift.pooling import pooling
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.plan.positions import check_new_tokens
from factory.recipe.drift import Drift, GeneralText
from factory.recipe.recipe import Recipe
from factory.sources import SANDBOX, Source, at_hand, resolve_dataset, resolve_model

SPLITS = ("test", "validation", "valid", "dev")  # tried in order
SANDBOX_TEXT = "sandbox/corpus"
# What a sentence-embedding repository has besides a stock model.
EMBEDDING_FILES = ("modules.json", "*_Pooling/config.json", "sentence_bert_config.json")


@dataclass(frozen=True)
class DriftOutside:
    """The sources of `drift`.

    Attributes:
        held_out: by dataset that trains some variant, the split that the prompts come from; the dataset's own
            where they are what training leaves of it.
        splits: the sources of splits other than a dataset's own.
        text: general text, read as `text_spec` says; None where there is none.
        text_why: then, why.
        embedding: the sentence-embedding model, if one is named.
    """

    held_out: Mapping[str, str]
    splits: Mapping[str, Source]
    text: Source | None
    text_spec: TextSpec | None
    text_why: str | None
    embedding: Source | None


def gather(
    recipe: Recipe, specs: Mapping[str, DataSpec], shots: Mapping[str, int], config: Mapping[str, Any]
) -> DriftOutside | None:
    """Finds and checks all that `drift` refers to; None where the recipe has none.

    Args:
        recipe: the recipe.
        specs: how its training sets are read.
        shots: by task that is scored, its solved examples.
        config: of the base.

    Raises:
        FactoryError: the first thing that cannot be used, with its line in the recipe.
    """
    written = recipe.drift
    if written is None:
        return None
    _check_domains(recipe, written, shots)
    if written.max_new_tokens is not None:
        line, key = recipe.where("drift", "max_new_tokens"), "drift.max_new_tokens"
        check_new_tokens(config, recipe.base.model, key, written.max_new_tokens, line)
    used = {name for variant in recipe.trained().values() for name in variant.data}
    held_out, splits = {}, {}
    for name in [name for name in recipe.datasets if name in used] or list(recipe.datasets):
        held_out[name], source = _held_out(recipe, written, name, specs[name])
        if source is None:
            _check_left(recipe, name, held_out[name])
        else:
            splits[name] = source
    text, spec, why = _text(recipe, written)
    return DriftOutside(held_out, splits, text, spec, why, _embedding(recipe, written))


def _check_domains(recipe: Recipe, written: Drift, shots: Mapping[str, int]) -> None:
    for name, tasks in written.domains.items():
        for i, task in enumerate(tasks):
            if task not in shots:
                what = f"drift.domains.{name} names '{task}', which this recipe does not score"
                where = recipe.where("drift", "domains", name, i)
                raise FactoryError(what, where=where, mend=suggest(task, shots))


def _held_out(recipe: Recipe, written: Drift, name: str, spec: DataSpec) -> tuple[str, Source | None]:
    """The split of a dataset's held-out rows, and where it is; no place where it is the training split."""
    asked = written.splits.get(name)
    if asked == spec.split:
        return asked, None
    where = recipe.where("drift", "splits", name) if asked else recipe.where("datasets", name, "id")
    for split in (asked,) if asked else (one for one in SPLITS if one != spec.split):
        try:
            return split, _split(recipe, name, spec, split, where)
        except PartError as error:
            if asked or error.part != ("split",):
                raise FactoryError(error.what, where=where, mend=error.mend) from None
    return spec.split, None


def _split(recipe: Recipe, name: str, spec: DataSpec, split: str, where: str) -> Source:
    """A split's source, its rows looked at.

    Raises:
        PartError: the dataset has no such split.
    """
    dataset = recipe.datasets[name]
    wanted = Wanted(spec.config, (split,))
    source = resolve_dataset(dataset.id, dataset.revision, where, recipe.folder, wanted)
    with at_hand(source) as folder:
        if folder is not None:
            split_files(folder, spec.config, split, where)
            own = spec.model_copy(update={"split": split, "rows": None, "check": "none"})
            try:
                check_rows(folder, own, where)
            except PartError as error:  # of the columns: only of a missing split another is tried
                raise FactoryError(f"split '{split}': {error.what}", where=where, mend=error.mend) from None
    return source


def _check_left(recipe: Recipe, name: str, split: str) -> None:
    """Refuses a dataset of one split of which training takes all rows."""
    takes = [recipe.rows_of(variant) for variant in recipe.trained().values() if name in variant.data]
    limit = recipe.datasets[name].rows
    if any((rows or {}).get(name, limit) is None for rows in takes):
        what = (
            f"drift has no held-out rows of '{name}': training takes all of split '{split}', "
            "and there is no other"
        )
        mend = f"Give datasets.{name} a number of `rows`, or name a split under drift.splits"
        raise FactoryError(what, where=recipe.where("datasets", name), mend=mend)


def _text(recipe: Recipe, written: Drift) -> tuple[Source | None, TextSpec | None, str | None]:
    chosen, line = written.text, recipe.where("drift", "text", "dataset")
    if chosen is None:
        if not recipe.base.model.startswith(SANDBOX):
            return None, None, "the recipe names none (drift.text)"
        chosen, line = GeneralText(dataset=SANDBOX_TEXT), recipe.where("drift")
    spec = TextSpec(
        name="general text",
        config=chosen.config,
        split=chosen.split,
        rows=chosen.rows,
        columns=Columns(**chosen.columns.model_dump()),
    )
    asked = spec if "rows" in chosen.model_fields_set else spec.model_copy(update={"rows": None})
    try:
        wanted = Wanted(spec.config, (spec.split,))
        source = resolve_dataset(chosen.dataset, chosen.revision, line, recipe.folder, wanted)
        with at_hand(source) as folder:
            if folder is not None:
                check_texts(folder, asked, line)
    except PartError as error:
        where = recipe.where("drift", "text", *error.part)
        raise FactoryError(error.what, where=where, mend=error.mend) from None
    return source, spec, None


def _embedding(recipe: Recipe, written: Drift) -> Source | None:
    if written.embedding is None:
        return None
    where = recipe.where("drift", "embedding")
    source = resolve_model(written.embedding, written.revision, where, recipe.folder, prunable=False)
    if source.kind == "hub":
        return replace(source, files=(*source.files, *EMBEDDING_FILES))
    folder = source.path or Path()
    try:
        pooling(folder)
    except FactoryError as error:
        raise FactoryError(f"'{written.embedding}': {error.what}", where=where, mend=error.mend) from None
    return replace(source, fingerprint=_with_modules(source, folder))


def _with_modules(source: Source, folder: Path) -> str:
    """The fingerprint of a folder with the files that say how it pools."""
    import hashlib

    digest = hashlib.sha256(source.fingerprint.encode())
    for pattern in EMBEDDING_FILES:
        for file in sorted(folder.glob(pattern)):
            digest.update(f"\0{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[: len(source.fingerprint)]
