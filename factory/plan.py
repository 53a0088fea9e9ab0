"""A recipe as ordered steps, each with the key of all that decides its artifact.

recipe.py -> `make_plan` -> run.py. What a step is given is reduced to what it can see: an option that
cannot change its artifact is not in its settings, so recipes share the work they have in common, and
an edit redoes only what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.data import ROW_COLUMNS, Columns, DataSpec, TextSpec
from factory.errors import FactoryError
from factory.keys import stage_key
from factory.library_fields import METHODS
from factory.metrics import METRICS
from factory.nearest import suggest
from factory.outside import Outside, gather
from factory.prompts import CHAT
from factory.recipe import Recipe
from factory.recipe_parts import MergedVariant, TrainedVariant
from factory.seeds import stream
from factory.sources import Source
from factory.stages import Frozen, evaluate, load
from factory.tasks.suites import SUITES

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
        name: such as `train/math-self`; unique in the plan. A sweep's begin with the point: `drop=2/prune`.
        stage: one of `factory.stages.NAMES`.
        settings: of that stage's `Settings` type.
        inputs: by role, what it reads.
        key: names its artifact.
        point: what its name begins with in a sweep, if anything.
    """

    name: str
    stage: str
    settings: Frozen
    inputs: Mapping[str, Ref | Source]
    key: str
    point: str = ""

    @property
    def local(self) -> str:
        """The name without the point: what the step is called in a plan of its point alone."""
        return self.name.removeprefix(f"{self.point}/") if self.point else self.name


