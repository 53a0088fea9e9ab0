"""Lays out a recipe's steps.

recipe/recipe.py -> `make_plan` -> run/run.py. What a step is given is reduced to what it can see: an option
that cannot change its artifact is not in its settings, so recipes share the work they have in common, and
an edit redoes only what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.data.rows import Columns, DataSpec, TextSpec
from factory.metrics import METRICS
from factory.plan.draft import draft_steps
from factory.plan.drift import steps as drift_steps
from factory.plan.drift import taught
from factory.plan.keys import stage_key
from factory.plan.outside import Outside, gather
from factory.plan.plan import Plan, Ref, Step
from factory.plan.rows import RowsSeen
from factory.recipe.library_fields import METHODS
from factory.recipe.recipe import Recipe
from factory.recipe.training import quantiser, reporters
from factory.recipe.variants import MergedVariant
from factory.seeds import stream
from factory.sources import Source
from factory.stages import evaluate, load

SHARED_WITH_TRAIN = {"method", "freeze", "loss", "beta", "long_rows", "lora"}  # named alike in both


def make_plan(recipe: Recipe) -> Plan:
    """Resolves and checks a recipe's models and datasets and lays out its steps.

    Raises:
        FactoryError: a model, dataset, suite or task that cannot be used, with its line in the recipe.
    """
    return lay_out(recipe, gather(recipe))


@dataclass(frozen=True)
class AtLeast:
    """What a recipe's costly steps are to make so that other recipes, which need less, can share it.

    Attributes:
        removals: how many blocks a metric that removes block by block orders.
        regenerated: by dataset, how many rows are regenerated, None for all; at least what the recipe needs.
    """

    removals: int = 0
    regenerated: Mapping[str, int | None] = field(default_factory=dict)


def lay_out(recipe: Recipe, outside: Outside, at_least: AtLeast | None = None) -> Plan:
    """The steps of a recipe over what it takes from outside.

    Args:
        recipe: the recipe.
        outside: from `gather`.
        at_least: what its steps make beyond its own needs.
    """
    return _Planner(recipe, outside, at_least or AtLeast()).plan()


class _Planner:
    """Builds one plan; every method adds the steps it is named for."""

    def __init__(self, recipe: Recipe, outside: Outside, at_least: AtLeast) -> None:
        self.recipe, self.outside, self.removals = recipe, outside, at_least.removals
        self.rows = RowsSeen(recipe, outside, at_least.regenerated)
        self.steps: dict[str, Step] = {}

    def plan(self) -> Plan:
        self._prune()
        self._curate()
        self._regenerate()
        self._train()
        self._merge()
        self._evaluate()
        self._drift()
        self._measure()
        for step in draft_steps(self.recipe, self.outside, self.rows, self._model, self._data, Ref):
            self._add(*step)
        self._report()
        return Plan(self.recipe, tuple(self.steps.values()), self.outside.parameters)

    def _add(
        self,
        name: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Ref | Source],
        seen: Mapping[str, str | None] | None = None,
        as_if: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a step.

        Args:
            name: of the step.
            settings: of its stage.
            inputs: by role.
            seen: stands for the keys of inputs of which it sees but a part; None where they only save work.
            as_if: settings that would make the same of that part alone; they are in the key.
        """
        stage = name.split("/", 1)[0]
        checked = load(stage).Settings(**settings)
        keyed = load(stage).Settings(**{**settings, **(as_if or {})})
        keys = {
            role: key for role, key in ({**self._keys(inputs), **(seen or {})}).items() if key is not None
        }
        saving = frozenset(inputs) - set(keys)
        self.steps[name] = Step(
            name, stage, checked, dict(inputs), stage_key(stage, keyed, keys), saving=saving
        )

    def _keys(self, inputs: Mapping[str, Ref | Source]) -> dict[str, str]:
        return {
            role: f"{self.steps[place.step].key}/{place.path}"
            if isinstance(place, Ref)
            else place.fingerprint
            for role, place in inputs.items()
        }

    def _prune(self) -> None:
        prune = self.recipe.prune
        texts = self.outside.calibration_spec.model_dump(include=set(TextSpec.model_fields))
        exclude = (prune.exclude.first, prune.exclude.last)
        # Only a metric that removes block by block sees them; recipes share the figures of the others.
        stepwise = METRICS[prune.importance].shape == "order"
        rounds = max(prune.count, self.removals)
        scored = {
            "data": TextSpec(**texts),
            "max_tokens": prune.calibration.max_tokens,
            "metric": prune.importance,
            **({"rounds": rounds, "exclude": exclude} if stepwise else {}),
        }
        sources: dict[str, Ref | Source] = {
            "base": self.outside.base,
            "calibration": self.outside.calibration,
        }
        self._add("importance", scored, sources)
        chosen: dict[str, Any] = {"drop": prune.drop, "proof": prune.proof}
        inputs: dict[str, Ref | Source] = {"base": self.outside.base}
        if isinstance(prune.drop, int):  # blocks that are named need no figures
            chosen["exclude"] = exclude
            inputs["importance"] = Ref("importance")
        seen = {}
        if stepwise and rounds > prune.count and "importance" in inputs:
            # The first blocks of a longer order are the shorter order: prune sees no more than its own.
            shorter = load("importance").Settings(**{**scored, "rounds": prune.count})
            seen["importance"] = f"{stage_key('importance', shorter, self._keys(sources))}/."
        self._add("prune", chosen, inputs, seen)

    def _curate(self) -> None:
        for name in self.rows.curated:
            self._add(f"curate/{name}", *self.rows.curate(name))

    def _data(self, name: str) -> Ref | Source:
        """Where a dataset's rows are, once they are chosen."""
        return Ref(f"curate/{name}") if name in self.rows.curated else self.outside.datasets[name]

    def _regenerate(self) -> None:
        for name in self.rows.rewritten:
            self._add(f"regenerate/{name}", *self._regenerated(name, self.rows.regenerated(name)))

    def _regenerated(self, name: str, rows: int | None) -> tuple[dict[str, Any], dict[str, Ref | Source]]:
        """Settings and inputs of the step that regenerates so many rows of a dataset."""
        chosen, spec = self.recipe.regenerate, self.rows.spec(name)
        # Greedy decoding draws nothing: recipes that differ in their seed share its rows.
        drawn = stream(self.recipe.seed, "regenerate", name) if chosen.temperature > 0 else 0
        settings = {**chosen.model_dump(), "data": spec.model_copy(update={"rows": rows}), "seed": drawn}
        return settings, {"base": self.outside.base, "data": self._data(name)}

    def _train(self) -> None:
        for name, variant in self.recipe.trained().items():
            own = variant.targets == "self"
            fields = variant.train.over(self.recipe.train)
            inputs: dict[str, Ref | Source] = {"model": Ref("prune", "model")}
            if fields.loss == "distill":
                inputs["teacher"] = self.outside.base
            read, alone, seen = [], [], {}
            for data in sorted(variant.data):
                role, rows = f"data.{data}", self.rows.taken(variant, data)
                if own:
                    inputs[role] = Ref(f"regenerate/{data}")
                    columns = Columns(instruction="instruction", context="context", response="response")
                    spec = DataSpec(name=data, prompt=self.recipe.datasets[data].prompt, columns=columns)
                    alone.append(spec)
                    if rows != self.rows.regenerated(data):
                        # The first rows of a larger set are the smaller set: training sees no more than them.
                        spec = spec.model_copy(update={"rows": rows})
                        fewer, sources = self._regenerated(data, rows)
                        checked = load("regenerate").Settings(**fewer)
                        seen[role] = f"{stage_key('regenerate', checked, self._keys(sources))}/."
                else:
                    inputs[role] = self._data(data)
                    spec = self.rows.spec(data).model_copy(update={"check": "none", "rows": rows})
                    alone.append(spec)
                read.append(spec)
            self._add(
                f"train/{name}",
                {
                    "data": tuple(read),
                    "shares": self.rows.shares(variant),
                    "targets": variant.targets,
                    **fields.model_dump(include=SHARED_WITH_TRAIN, exclude_none=True),
                    "sft": self._followed(fields.sft, name),
                    "quantiser": quantiser() if fields.method == "qlora" else None,
                    "seed": stream(self.recipe.seed, "train", name),
                },
                inputs,
                seen,
                {"data": tuple(alone)},
            )

    def _followed(self, sft: dict[str, Any], name: str) -> dict[str, Any]:
        """TRL's fields; where training is to be followed, under the recipe's and the variant's names."""
        if not reporters(sft.get("report_to")):
            return sft
        return {"project": self.recipe.name, "run_name": name, **sft}

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

    def _drift(self) -> None:
        found = drift_steps(self.recipe, self.outside, self.rows, self._data, self._model, Ref("drift/base"))
        for name, settings, inputs in found:
            self._add(name, settings, inputs)

    def _measure(self) -> None:
        if self.recipe.measure is not None:
            models = {name: self._model(name) for name in ("base", "pruned")}
            self._add("measure", self.recipe.measure.model_dump(), models)

    def _report(self) -> None:
        rows: list[dict[str, Any]] = [{"name": name, "kind": name} for name in ("base", "pruned")]
        for name, variant in self.recipe.variants.items():
            if isinstance(variant, MergedVariant):
                rows.append({"name": name, "kind": "merged", "of": variant.of, "method": variant.merge})
            else:
                targets, names = variant.targets, tuple(variant.data)
                rows.append({"name": name, "kind": "trained", "targets": targets, "data": names})
        settings = {
            "recipe": self.recipe.name,
            "models": tuple(rows),
            "suite": self.recipe.evaluate.suite,
            "seed": self.recipe.seed,
            **({"taught": taught(self.recipe)} if self.recipe.drift else {}),
            "miniature": self.recipe.miniature,
        }
        self._add("report", settings, {name.replace("/", ".", 1): Ref(name) for name in self.steps})
