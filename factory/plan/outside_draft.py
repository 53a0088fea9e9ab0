"""What the part `draft` of a recipe takes from outside, found and checked: under outside.py.

Refused before a run, as far as it shows without weights: a target with another vocabulary than the base's,
models whose cache cannot be cut back, more tokens than a model has positions, prompts that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.data.first_rows import check_rows, check_texts
from factory.data.rows import Columns, DataSpec
from factory.errors import FactoryError
from factory.plan.positions import check_new_tokens, positions
from factory.recipe.draft import TEXT, Draft, PromptSet
from factory.recipe.recipe import Recipe
from factory.sources import Source, config_of, has_chat_template, resolve_model
from factory.texts import vocabulary

ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of blocks whose state is keys and values by position, of which the last can be taken back."""


@dataclass(frozen=True)
class DraftSources:
    """Sources of a recipe's part `draft`.

    Attributes:
        target: the model that drafts are tried for.
        prompts: the datasets of those sets of prompts that have one of their own.
        specs: how those are read.
        positions: the most tokens that the drafts read, prompt and response together; None where the target
            reads no more than they.
    """

    target: Source
    prompts: Mapping[str, Source]
    specs: Mapping[str, DataSpec]
    positions: int | None = None


def gather_draft(
    recipe: Recipe, base: Source, config: Mapping[str, Any], find: Callable[..., Source]
) -> DraftSources | None:
    """Finds and checks what `draft` names; None where the recipe has no such part.

    Args:
        recipe: the recipe.
        base: its base model.
        config: that model's.
        find: finds a dataset by the recipe's path to it, see `outside.py`.

    Raises:
        FactoryError: the first thing that cannot be used, with its line in the recipe.
    """
    draft = recipe.draft
    if draft is None:
        return None
    _check_cache(config, recipe.base.model, recipe.where("draft"))
    _check_new_tokens(recipe, draft, config, recipe.base.model)  # a draft reads what its target writes
    target, fewest = base, None
    if draft.target is not None:
        where = recipe.where("draft", "target", "model")
        target = resolve_model(
            draft.target.model, draft.target.revision, where, recipe.folder, prunable=False
        )
        theirs = config_of(target, where)
        own, whole = positions(config), positions(theirs)
        fewest = own if own and (whole is None or own < whole) else None
        _check_cache(theirs, draft.target.model, where)
        _check_new_tokens(recipe, draft, theirs, draft.target.model)
        if target.path and base.path:
            if not has_chat_template(target.path):
                what = f"the tokenizer of '{draft.target.model}' has no chat template"
                raise FactoryError(what, where=where, mend="Use an instruction-tuned model")
            if why := vocabulary.difference(target.path, base.path):
                what = f"drafts of '{recipe.base.model}' cannot speak for '{draft.target.model}': {why}"
                raise FactoryError(what, where=where, mend="Name a target with the base's tokenizer")
    specs = {name: _spec(name, prompts) for name, prompts in draft.prompts.items() if prompts.id}
    found = {
        name: find(
            recipe, ("draft", "prompts", name), "id", prompts.revision, prompts.id, *_read(prompts, name)
        )
        for name, prompts in draft.prompts.items()
        if prompts.id
    }
    return DraftSources(target, found, specs, fewest)


def _check_cache(config: Mapping[str, Any], model: str, where: str) -> None:
    kinds = config.get("layer_types") or config.get("text_config", {}).get("layer_types") or ()
    if other := sorted(set(kinds) - ATTENTION):
        what = (
            f"assisted generation does not work with '{model}': no token can be taken back from the cache of "
            f"blocks of type {', '.join(other)}"
        )
        raise FactoryError(
            what, where=where, mend="Use a model whose blocks are all attention, or leave `draft` out"
        )


def _check_new_tokens(recipe: Recipe, draft: Draft, config: Mapping[str, Any], model: str) -> None:
    """Refuses what no prompt, or not the prompts' written length, leaves room for.

    The usual number of new tokens is a limit that nobody wrote, and gives way.
    """
    if "max_new_tokens" not in draft.model_fields_set:
        return
    key, wanted, where = "draft.max_new_tokens", draft.max_new_tokens, recipe.where("draft", "max_new_tokens")
    check_new_tokens(config, model, key, wanted, where)
    for name, prompts in draft.prompts.items():
        if prompts.prompt == TEXT:
            own = "prompt_tokens" in prompts.model_fields_set
            place = recipe.where("draft", "prompts", name, "prompt_tokens") if own else where
            check_new_tokens(config, model, key, wanted, place, prompts.prompt_tokens)


def _spec(name: str, prompts: PromptSet) -> DataSpec:
    return DataSpec(
        name=name,
        config=prompts.config,
        split=prompts.split,
        prompt="instruct" if prompts.prompt in (TEXT, None) else prompts.prompt,
        skip_empty=prompts.skip_empty,
        columns=Columns(**prompts.columns.model_dump()),
    )


def _read(prompts: PromptSet, name: str) -> tuple[DataSpec, Callable[[Path, DataSpec, str], None]]:
    """How a set is read, and by what it is checked; the usual number of rows is a limit that nobody wrote."""
    written = prompts.rows if "rows" in prompts.model_fields_set else None
    spec = _spec(name, prompts).model_copy(update={"rows": written})
    return spec, check_texts if prompts.prompt == TEXT else check_rows
