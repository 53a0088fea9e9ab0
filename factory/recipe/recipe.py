"""What a user may write: the whole recipe, and errors that name file, line and mend.

The first step of the pipeline: recipe.yaml -> `load_recipe` -> Recipe -> plan/plan.py. Everything that can be
seen without looking at models and data is refused here or in the parts; `plan/outside.py` refuses the rest
before a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from pydantic import Field, PrivateAttr, ValidationError
from pydantic.json_schema import SkipJsonSchema

from factory.data.mixture import rows_of
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.dataset import Dataset
from factory.recipe.draft import Draft
from factory.recipe.drift import Drift
from factory.recipe.drift import check as check_drift
from factory.recipe.errors import first_error
from factory.recipe.file import SWEEP, RecipeFile, apply_overrides, fold_rows, read
from factory.recipe.measure import Measure
from factory.recipe.parts import Base, Evaluate, Name, Publish, Values, Written
from factory.recipe.prune import Prune
from factory.recipe.regenerate import Regenerate
from factory.recipe.training import unfit
from factory.recipe.variants import MergedVariant, Train, TrainedVariant, Variant

MAX_VARIANTS = 200
RESERVED = ("base", "pruned")  # models every recipe has
STORE = "store"  # stands beside the folders of the recipes
MINIATURE = "--miniature"  # who says that a recipe is one: the command, never its file


class Recipe(Written):
    """A whole recipe. `where` tells the line of any part; `sweep` is empty but in a sweep's plan.

    `miniature` is set by miniature.py alone.
    """

    name: Name
    seed: int = Field(default=0, ge=0, le=2**32 - 1)  # as transformers' set_seed takes
    base: Base
    prune: Prune
    datasets: dict[Name, Dataset] = Field(min_length=1)
    regenerate: Regenerate = Regenerate()
    train: Train = Train()
    variants: dict[Name, Variant] = Field(min_length=1, max_length=MAX_VARIANTS)
    evaluate: Evaluate
    drift: Drift | None = None
    measure: Measure | None = None
    draft: Draft | None = None
    publish: Publish | None = None
    sweep: dict[str, Values] = Field(default_factory=dict)
    miniature: SkipJsonSchema[bool] = Field(default=False, exclude_if=lambda value: not value)

    _file: RecipeFile | None = PrivateAttr(default=None)
    _folder: Path = PrivateAttr(default_factory=Path)

    def where(self, *path: str | int) -> str:
        """`file:line` of a part, such as `where("prune", "drop")`."""
        return self._file.where(path) if self._file else ".".join(map(str, path))

    @property
    def folder(self) -> Path:
        """The folder that relative references start from: the recipe file's."""
        return self._folder

    def trained(self) -> dict[str, TrainedVariant]:
        """The trained variants, in the order written."""
        return {name: v for name, v in self.variants.items() if isinstance(v, TrainedVariant)}

    def rows_of(self, variant: TrainedVariant) -> dict[str, int | None] | None:
        """How many rows a variant takes of each dataset, None for all; None where that takes counting."""
        return rows_of(
            variant.data, variant.rows, {name: dataset.rows for name, dataset in self.datasets.items()}
        )

    def merged(self) -> dict[str, MergedVariant]:
        """The merged variants, each behind those it is made of.

        Raises:
            graphlib.CycleError: they go round in a circle; `load_recipe` has refused that.
        """
        merged = {name: v for name, v in self.variants.items() if isinstance(v, MergedVariant)}
        parts = {name: [part for part in v.of if part in merged] for name, v in merged.items()}
        return {name: merged[name] for name in TopologicalSorter(parts).static_order()}

    def made_of(self, name: str) -> tuple[str, ...]:
        """A variant and the variants that it is merged from, directly or not; parts come first."""
        variant, found = self.variants[name], dict[str, None]()
        for part in variant.of if isinstance(variant, MergedVariant) else ():
            if part in self.variants:
                found |= dict.fromkeys(self.made_of(part))
        return (*found, name)

    def learnt_from(self, name: str) -> tuple[str, ...]:
        """The regenerated datasets that a variant, or what it is merged from, was trained on."""
        variants = [self.variants[part] for part in self.made_of(name)]
        own = [v for v in variants if isinstance(v, TrainedVariant) and v.targets == "self"]
        return tuple(dict.fromkeys(dataset for variant in own for dataset in variant.data))


