"""All that a recipe takes from outside, found and checked against the recipe: the second half of validation.

Between recipe/recipe.py and plan.py: `gather` resolves every model and dataset once, and refuses what could
only fail later: a drop longer than the model, unknown columns, a row without a response, an unknown task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.data.files import PartError, Wanted
from factory.data.first_rows import check_rows, check_texts, count_rows
from factory.data.rows import Columns, DataSpec
from factory.errors import FactoryError
from factory.hub_files import GatedError, NotAskedError
from factory.models.architectures import Architecture, architecture_of, block_count
from factory.models.headers import StoredTensor
from factory.plan.benchmarks import find_benchmarks, shots_of
from factory.plan.lora_modules import check_modules
from factory.plan.outside_draft import DraftSources, gather_draft
from factory.plan.outside_drift import DriftOutside
from factory.plan.outside_drift import gather as gather_drift
from factory.plan.positions import check_new_tokens, positions
from factory.recipe import measure as recipe_measure
from factory.recipe.dataset import Dataset
from factory.recipe.recipe import Recipe, is_reference
from factory.recipe.training import missing_quantiser, missing_reporter
from factory.recipe.variants import MergedVariant, Train
from factory.sources import (
    Source,
    at_hand,
    config_of,
    has_chat_template,
    resolve_dataset,
    resolve_model,
    tensors_of,
)

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
            Where blocks differ in size and are yet to be chosen, `pruned` is the least that can be left and
            `pruned_at_most` the most.
        drift: what `drift` takes, if the recipe has it.
        draft: what the recipe's part `draft` takes; None where it has none.
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
    drift: DriftOutside | None = None
    draft: DraftSources | None = None


def gather(recipe: Recipe, here: bool = True) -> Outside:
    """Finds and checks all that a recipe refers to.

    Args:
        recipe: the recipe.
        here: whether it is this machine that trains, and has to have what that needs.

    Raises:
        FactoryError: the first thing that cannot be used, with its line in the recipe.
    """
    shots = shots_of(recipe.evaluate, recipe.where)  # names first: they cost nothing to check
    if here:
        _check_installed(recipe)
    where = recipe.where("base", "model")
    try:
        base = resolve_model(recipe.base.model, recipe.base.revision, where, recipe.folder)
    except (GatedError, NotAskedError):  # what can be seen without it is looked at first: it may be all
        _check_data(recipe, shots)
        raise
    if base.path is not None and not has_chat_template(base.path):
        what = f"the tokenizer of '{recipe.base.model}' has no chat template"
        mend = "Use an instruction-tuned model, or add chat_template.jinja to the folder"
        raise FactoryError(what, where=where, mend=mend)
    config = config_of(base, where)
    tensors = tensors_of(base, where)
    row = architecture_of(config, Path(recipe.base.model), [tensor.name for tensor in tensors])
    blocks = block_count(config, row, Path(recipe.base.model))
    _check_drop(recipe, blocks)
    _check_new_tokens(recipe, config)
    recipe_measure.check(recipe, positions(config))
    if tensors:
        check_modules(recipe, tensors, config, row)
    spec, calibration = _calibration(recipe)
    specs = {name: _spec(name, dataset) for name, dataset in recipe.datasets.items()}
    return Outside(
        base=base,
        calibration=calibration,
        calibration_spec=spec,
        datasets={name: _dataset(recipe, name, specs[name]) for name in recipe.datasets},
        specs=specs,
        shots=shots,
        benchmarks=find_benchmarks(recipe.evaluate, shots, recipe.folder, recipe.where),
        foreign=_foreign(recipe, {**config, row.count: blocks - recipe.prune.count}),
        parameters=_parameters(recipe, tensors, config, row, blocks),
        drift=gather_drift(recipe, specs, shots, config),
        draft=gather_draft(recipe, base, config, _source),
    )


def _check_data(recipe: Recipe, shots: Mapping[str, int]) -> None:
    """Refuses training sets, calibration and benchmarks that cannot be used with any model."""
    _calibration(recipe)
    for name, dataset in recipe.datasets.items():
        _dataset(recipe, name, _spec(name, dataset))
    find_benchmarks(recipe.evaluate, shots, recipe.folder, recipe.where)


def _check_installed(recipe: Recipe) -> None:
    """Refuses what a variant's training needs and this machine has not."""
    for name, variant in recipe.trained().items():
        whole = variant.train.over(recipe.train)
        for key, missing in (
            (("method",), missing_quantiser() if whole.method == "qlora" else None),
            (("sft", "report_to"), missing_reporter(whole.sft.get("report_to"))),
        ):
            if missing:
                own = _written(variant.train, key)
                where = recipe.where(*(("variants", name, "train") if own else ("train",)), *key)
                raise FactoryError(missing[0], where=where, mend=missing[1])


def _written(train: Train, key: tuple[str, ...]) -> bool:
    """Whether a variant's own part says it, not the recipe's."""
    return key[-1] in (train.sft if key[0] == "sft" else train.model_fields_set)


