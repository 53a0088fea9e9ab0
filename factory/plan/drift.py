"""The steps that measure drift: under plan.py, which names and keys them.

`drift/base` asks the base; `drift/<model>` reads what that gave, and nothing of other models, so that a
further variant measures itself alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from factory.data.row_order import UNSEEN
from factory.drift.heldout import HeldOut
from factory.plan.outside import Outside
from factory.plan.outside_drift import DriftOutside
from factory.plan.rows import RowsSeen
from factory.recipe.recipe import Recipe
from factory.seeds import stream
from factory.tasks.suites import SUITES

Inputs = dict[str, Any]  # by role an outside source, or a place in another step's artifact
Steps = Iterator[tuple[str, dict[str, Any], Inputs]]


def steps(
    recipe: Recipe,
    outside: Outside,
    rows: RowsSeen,
    data: Callable[[str], Any],
    model: Callable[[str], Any],
    measured: Any,
) -> Steps:
    """Name, settings and inputs of each step; none where the recipe has no `drift`.

    Args:
        recipe: the recipe.
        outside: its sources.
        rows: which rows of its datasets its steps see.
        data: where a dataset's rows are, once they are chosen.
        model: where a model of the recipe is.
        measured: the place of what `drift/base` makes.
    """
    written, found = recipe.drift, outside.drift
    if written is None or found is None:
        return
    engine = recipe.regenerate.engine
    settings = {
        "max_new_tokens": written.max_new_tokens or recipe.regenerate.max_new_tokens,
        "batch_size": written.batch_size,
        # A server serves the base alone: the others are asked where their weights are.
        "engine": "transformers" if engine == "openai" else engine,
        "embedding": written.embedding,
        **_text(recipe, outside, found),
    }
    shared: Inputs = {"base": outside.base}
    shared |= {"text": found.text} if found.text else {}
    shared |= {"embedding": found.embedding} if found.embedding else {}
    asked, own = [], dict(shared)
    for name, split in found.held_out.items():
        asked.append(_held_out(recipe, rows, name, split, rest=name not in found.splits))
        own[f"held_out.{name}"] = found.splits.get(name) or data(name)
        own[f"trained.{name}"] = data(name)
    yield "drift/base", {**settings, "held_out": tuple(asked)}, own
    for name in ("pruned", *recipe.variants):
        yield f"drift/{name}", settings, {**shared, "model": model(name), "drift": measured}


def _held_out(recipe: Recipe, rows: RowsSeen, name: str, split: str, rest: bool) -> HeldOut:
    seen = rows.spec(name).model_copy(update={"check": "none"})
    trained = [variant for variant in recipe.trained().values() if name in variant.data]
    taken = [rows.taken(variant, name) for variant in trained]
    most = None if None in taken else max((count for count in taken if count is not None), default=0)
    own = seen if rest else rows.written(name).model_copy(update={"split": split})
    return HeldOut(
        data=own.model_copy(update={"rows": None, "check": "none"}),
        skip=(most or 0) if rest else 0,
        seen=seen.model_copy(update={"rows": most or None}),
        rows=recipe.drift.rows if recipe.drift else 2,
        seed=stream(recipe.seed, "drift", name) if rest else UNSEEN,
    )


def _text(recipe: Recipe, outside: Outside, found: DriftOutside) -> dict[str, Any]:
    if found.text is None or found.text_spec is None or recipe.drift is None:
        return {"text_why": found.text_why}
    written = recipe.drift.text
    return {
        "text": {
            "data": found.text_spec,
            "max_tokens": written.max_tokens if written else 1024,
            "called": found.text.reference,
            "calibrated": _calibrated(recipe, outside),
        }
    }


def _calibrated(recipe: Recipe, outside: Outside) -> bool:
    """Whether the texts are of those over which blocks were chosen: both are the first rows."""
    found, spec = outside.drift, outside.calibration_spec
    if found is None or found.text_spec is None or not isinstance(recipe.prune.drop, int):
        return False
    same = (found.text_spec.config, found.text_spec.split) == (spec.config, spec.split)
    return same and found.text == outside.calibration


def taught(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """By variant, the tasks that its training set out to teach: of forgetting they tell nothing.

    What a recipe does not say: datasets asked as `math` teach the tasks of generated numbers.
    """
    suite = SUITES[recipe.evaluate.suite]
    numbers = tuple(name for name, task in suite.items() if task.metric == "exact_match")
    said: Mapping[str, tuple[str, ...]] = recipe.drift.domains if recipe.drift else {}
    teaches = {
        name: said.get(name, numbers if dataset.prompt == "math" else ())
        for name, dataset in recipe.datasets.items()
    }
    trained = recipe.trained()
    return {
        name: tuple(
            dict.fromkeys(
                task
                for part in recipe.made_of(name)
                if part in trained
                for dataset in trained[part].data
                for task in teaches[dataset]
            )
        )
        for name in recipe.variants
    }