def load_recipe(path: Path | str, overrides: Iterable[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        path: the YAML file.
        overrides: `key.key=value` assignments laid over it.

    Raises:
        FactoryError: the first thing that is wrong, with its line and how to mend it.
    """
    file = fold_rows(apply_overrides(read(Path(path)), overrides))
    if file.data.get(SWEEP):
        what = "this recipe sweeps over values, so it is several"
        mend = "Leave the sweep out: --set sweep={}, and give every dataset one number of rows"
        raise FactoryError(what, where=file.where((SWEEP,)), mend=mend)
    return recipe_of(file, Path(path).parent)


def recipe_of(file: RecipeFile, folder: Path) -> Recipe:
    """Checks a recipe that has been read.

    Args:
        file: what stands in it.
        folder: what relative references start from.

    Raises:
        FactoryError: the first thing that is wrong, with its line and how to mend it.
    """
    try:
        recipe = Recipe.model_validate(file.data)
    except ValidationError as error:
        raise first_error(error, file) from None
    if recipe.miniature and (where := file.where(("miniature",))) != MINIATURE:
        mend = "Remove the line, and write `factory run RECIPE --miniature`"
        raise FactoryError("a recipe does not say of itself that it is a miniature", where=where, mend=mend)
    recipe._file, recipe._folder = file, folder
    _check_names(recipe)
    _check_training(recipe)
    check_drift(recipe)
    return recipe


def _check_names(recipe: Recipe) -> None:
    """Names that are taken, or that lead nowhere."""
    if recipe.name.lower() == STORE:  # on some disks `Store` is the same folder
        what = f"a recipe cannot be called '{recipe.name}': the folder runs/{STORE} holds the artifacts"
        raise FactoryError(what, where=recipe.where("name"), mend="Give it another name")
    for part in ("datasets", "variants"):
        first: dict[str, str] = {}
        for name in getattr(recipe, part):
            if (other := first.setdefault(name.lower(), name)) != name:
                what = f"'{other}' and '{name}' in {part} are one folder where a disk knows no upper case"
                raise FactoryError(what, where=recipe.where(part, name), mend="Rename one of them")
    for name, variant in recipe.variants.items():
        if name in RESERVED:
            what = f"a variant cannot be called '{name}': every recipe has a model of that name"
            raise FactoryError(what, where=recipe.where("variants", name), mend="Give it another name")
        if isinstance(variant, TrainedVariant):
            _check_data(recipe, name, variant)
        else:
            _check_parts(recipe, name, variant)
    try:
        recipe.merged()
    except CycleError as error:
        circle = error.args[1]
        where = recipe.where("variants", circle[0], "of")
        what = f"the merges go round in a circle: {' -> '.join(circle)}"
        raise FactoryError(what, where=where, mend="Merge only variants that are made before") from None
    if recipe.draft is not None:
        recipe.draft.check_names(recipe.variants, recipe.datasets, recipe.where)
    if recipe.publish is not None:
        _check_publish(recipe, recipe.publish)


def _check_publish(recipe: Recipe, publish: Publish) -> None:
    """What is to be published is made by this recipe."""
    for i, name in enumerate(publish.push):
        if name not in recipe.variants:
            what = f"publish.push names an unknown variant '{name}'"
            where = recipe.where("publish", "push", i)
            raise FactoryError(what, where=where, mend=suggest(name, recipe.variants))
    made = {dataset for name in publish.push for dataset in recipe.learnt_from(name)}
    for i, name in enumerate(publish.datasets if isinstance(publish.datasets, tuple) else ()):
        where = recipe.where("publish", "datasets", i)
        if name not in recipe.datasets:
            what = f"publish.datasets names an unknown dataset '{name}'"
            raise FactoryError(what, where=where, mend=suggest(name, recipe.datasets))
        if name not in made:
            what = f"no variant in publish.push is trained on the regenerated '{name}'"
            mend = "Leave it out, or push a variant with `targets: self` on it"
            raise FactoryError(what, where=where, mend=mend)


def _check_data(recipe: Recipe, name: str, variant: TrainedVariant) -> None:
    mixed = isinstance(variant.data, dict)
    for i, dataset in enumerate(variant.data):
        where = recipe.where("variants", name, "data", dataset if mixed else i)
        if dataset not in recipe.datasets:
            what = f"variant '{name}' names an unknown dataset '{dataset}'"
            raise FactoryError(what, where=where, mend=suggest(dataset, recipe.datasets))
    for dataset, rows in (recipe.rows_of(variant) or {}).items():
        limit = recipe.datasets[dataset].rows
        where = recipe.where("variants", name, *(("data", dataset) if variant.rows is None else ("rows",)))
        if rows == 0:
            what = f"the shares of variant '{name}' leave no row of '{dataset}'"
            raise FactoryError(what, where=where, mend="Give it a larger share, or take more rows")
        if rows and limit and rows > limit:
            what = f"variant '{name}' takes {rows:,} rows of '{dataset}', of which the recipe takes {limit:,}"
            raise FactoryError(what, where=where, mend=f"Take fewer, or raise datasets.{dataset}.rows")


def _check_training(recipe: Recipe) -> None:
    """Settings that have no use with the method or loss beside which they stand."""
    parts: list[tuple[tuple[str, ...], Train, Train]] = [(("train",), recipe.train, recipe.train)]
    for name, variant in recipe.trained().items():
        whole = variant.train.over(recipe.train)
        parts.append((("variants", name, "train"), variant.train, whole))
    for path, own, whole in parts:
        found = unfit(
            whole.method,
            whole.loss,
            lora=bool(own.lora),
            freeze=own.freeze is not None,
            beta=own.beta is not None,
            sft=own.sft,
        )
        if found:
            key, what, mend = found
            raise FactoryError(what, where=recipe.where(*path, *key.split(".")), mend=mend)


def is_reference(part: str) -> bool:
    """Whether an entry of a merge's `of` is a model folder or Hub id, and no variant's name."""
    return "/" in part or part.startswith((".", "~"))


def _check_parts(recipe: Recipe, name: str, variant: MergedVariant) -> None:
    for i, part in enumerate(variant.of):
        where = recipe.where("variants", name, "of", i)
        if part == name:
            what = f"variant '{name}' is merged from itself"
            raise FactoryError(what, where=where, mend="Name other variants")
        if part == "base":
            what = f"variant '{name}' merges the base model, which has {recipe.prune.count} blocks more"
            raise FactoryError(what, where=where, mend="Name variants, or `pruned`")
        if part not in recipe.variants and part != "pruned" and not is_reference(part):
            others = [*(set(recipe.variants) - {name}), "pruned"]
            what = f"variant '{name}' names an unknown variant '{part}'"
            raise FactoryError(what, where=where, mend=suggest(part, others))
