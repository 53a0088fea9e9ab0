"""A recipe as ordered steps, each with the key of all that decides its artifact.

recipe.py -> `make_plan` -> run.py. What a step is given is reduced to what it can see: an option that
cannot change its artifact is not in its settings, so recipes share the work they have in common, and
an edit redoes only what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.data import Columns, DataSpec, TextSpec
from factory.errors import FactoryError
from factory.keys import stage_key
from factory.library_fields import METHODS
from factory.metrics import METRICS
from factory.nearest import suggest
from factory.outside import Outside, gather
from factory.recipe import Recipe
from factory.recipe_parts import MergedVariant
from factory.seeds import stream
from factory.sources import Source
from factory.stages import Frozen, evaluate, load

__all__ = ["Plan", "Ref", "Source", "Step", "make_plan"]


@dataclass(frozen=True)
class Ref:
    """Another step's artifact, or a folder inside it."""

    step: str
    path: str = "."


@dataclass(frozen=True)
class Step:
    """One stage with its settings and inputs.

    Attributes:
        name: such as `train/math-self`; unique in the plan.
        stage: one of `factory.stages.NAMES`.
        settings: of that stage's `Settings` type.
        inputs: by role, what it reads.
        key: names its artifact.
    """

    name: str
    stage: str
    settings: Frozen
    inputs: Mapping[str, Ref | Source]
    key: str


@dataclass(frozen=True)
class Plan:
    """A recipe's steps, each behind those it reads.

    Attributes:
        parameters: of `base` and `pruned`, where the base's weights are at hand (see `Outside`).
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    parameters: Mapping[str, int] = field(default_factory=dict)

    def step(self, name: str) -> Step:
        """The step of that name.

        Raises:
            FactoryError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise FactoryError(
            f"there is no step '{name}'", mend=suggest(name, [step.name for step in self.steps])
        )


def make_plan(recipe: Recipe) -> Plan:
    """Resolves and checks a recipe's models and datasets and lays out its steps.

    Raises:
        FactoryError: a model, dataset, suite or task that cannot be used, with its line in the recipe.
    """
    return _Planner(recipe, gather(recipe)).plan()