@dataclass(frozen=True)
class Plan:
    """A recipe's steps, each behind those it reads.

    Attributes:
        parameters: of `base` and `pruned`, where weights are at hand (see `Outside`); not of a sweep.
        points: of a sweep, what it consists of; its steps are theirs, each once, and its own report.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    parameters: Mapping[str, int] = field(default_factory=dict)
    points: tuple[Planned, ...] = ()

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


@dataclass(frozen=True)
class Planned:
    """A point of a sweep: its name, its values by the swept key, and its plan as a run of its own."""

    name: str
    values: Mapping[str, Any]
    plan: Plan


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
        self.recipe, self.outside, self.at_least = recipe, outside, at_least
        self.steps: dict[str, Step] = {}

    def plan(self) -> Plan:
        self._prune()
        self._curate()
        self._regenerate()
        self._train()
        self._merge()
        self._evaluate()
        self._report()
        return Plan(self.recipe, tuple(self.steps.values()), self.outside.parameters)

    def _add(
        self,
        name: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Ref | Source],
        seen: Mapping[str, str] | None = None,
        as_if: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a step.

        Args:
            name: of the step.
            settings: of its stage.
            inputs: by role.
            seen: stands for the keys of inputs of which it sees but a part.
            as_if: settings that would make the same of that part alone; they are in the key.
        """
        stage = name.split("/", 1)[0]
        checked = load(stage).Settings(**settings)
        keyed = load(stage).Settings(**{**settings, **(as_if or {})})
        keys = self._keys(inputs) | dict(seen or {})
        self.steps[name] = Step(name, stage, checked, dict(inputs), stage_key(stage, keyed, keys))

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
        rounds = max(prune.count, self.at_least.removals)
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
        evaluated = self.recipe.evaluate
        used = {name for variant in self.recipe.trained().values() for name in variant.data}
        for name, written in self.recipe.datasets.items():
            if name not in used or not written.is_curated:
                continue
            spec = self.outside.specs[name]
            # How many rows are taken, what they are checked for and how they are asked is seen later.
            prompt = spec.prompt if spec.prompt == CHAT else "instruct"
            read = spec.model_copy(update={"rows": None, "check": "none", "prompt": prompt})
            settings: dict[str, Any] = {"data": read, "deduplicate": written.deduplicate}
            inputs: dict[str, Ref | Source] = {"data": self.outside.datasets[name]}
            if written.overlap is not None:
                tasks = tuple(self.outside.shots)
                versions = {task: SUITES[evaluated.suite][task].version for task in tasks}
                compared = {"suite": evaluated.suite, "tasks": tasks, "versions": versions}
                settings |= {"overlap": written.overlap, **compared}
                inputs |= {f"data.{task}": source for task, source in self.outside.benchmarks.items()}
            if written.order == "random":
                settings |= {"order": "random", "seed": stream(self.recipe.seed, "order", name)}
            self._add(f"curate/{name}", settings, inputs)

    def _data(self, name: str) -> tuple[Ref | Source, DataSpec]:
        """Where a dataset's rows come from once they are chosen, and how they are read there."""
        spec = self.outside.specs[name]
        if f"curate/{name}" not in self.steps:
            return self.outside.datasets[name], spec
        columns = Columns(**{role: role for role in ROW_COLUMNS})
        own = DataSpec(name=name, rows=spec.rows, prompt=spec.prompt, check=spec.check, columns=columns)
        return Ref(f"curate/{name}"), own

    def _regenerate(self) -> None:
        trained = self.recipe.trained().values()
        used = {name for variant in trained if variant.targets == "self" for name in variant.data}
        for name in self.recipe.datasets:
            if name in used:
                self._add(f"regenerate/{name}", *self._regenerated(name, self.rows_regenerated(name)))

    def rows_regenerated(self, name: str) -> int | None:
        """How many rows of a dataset are regenerated: as many as any variant takes; None for all."""
        if name in self.at_least.regenerated:
            return self.at_least.regenerated[name]
        own = [v for v in self.recipe.trained().values() if v.targets == "self" and name in v.data]
        taken = [self._taken(variant, name) for variant in own]
        return None if None in taken else max(rows for rows in taken if rows is not None)

    def _regenerated(self, name: str, rows: int | None) -> tuple[dict[str, Any], dict[str, Ref | Source]]:
        """Settings and inputs of the step that regenerates so many rows of a dataset."""
        chosen = self.recipe.regenerate
        # Greedy decoding draws nothing: recipes that differ in their seed share its rows.
        drawn = stream(self.recipe.seed, "regenerate", name) if chosen.temperature > 0 else 0
        source, spec = self._data(name)
        settings = {**chosen.model_dump(), "data": spec.model_copy(update={"rows": rows}), "seed": drawn}
        return settings, {"base": self.outside.base, "data": source}

    def _taken(self, variant: TrainedVariant, name: str) -> int | None:
        """How many rows of a dataset a variant takes at most; None for all there are."""
        return (self.recipe.rows_of(variant) or {}).get(name, self.outside.specs[name].rows)

    def _train(self) -> None:
        for name, variant in self.recipe.trained().items():
            own = variant.targets == "self"
            fields = variant.train.over(self.recipe.train)
            inputs: dict[str, Ref | Source] = {"model": Ref("prune", "model")}
            read, alone, seen = [], [], {}
            for data in sorted(variant.data):
                role, rows = f"data.{data}", self._taken(variant, data)
                inputs[role], spec = self._data(data)
                # No check; it was one of regeneration.
                spec = spec.model_copy(update={"check": "none", "rows": rows})
                if own:
                    inputs[role] = Ref(f"regenerate/{data}")
                    columns = Columns(instruction="instruction", context="context", response="response")
                    whole = DataSpec(name=data, prompt=spec.prompt, columns=columns)
                    spec = whole
                    if rows != self.rows_regenerated(data):
                        # The first rows of a larger set are the smaller set: training sees no more than them.
                        spec = whole.model_copy(update={"rows": rows})
                        settings, sources = self._regenerated(data, rows)
                        fewer = load("regenerate").Settings(**settings)
                        seen[role] = f"{stage_key('regenerate', fewer, self._keys(sources))}/."
                    alone.append(whole)
                else:
                    alone.append(spec)
                read.append(spec)
            self._add(
                f"train/{name}",
                {
                    "data": tuple(read),
                    "shares": self._shares(variant),
                    "targets": variant.targets,
                    "lora": fields.lora,
                    "sft": fields.sft,
                    "seed": stream(self.recipe.seed, "train", name),
                },
                inputs,
                seen,
                {"data": tuple(alone)},
            )

    def _shares(self, variant: TrainedVariant) -> dict[str, float]:
        """The shares of a mix whose rows training has to count."""
        uncounted = isinstance(variant.data, dict) and self.recipe.rows_of(variant) is None
        return dict(variant.data) if uncounted and isinstance(variant.data, dict) else {}

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
                targets, names = variant.targets, tuple(variant.data)
                rows.append({"name": name, "kind": "trained", "targets": targets, "data": names})
        settings = {
            "recipe": self.recipe.name,
            "models": tuple(rows),
            "suite": self.recipe.evaluate.suite,
            "seed": self.recipe.seed,
        }
        self._add("report", settings, {name.replace("/", ".", 1): Ref(name) for name in self.steps})
