"""All that a recipe takes from outside, found and checked against the recipe: the second half of validation.

Between recipe.py and plan.py: `gather` resolves every model and dataset once, and refuses what could only
fail later: a drop longer than the model, unknown columns, a row without a response, an unknown task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.data import Columns, DataSpec, check_rows, check_texts
from factory.dataset_files import PartError, Wanted, column_names, select_local
from factory.errors import FactoryError
from factory.models.architectures import Architecture, architecture_of, block_count
from factory.models.checkpoint import stored_tensors
from factory.models.headers import StoredTensor
from factory.nearest import suggest
from factory.recipe import Dataset, MergedVariant, Recipe, is_reference
from factory.sources import Source, config_of, has_chat_template, materialise, resolve_dataset, resolve_model
from factory.tasks.suites import SUITES, Task

# What two models must have in common to be merged, tensor by tensor.
SHAPE = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Outside:
    """The sources of one recipe.

    Attributes:
        base: the base model.
        calibration: the calibration set, read as `calibration_spec` says.
        datasets: the training sets by name, read as `specs` says.
        shots: solved examples by task, in the suite's order; its keys are the tasks to score.
        benchmarks: the datasets of those tasks.
        foreign: models that merges take from outside, by reference.
        parameters: numbers of parameters of `base` and `pruned`; empty where the weights are not at hand.
    """

    base: Source
    calibration: Source
    calibration_spec: DataSpec
    datasets: Mapping[str, Source]
    specs: Mapping[str, DataSpec]
    shots: Mapping[str, int]
    benchmarks: Mapping[str, Source]
    foreign: Mapping[str, Source]
    parameters: Mapping[str, int]


def gather(recipe: Recipe) -> Outside:
    """Finds and checks all that a recipe refers to.

    Raises:
        FactoryError: the first thing that cannot be used, with its line in the recipe.
    """
    shots = _shots(recipe)  # names first: they cost nothing to check
    where = recipe.where("base", "model")
    base = resolve_model(recipe.base.model, recipe.base.revision, where, recipe.folder)
    if base.path is not None and not has_chat_template(base.path):
        what = f"the tokenizer of '{recipe.base.model}' has no chat template"
        mend = "Use an instruction-tuned model, or add chat_template.jinja to the folder"
        raise FactoryError(what, where=where, mend=mend)
    config = config_of(base, where)
    tensors = stored_tensors(base.path) if base.path else []
    row = architecture_of(config, Path(recipe.base.model), [tensor.name for tensor in tensors])
    blocks = block_count(config, row, Path(recipe.base.model))
    _check_drop(recipe, blocks)
    spec, calibration = _calibration(recipe)
    specs = {name: _spec(name, dataset) for name, dataset in recipe.datasets.items()}
    return Outside(
        base=base,
        calibration=calibration,
        calibration_spec=spec,
        datasets={name: _dataset(recipe, name, specs[name]) for name in recipe.datasets},
        specs=specs,
        shots=shots,
        benchmarks={
            name: _benchmark(recipe, SUITES[recipe.evaluate.suite][name], shots[name]) for name in shots
        },
        foreign=_foreign(recipe, {**config, row.count: blocks - recipe.prune.drop}),
        parameters=_parameters(tensors, config, row, recipe.prune.drop),
    )


def _check_drop(recipe: Recipe, blocks: int) -> None:
    drop, model = recipe.prune.drop, recipe.base.model
    if drop >= blocks:
        what = (
            f"drop removes all {blocks} blocks of '{model}'"
            if drop == blocks
            else f"drop removes {drop} blocks, '{model}' has only {blocks}"
        )
        where = recipe.where("prune", "drop")
        raise FactoryError(what, where=where, mend=f"Drop between 1 and {blocks - 1} blocks")


def _parameters(
    tensors: Sequence[StoredTensor], config: Mapping[str, Any], row: Architecture, drop: int
) -> dict[str, int]:
    if not tensors:
        return {}
    counts: dict[int | None, int] = {}
    for tensor in tensors:
        if row.is_parameter(tensor.name, config):
            block = row.block_of(tensor.name)
            counts[block] = counts.get(block, 0) + tensor.count
    total = sum(counts.values())
    return {"base": total, "pruned": total - drop * counts.get(0, 0)}  # all blocks are alike


def _spec(name: str, dataset: Dataset) -> DataSpec:
    return DataSpec(
        name=name,
        config=dataset.config,
        split=dataset.split,
        rows=dataset.rows,
        prompt=dataset.prompt,
        check=dataset.check,
        skip_empty=dataset.skip_empty,
        columns=Columns(**dataset.columns.model_dump()),
    )


def _calibration(recipe: Recipe) -> tuple[DataSpec, Source]:
    written = recipe.prune.calibration
    columns = Columns(**written.columns.model_dump())
    spec = DataSpec(
        name="calibration", config=written.config, split=written.split, rows=written.rows, columns=columns
    )
    path = ("prune", "calibration")
    return spec, _source(recipe, path, "dataset", written.revision, written.dataset, spec, check_texts)


def _dataset(recipe: Recipe, name: str, spec: DataSpec) -> Source:
    written, path = recipe.datasets[name], ("datasets", name)
    return _source(recipe, path, "id", written.revision, written.id, spec, check_rows)


def _source(
    recipe: Recipe,
    path: tuple[str, str],
    key: str,
    revision: str | None,
    reference: str,
    spec: DataSpec,
    check: Callable[[Path, DataSpec, str], None],
) -> Source:
    """The dataset named by `key` of the recipe's part at `path`, found and its rows checked."""
    where = recipe.where(*path, key)
    try:
        wanted = Wanted(spec.config, (spec.split,))
        source = resolve_dataset(reference, revision, where, recipe.folder, wanted)
        if source.path is not None:
            check(source.path, spec, where)
        elif source.kind == "sandbox" and _unusual(spec):
            with tempfile.TemporaryDirectory() as folder:
                check(materialise(source, Path(folder)), spec, where)
    except PartError as error:  # the line of that key tells more than the dataset's
        where = recipe.where(*path, *error.part)
        raise FactoryError(error.what, where=where, mend=error.mend) from None
    return source