class _Planner:
    """Builds one plan; every method adds the steps it is named for."""

    def __init__(self, recipe: Recipe, outside: Outside) -> None:
        self.recipe, self.outside = recipe, outside
        self.steps: dict[str, Step] = {}

    def plan(self) -> Plan:
        self._prune()
        self._regenerate()
        self._train()
        self._merge()
        self._evaluate()
        self._report()
        return Plan(self.recipe, tuple(self.steps.values()), self.outside.parameters)

    def _add(self, name: str, settings: Mapping[str, Any], inputs: Mapping[str, Ref | Source]) -> None:
        stage = name.split("/", 1)[0]
        checked = load(stage).Settings(**settings)
        keys = {
            role: f"{self.steps[place.step].key}/{place.path}"
            if isinstance(place, Ref)
            else place.fingerprint
            for role, place in inputs.items()
        }
        self.steps[name] = Step(name, stage, checked, dict(inputs), stage_key(stage, checked, keys))

    def _prune(self) -> None:
        prune = self.recipe.prune
        texts = self.outside.calibration_spec.model_dump(include=set(TextSpec.model_fields))
        exclude = (prune.exclude.first, prune.exclude.last)
        # Only a metric that removes block by block sees them; recipes share the figures of the others.
        stepwise = METRICS[prune.importance].shape == "order"
        removals = {"rounds": prune.count, "exclude": exclude} if stepwise else {}
        self._add(
            "importance",
            {
                "data": TextSpec(**texts),
                "max_tokens": prune.calibration.max_tokens,
                "metric": prune.importance,
                **removals,
            },
            {"base": self.outside.base, "calibration": self.outside.calibration},
        )
        chosen: dict[str, Any] = {"drop": prune.drop, "proof": prune.proof}
        inputs: dict[str, Ref | Source] = {"base": self.outside.base}
        if isinstance(prune.drop, int):  # blocks that are named need no figures
            chosen["exclude"] = exclude
            inputs["importance"] = Ref("importance")
        self._add("prune", chosen, inputs)

    def _regenerate(self) -> None:
        chosen, seed = self.recipe.regenerate, self.recipe.seed
        trained = self.recipe.trained().values()
        used = {name for variant in trained if variant.targets == "self" for name in variant.data}
        for name in self.recipe.datasets:
            if name not in used:
                continue
            # Greedy decoding draws nothing: recipes that differ in their seed share its rows.
            drawn = stream(seed, "regenerate", name) if chosen.temperature > 0 else 0
            settings = {**chosen.model_dump(), "data": self.outside.specs[name], "seed": drawn}
            sources = {"base": self.outside.base, "data": self.outside.datasets[name]}
            self._add(f"regenerate/{name}", settings, sources)

    def _train(self) -> None:
        for name, variant in self.recipe.trained().items():
            own = variant.targets == "self"
            fields = variant.train.over(self.recipe.train)
            inputs: dict[str, Ref | Source] = {"model": Ref("prune", "model")}
            for data in variant.data:
                inputs[f"data.{data}"] = Ref(f"regenerate/{data}") if own else self.outside.datasets[data]
            settings = {
                "data": tuple(self._trained_on(data, own) for data in sorted(variant.data)),
                "targets": variant.targets,
                "lora": fields.lora,
                "sft": fields.sft,
                "seed": stream(self.recipe.seed, "train", name),
            }
            self._add(f"train/{name}", settings, inputs)

    def _trained_on(self, name: str, own: bool) -> DataSpec:
        """What training sees of a dataset: no check, and of a regenerated one its own columns."""
        if not own:
            return self.outside.specs[name].model_copy(update={"check": "none"})
        columns = Columns(instruction="instruction", context="context", response="response")
        return DataSpec(name=name, prompt=self.recipe.datasets[name].prompt, columns=columns)

    def _model(self, name: str) -> Ref | Source:
        """Where a model of the recipe comes from."""
        if name == "base":
            return self.outside.base
        if name == "pruned":
            return Ref("prune", "model")
        if name not in self.recipe.variants:
            return self.outside.foreign[name]
        merged = isinstance(self.recipe.variants[name], MergedVariant)
        return Ref(f"{'merge' if merged else 'train'}/{name}", "model")

    def _merge(self) -> None:
        for name, variant in self.recipe.merged().items():
            method = METHODS[variant.merge]
            inputs = {f"of.{part}": self._model(part) for part in variant.of}
            if method.base:
                inputs["base"] = self._model("pruned")
            settings = {
                "method": variant.merge,
                "of": variant.of,
                "parameters": variant.parameters(),
                "seed": stream(self.recipe.seed, "merge", name) if method.random else 0,
            }
            self._add(f"merge/{name}", settings, inputs)

    def _evaluate(self) -> None:
        written, outside = self.recipe.evaluate, self.outside
        settings = evaluate.chosen(written.suite, outside.shots, written.limit, batch_size=written.batch_size)
        benchmarks = {f"data.{task}": source for task, source in outside.benchmarks.items()}
        for name in ("base", "pruned", *self.recipe.variants):
            self._add(f"evaluate/{name}", settings, {"model": self._model(name), **benchmarks})

    def _report(self) -> None:
        rows: list[dict[str, Any]] = [{"name": name, "kind": name} for name in ("base", "pruned")]
        for name, variant in self.recipe.variants.items():
            if isinstance(variant, MergedVariant):
                rows.append({"name": name, "kind": "merged", "of": variant.of, "method": variant.merge})
            else:
                targets, names = variant.targets, variant.data
                rows.append({"name": name, "kind": "trained", "targets": targets, "data": names})
        settings = {
            "recipe": self.recipe.name,
            "models": tuple(rows),
            "suite": self.recipe.evaluate.suite,
            "seed": self.recipe.seed,
        }
        self._add("report", settings, {name.replace("/", ".", 1): Ref(name) for name in self.steps})
