"""Which rows of the datasets a recipe's steps see: under plan.py, which makes the steps.

A dataset's rows may first be chosen and ordered (curate); then so many are regenerated as the variant that
takes most takes, and of those every variant takes the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.data.rows import ROW_COLUMNS, Columns, DataSpec
from factory.plan.outside import Outside
from factory.prompts import CHAT
from factory.recipe.recipe import Recipe
from factory.recipe.variants import TrainedVariant
from factory.seeds import stream
from factory.sources import Source
from factory.tasks.suites import SUITES


class RowsSeen:
    """The rows that steps see of a recipe's datasets.

    Args:
        recipe: the recipe.
        outside: its sources.
        regenerated: by dataset, how many rows are regenerated whatever the recipe needs; None for all.
    """

    def __init__(self, recipe: Recipe, outside: Outside, regenerated: Mapping[str, int | None]) -> None:
        self._recipe, self._outside, self._at_least = recipe, outside, regenerated
        trained = recipe.trained().values()
        used = {name for variant in trained for name in variant.data}
        rewritten = {name for variant in trained if variant.targets == "self" for name in variant.data}
        self.curated = [name for name, of in recipe.datasets.items() if name in used and of.is_curated]
        """Datasets whose rows are chosen or ordered first."""
        self.rewritten = [name for name in recipe.datasets if name in rewritten]
        """Datasets whose responses are regenerated."""

    def curate(self, name: str) -> tuple[dict[str, Any], dict[str, Source]]:
        """Settings and inputs of the step that chooses a dataset's rows."""
        written, spec = self._recipe.datasets[name], self._outside.specs[name]
        # How many rows are taken, what they are checked for and how they are asked is seen later.
        prompt = spec.prompt if spec.prompt == CHAT else "instruct"
        read = spec.model_copy(update={"rows": None, "check": "none", "prompt": prompt})
        settings: dict[str, Any] = {"data": read, "deduplicate": written.deduplicate}
        inputs = {"data": self._outside.datasets[name]}
        if written.overlap is not None:
            suite, tasks = self._recipe.evaluate.suite, tuple(self._outside.shots)
            versions = {task: SUITES[suite][task].version for task in tasks}
            settings |= {"overlap": written.overlap, "suite": suite, "tasks": tasks, "versions": versions}
            inputs |= {f"data.{task}": source for task, source in self._outside.benchmarks.items()}
        if written.order == "random":
            settings |= {"order": "random", "seed": stream(self._recipe.seed, "order", name)}
        return settings, inputs

    def written(self, name: str) -> DataSpec:
        """How a dataset is read as the recipe names it, before its rows are chosen."""
        return self._outside.specs[name]

    def spec(self, name: str) -> DataSpec:
        """How a dataset is read, once its rows are chosen."""
        spec = self._outside.specs[name]
        if name not in self.curated:
            return spec
        columns = Columns(**{role: role for role in ROW_COLUMNS})
        return DataSpec(name=name, rows=spec.rows, prompt=spec.prompt, check=spec.check, columns=columns)

    def taken(self, variant: TrainedVariant, name: str) -> int | None:
        """How many rows of a dataset a variant takes at most; None for all there are."""
        return (self._recipe.rows_of(variant) or {}).get(name, self._outside.specs[name].rows)

    def regenerated(self, name: str) -> int | None:
        """How many rows of a dataset are regenerated: as many as any variant takes; None for all."""
        if name in self._at_least:
            return self._at_least[name]
        own = [v for v in self._recipe.trained().values() if v.targets == "self" and name in v.data]
        taken = [self.taken(variant, name) for variant in own]
        return None if None in taken else max(rows for rows in taken if rows is not None)

    def shares(self, variant: TrainedVariant) -> dict[str, float]:
        """The shares of a mix whose rows training has to count; empty for all others."""
        if not isinstance(variant.data, dict) or self._recipe.rows_of(variant) is not None:
            return {}
        return dict(variant.data)
