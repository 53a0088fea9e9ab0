"""The steps of a recipe's part `draft`: under plan.py, behind evaluation and before the report.

The target's own texts once a set of prompts (respond), then one step a model that is tried (draft).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from factory.data.row_order import UNSEEN
from factory.plan.outside import Outside
from factory.plan.rows import RowsSeen
from factory.recipe.draft import TEXT, PromptSet
from factory.recipe.recipe import Recipe
from factory.seeds import stream

Written = tuple[str, dict[str, Any], dict[str, Any], dict[str, str | None]]
"""A step's name, settings, inputs, and what stands for the keys of some inputs; see plan.py."""


def draft_steps(
    recipe: Recipe,
    outside: Outside,
    rows: RowsSeen,
    model: Callable[[str], Any],
    data: Callable[[str], Any],
    ref: Callable[..., Any],
) -> Iterator[Written]:
    """The steps, each behind those it reads; none where the recipe has no `draft`.

    Args:
        recipe: the recipe.
        outside: its sources.
        rows: which rows of its datasets steps see.
        model: where a model of the recipe comes from.
        data: where a dataset's rows are, once they are chosen.
        ref: makes the reference to another step's artifact.
    """
    draft, sources = recipe.draft, outside.draft
    if draft is None or sources is None:
        return
    for name, prompts in draft.prompts.items():
        spec = sources.specs[name] if prompts.of is None else rows.spec(prompts.of)
        settings = {
            "data": spec.model_copy(update={"name": name, "rows": None, "check": "none"}),
            "rows": min(prompts.rows, spec.rows or prompts.rows),
            # As drift draws. Of a training set the first rows are regenerated; and texts are too many.
            "draw": UNSEEN if prompts.of is None and prompts.prompt != TEXT else None,
            "kind": "text" if prompts.prompt == TEXT else "chat",
            "prompt_tokens": prompts.prompt_tokens,
            "max_new_tokens": draft.max_new_tokens,
            "positions": sources.positions,
            "temperature": draft.temperature,
            "seed": stream(recipe.seed, "respond", name),
        }
        inputs = {
            "target": sources.target,
            "data": sources.prompts[name] if prompts.of is None else data(prompts.of),
        }
        if _reusable(recipe, rows, prompts):
            inputs["regenerated"] = ref(f"regenerate/{prompts.of}")
        unseen: dict[str, str | None] = {}
        if _asked_by_drift(outside, inputs["data"]):
            # What is taken over is what would be generated: drift may change without making it anew.
            inputs["held_out"], unseen = ref("drift/base"), {"held_out": None}
        yield f"respond/{name}", settings, inputs, unseen
    trained = {name for variant in recipe.variants.values() for name in getattr(variant, "data", ())}
    sets = tuple(
        {"name": name, "kind": _kind(recipe, prompts), "trained": prompts.of in trained}
        for name, prompts in draft.prompts.items()
    )
    for tried in draft.tried(recipe.variants):
        settings = {
            "sets": sets,
            "target": draft.target.model if draft.target else "base",
            "temperature": draft.temperature,
            "max_new_tokens": draft.max_new_tokens,
            "prompts": draft.timed,
            "rounds": draft.rounds,
        }
        inputs = {"target": sources.target, "model": model(tried)}
        inputs |= {f"responses.{name}": ref(f"respond/{name}") for name in draft.prompts}
        yield f"draft/{tried}", settings, inputs, {}


def _reusable(recipe: Recipe, rows: RowsSeen, prompts: PromptSet) -> bool:
    """Whether regenerate writes what the target would say to these very prompts."""
    chosen = recipe.regenerate
    asked = chosen.sees == "question" and chosen.temperature == 0
    return asked and prompts.of in rows.rewritten and bool(recipe.draft and recipe.draft.target is None)


def _asked_by_drift(outside: Outside, data: Any) -> bool:
    """Whether drift asks the base, which is the target, prompts of the same dataset."""
    asked = outside.drift.splits.values() if outside.drift else ()
    same = getattr(data, "fingerprint", None) in [source.fingerprint for source in asked]
    return same and outside.draft is not None and outside.draft.target == outside.base


def _kind(recipe: Recipe, prompts: PromptSet) -> str:
    return str(prompts.prompt) if prompts.of is None else recipe.datasets[prompts.of].prompt