def _unusual(spec: DataSpec) -> bool:
    """Whether a sandbox set, which is known to be whole, is read in a way that has to be tried."""
    return (spec.config, spec.split, spec.columns) != (None, "train", Columns())


def _shots(recipe: Recipe) -> dict[str, int]:
    """The tasks to score, in the suite's order, with their solved examples."""
    written = recipe.evaluate
    if written.suite not in SUITES:
        where = recipe.where("evaluate", "suite")
        what = f"there is no suite '{written.suite}'"
        raise FactoryError(what, where=where, mend=suggest(written.suite, SUITES))
    suite = SUITES[written.suite]
    for key in ("tasks", "shots", "datasets"):
        for i, name in enumerate(getattr(written, key) or ()):
            if name not in suite:
                where = recipe.where("evaluate", key, i if key == "tasks" else name)
                what = f"suite '{written.suite}' has no task '{name}'"
                raise FactoryError(what, where=where, mend=suggest(name, suite))
    for name, count in written.shots.items():
        if suite[name].preamble and count:
            where = recipe.where("evaluate", "shots", name)
            what = f"task '{name}' takes no shots: its preamble stands for them"
            raise FactoryError(what, where=where, mend="Remove the line, or set it to 0")
    wanted = written.tasks or tuple(suite)
    return {name: written.shots.get(name, task.shots) for name, task in suite.items() if name in wanted}


def _benchmark(recipe: Recipe, task: Task, shots: int) -> Source:
    reference = recipe.evaluate.datasets.get(task.task)
    path = ("evaluate", "suite") if reference is None else ("evaluate", "datasets", task.task)
    where = recipe.where(*path)
    splits = (task.split, *({task.shots_split} - {task.split} if shots else ()))
    wanted = Wanted(
        task.config,
        splits,
        every_config=task.by_subject,
        without=task.skip_configs,
        only_will_do=True,
        beside=(task.preamble_file,) if task.preamble_file else (),
    )
    try:
        source = resolve_dataset(reference or task.dataset, None, where, recipe.folder, wanted)
    except FactoryError as error:
        raise FactoryError(f"task '{task.task}': {error.what}", where=where, mend=error.mend) from None
    if source.path is not None:
        _check_columns(source.path, wanted, task, where)
    return source


def _check_columns(folder: Path, wanted: Wanted, task: Task, where: str) -> None:
    for config, splits in select_local(folder, wanted, where).items():
        for split, files in splits.items():
            there = column_names([folder / name for name in files])
            place = f"split '{split}'" + (f" of config '{config}'" if config else "")
            if not there:
                what = f"task '{task.task}': {place} has no rows"
                raise FactoryError(what, where=where, mend="Fill it, or name another folder")
            for column in task.columns:
                if column not in there:
                    what = f"task '{task.task}': {place} has no column '{column}'"
                    raise FactoryError(what, where=where, mend=suggest(column, there))


def _foreign(recipe: Recipe, pruned: Mapping[str, Any]) -> dict[str, Source]:
    """The models that merges take from outside, all of the pruned model's shape."""
    found: dict[str, Source] = {}
    for name, variant in recipe.variants.items():
        if not isinstance(variant, MergedVariant):
            continue
        for i, part in enumerate(variant.of):
            if part in found or not is_reference(part):
                continue
            where = recipe.where("variants", name, "of", i)
            found[part] = resolve_model(part, None, where, recipe.folder)
            config = config_of(found[part], where)
            for key in SHAPE:
                if key in config and key in pruned and config[key] != pruned[key]:
                    what = f"'{part}' has {key} {config[key]}, the pruned model {pruned[key]}"
                    mend = "Merge only models pruned from the same base by the same number of blocks"
                    raise FactoryError(what, where=where, mend=mend)
    return found
