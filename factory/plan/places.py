"""Where in a recipe a key of a step stands: messages of stages and of `--processes` become `file:line`.

Beside plan.py. A stage knows its settings by their keys, `train.sft.learning_rate`, and no recipe; whoever
runs its step knows both, and whether a variant's own `train` says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory.errors import FactoryError
from factory.plan.plan import Plan, Step
from factory.recipe.recipe import Recipe


def line_of(plan: Plan, step: Step, keys: Sequence[str]) -> str:
    """`file:line` of a key, or of what encloses it where it is left to a default.

    Args:
        plan: of a recipe or a sweep.
        step: one of its steps.
        keys: from the top of a recipe; of those below `train` the variant's own come first.
    """
    variant = plan.recipe.variants.get(step.local.removeprefix("train/")) if step.stage == "train" else None
    if variant is not None and keys[0] == "train":
        own: Any = variant.model_dump(exclude_unset=True)
        for key in keys:
            own = own.get(key) if isinstance(own, dict) else None
        if own is not None and len(keys) > 1:
            return plan.recipe.where("variants", step.local.removeprefix("train/"), *keys)
    return plan.recipe.where(*keys)


def placed(plan: Plan, step: Step, error: FactoryError) -> FactoryError:
    """A stage's refusal with the line of the key that it names, and the step; one that names none as it is.

    Args:
        plan: of a recipe or a sweep.
        step: whose stage refused.
        error: what it said.
    """
    keys = error.where.split(".") if error.where else []
    if not keys or keys[0] not in Recipe.model_fields or not all(key.isidentifier() for key in keys):
        return error
    where = f"{line_of(plan, step, keys)}: {error.where} of {step.name}"
    return FactoryError(error.what, where=where, mend=error.mend)
