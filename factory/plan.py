"""A recipe as ordered steps, each with the key of all that decides its artifact.

recipe.py -> `make_plan` -> run.py. What a step is given is reduced to what it can see: an option that
cannot change its artifact is not in its settings, so recipes share the work they have in common, and
an edit redoes only what it changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from factory import data, dataset_files
from factory.data import Columns, DataSpec
from factory.dataset_files import Wanted
from factory.errors import FactoryError
from factory.library_fields import METHODS
from factory.models.architectures import architecture_of
from factory.models.checkpoint import stored_tensors
from factory.nearest import suggest
from factory.recipe import Dataset, MergedVariant, Recipe, Train, TrainedVariant, is_reference
from factory.seeds import stream
from factory.sources import Source, config_of, materialise, resolve_dataset, resolve_model
from factory.stages import Frozen, load
from factory.tasks.suites import SUITES, Task

KEY_LENGTH = 16  # hex digits


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
        parameters: of `base` and `pruned`, where the base's weights are at hand.
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
    return _Planner(recipe).plan()


@lru_cache
def _libraries(stage: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in sorted(load(stage).LIBRARIES)}


def _key(stage: str, settings: Frozen, inputs: Mapping[str, str]) -> str:
    facts = {
        "stage": stage,
        "version": load(stage).VERSION,
        "settings": settings.model_dump(mode="json"),
        "inputs": inputs,
        "libraries": _libraries(stage),
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class _Planner:
    """Builds one plan; every method adds the steps it is named for."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.steps: dict[str, Step] = {}

    def plan(self) -> Plan:
        recipe = self.recipe
        where = recipe.where("base", "model")
        self.base = resolve_model(recipe.base.model, recipe.base.revision, where, recipe.folder)
        self._check_drop()
        calibration = self._calibration()
        sources = {name: self._dataset(name) for name in recipe.datasets}
        tasks = self._tasks()
        benchmarks = {f"data.{name}": self._benchmark(task, shots) for name, (task, shots) in tasks.items()}
        foreign = self._foreign()

        self._prune(calibration)
        self._regenerate(sources)
        self._train(sources)
        self._merge(foreign)
        self._evaluate({name: shots for name, (_, shots) in tasks.items()}, benchmarks)
        self._report()
        return Plan(recipe, tuple(self.steps.values()), self._parameters())

    def _add(self, name: str, settings: dict[str, Any], inputs: Mapping[str, Ref | Source]) -> None:
        stage = name.split("/", 1)[0]
        checked = load(stage).Settings(**settings)
        keys = {
            role: f"{self.steps[place.step].key}/{place.path}" if isinstance(place, Ref) else place.fingerprint
            for role, place in inputs.items()
        }
        self.steps[name] = Step(name, stage, checked, dict(inputs), _key(stage, checked, keys))

    # What comes from outside ------------------------------------------------------------------------

    def _check_drop(self) -> None:
        config, drop = config_of(self.base), self.recipe.prune.drop
        where = self.recipe.where("prune", "drop")
        blocks = int(config[architecture_of(config, Path(self.base.reference)).count])
        if drop >= blocks:
            which = "all" if drop == blocks else f"{drop} of"
            what = f"drop removes {which} {blocks} blocks of '{self.base.reference}'"
            raise FactoryError(what, where=where, mend=f"Drop between 1 and {blocks - 1} blocks")

    def _parameters(self) -> dict[str, int]:
        if self.base.path is None:
            return {}
        config = config_of(self.base)
        row = architecture_of(config, self.base.path)
        tied = bool(config.get("tie_word_embeddings"))
        counts: dict[int | None, int] = {}
        for tensor in stored_tensors(self.base.path):
            if tensor.name.endswith(row.buffers) or (tied and tensor.name == "lm_head.weight"):
                continue
            block = row.block_of(tensor.name)
            counts[block] = counts.get(block, 0) + tensor.count
        total = sum(counts.values())
        return {"base": total, "pruned": total - self.recipe.prune.drop * counts.get(0, 0)}

    def _calibration(self) -> Source:
        written = self.recipe.prune.calibration
        where = self.recipe.where("prune", "calibration", "dataset")
        wanted = Wanted(written.config, (written.split,))
        source = resolve_dataset(written.dataset, written.revision, where, self.recipe.folder, wanted)
        spec = DataSpec(
            name="calibration",
            config=written.config,
            split=written.split,
            rows=written.rows,
            columns=Columns(**written.columns.model_dump()),
        )
        if source.path is not None:
            data.check_texts(source.path, spec, where)
        self.calibration_spec = spec
        return source