def _check_drop(recipe: Recipe, blocks: int) -> None:
    """Refuses a drop that the model has no room for, or that `exclude` contradicts."""
    written, model, drop = recipe.prune.drop, recipe.base.model, recipe.prune.count
    first, last = recipe.prune.exclude.first, recipe.prune.exclude.last
    where = recipe.where("prune", "drop")
    if not isinstance(written, int):
        for block in written:
            if block >= blocks:
                what = f"drop names block {block}, '{model}' has only 0 to {blocks - 1}"
                raise FactoryError(what, where=where, mend=f"Name blocks from 0 to {blocks - 1}")
            if not first <= block < blocks - last:
                what = f"drop names block {block}, which prune.exclude keeps"
                raise FactoryError(what, where=where, mend="Name another block, or exclude fewer")
    if drop >= blocks:
        what = (
            f"drop removes all {blocks} blocks of '{model}'"
            if drop == blocks
            else f"drop removes {drop} blocks, '{model}' has only {blocks}"
        )
        raise FactoryError(what, where=where, mend=f"Drop between 1 and {blocks - 1} blocks")
    room = blocks - first - last
    if drop > room:
        what = (
            f"exclude keeps {first + last} of the {blocks} blocks of '{model}', so {drop} cannot be removed"
        )
        mend = f"Drop at most {room} blocks, or exclude fewer" if room > 0 else "Exclude fewer"
        raise FactoryError(what, where=recipe.where("prune", "exclude"), mend=mend)


def _check_new_tokens(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Refuses responses that a prompt leaves no room for; the usual limit, which nobody wrote, gives way."""
    if "max_new_tokens" in recipe.regenerate.model_fields_set:
        where = recipe.where("regenerate", "max_new_tokens")
        wanted = recipe.regenerate.max_new_tokens
        check_new_tokens(config, recipe.base.model, "max_new_tokens", wanted, where)


def _parameters(
    recipe: Recipe, tensors: Sequence[StoredTensor], config: Mapping[str, Any], row: Architecture, blocks: int
) -> dict[str, int]:
    """Numbers of parameters before and after; see `Outside`."""
    if not tensors:
        return {}
    counts: dict[int | None, int] = {}
    for tensor in tensors:
        if row.is_parameter(tensor.name, config):
            block = row.block_of(tensor.name)
            counts[block] = counts.get(block, 0) + tensor.count
    total, each = sum(counts.values()), [counts.get(block, 0) for block in range(blocks)]
    whole = counts.get(None, 0) + sum(each)  # without what is stored behind the last block, which goes
    drop, kept = recipe.prune.drop, recipe.prune.exclude
    if not isinstance(drop, int):
        return {"base": total, "pruned": whole - sum(each[block] for block in drop)}
    # Which blocks go is chosen later; of most models they are alike, of some (experts) they are not.
    ordered = sorted(each[kept.first : blocks - kept.last])
    least, most = whole - sum(ordered[-drop:]), whole - sum(ordered[:drop])
    return {"base": total, "pruned": least} | ({"pruned_at_most": most} if most > least else {})


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
    # The usual number of texts is a limit that nobody wrote; only a written one has to be there.
    asked = spec if "rows" in written.model_fields_set else spec.model_copy(update={"rows": None})
    return spec, _source(recipe, path, "dataset", written.revision, written.dataset, asked, check_texts)


def _dataset(recipe: Recipe, name: str, spec: DataSpec) -> Source:
    written, path = recipe.datasets[name], ("datasets", name)
    rewritten = any(v.targets == "self" and name in v.data for v in recipe.trained().values())
    # Where no variant has the rows rewritten, nothing is checked.
    asked = spec if rewritten else spec.model_copy(update={"check": "none"})

    def check(folder: Path, spec: DataSpec, where: str) -> None:
        check_rows(folder, spec, where)
        if written.is_curated and spec.rows is not None:  # they are chosen among all there are
            check_rows(folder, spec.model_copy(update={"rows": None}), where)
        _check_mixes(recipe, folder, spec, where)

    return _source(recipe, path, "id", written.revision, written.id, asked, check)


def _check_mixes(recipe: Recipe, folder: Path, spec: DataSpec, where: str) -> None:
    """Refuses a mix that takes more rows of a dataset than it has."""
    for variant, written in recipe.trained().items():
        rows = (recipe.rows_of(written) or {}).get(spec.name)
        if not isinstance(written.data, dict) or rows is None:
            continue
        there = count_rows(folder, spec, rows, where)
        if there is not None and there < rows:
            key = ("data", spec.name) if written.rows is None else ("rows",)
            what = f"variant '{variant}' takes {rows:,} rows of '{spec.name}', which has {there:,}"
            place = recipe.where("variants", variant, *key)
            raise FactoryError(what, where=place, mend="Take fewer of them, or name a larger dataset")


def _source(
    recipe: Recipe,
    path: tuple[str, ...],
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
        with at_hand(source) as folder:
            if folder is not None:
                check(folder, spec, where)
    except PartError as error:  # the line of that key tells more than the dataset's
        where = recipe.where(*path, *error.part)
        raise FactoryError(error.what, where=where, mend=error.mend) from None
    return source


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
