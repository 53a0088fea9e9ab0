"""What the parts of a recipe have in common, and the small ones: base, calibration, evaluate, publish.

Each part is a frozen model of what a person may write; prune.py, dataset.py, regenerate.py, variants.py,
drift.py, measure.py and draft.py have the others, and recipe.py puts them together and reads the file. What
one part shows by itself is refused in it: unknown keys, wrong types, parameters that fit no merge method.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from factory.data.mixture import MOST
from factory.data.rows import Columns
from factory.nearest import suggest
from factory.recipe.licence import FORM, spelt
from factory.refused import refuse, refused

LARGEST = 2**31 - 1  # of tokens, steps and the like: what libraries hold in 32 bits
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # names become folders and file names


class Written(BaseModel):
    """A part of a recipe: immutable, strict about types, no key beyond the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in known:
                refuse("unknown key '{key}'", key=key, mend=suggest(key, known), at=key, inside=True)
        return data


def _none_twice(names: tuple[Any, ...]) -> tuple[Any, ...]:
    for i, name in enumerate(names):
        if name in names[:i]:
            refuse("'{name}' stands twice", name=name, mend="Name it once", at=str(i), inside=True)
    return names


# What Windows takes for a device, whatever its case and whatever stands behind a dot; a folder of a run, a
# clone or a download could not have such a name there. https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


def unfit_name(name: str) -> str | None:
    """Why a name that matches `NAME` is still none for a folder on every disk; None if nothing is wrong."""
    if name.split(".")[0].lower() in _DEVICES:
        return f"'{name}' is a device's name on Windows, where no folder can have it"
    return f"'{name}' ends in a dot, which Windows leaves out" if name.endswith(".") else None


def _for_every_disk(name: str) -> str:
    if why := unfit_name(name):
        raise refused(why, mend="Give it another name")
    return name


# Strict models take no list for a tuple; what stands inside stays strict.
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_none_twice)]
Name = Annotated[str, Field(pattern=NAME), AfterValidator(_for_every_disk)]
Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1), AfterValidator(_none_twice)]


class Base(Written):
    """The base model: `sandbox/base`, a local folder, or a Hub id with its revision."""

    model: str = Field(min_length=1)
    revision: str | None = None


class RecipeColumns(Written, Columns):
    """`data.Columns` as written in a recipe."""


class Calibration(Written):
    """The texts over which distances between blocks are averaged."""

    dataset: str = Field(min_length=1)
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: RecipeColumns = Field(default_factory=RecipeColumns)
    rows: int = Field(default=128, ge=1, le=MOST)
    max_tokens: int = Field(default=1024, ge=2, le=LARGEST)


class Evaluate(Written):
    """Which benchmarks score the models; `datasets` puts a folder or Hub id in place of a task's own."""

    suite: str
    tasks: Names | None = None
    limit: int | None = Field(default=None, ge=1, le=LARGEST)
    shots: dict[str, Annotated[int, Field(ge=0, le=LARGEST)]] = {}
    datasets: dict[str, str] = {}
    batch_size: int = Field(default=32, ge=1, le=LARGEST)


class Publish(Written):
    """What `factory publish` sends to the Hub; `datasets` are regenerated ones that `push` learnt from."""

    push: Names
    namespace: Annotated[str, Field(pattern=NAME)] | None = None
    license: Annotated[str, AfterValidator(spelt), Field(json_schema_extra={"pattern": FORM})] | None = None
    datasets: Annotated[
        Annotated[bool, Tag("all")] | Annotated[Names, Tag("named")],
        Discriminator(lambda value: "named" if isinstance(value, list | tuple) else "all"),
    ] = True
    private: bool = False
