"""The parts `train` and `variants` of a recipe: models that are trained, and models that are merged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from factory.data.mixture import MOST, Amounts, are_shares
from factory.nearest import suggest
from factory.recipe.library_fields import METHODS, complaint
from factory.recipe.parts import Names, Written
from factory.recipe.training import ADAPTERS, Freeze, LongRows, Loss, Method, undistilled
from factory.refused import refuse
from factory.wording import counted

Factor = Annotated[float, Field(ge=-1e6, le=1e6)]  # of weights: no merge wants more, and float32 ends
# Strict models take no list for a tuple; what stands inside stays strict.
Numbers = Annotated[tuple[Factor, ...], Field(strict=False, min_length=1)]
Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)]
Mix = Annotated[
    Annotated[Names, Tag("names")] | Annotated[Amounts, Tag("amounts")],
    Discriminator(lambda value: "amounts" if isinstance(value, dict) else "names"),
]


class Train(Written):
    """How variants are trained; `lora` and `sft` are fields of PEFT's LoraConfig and TRL's SFTConfig.

    What goes with which method is seen where all of it is known: see `recipe.py`.
    """

    method: Method = "lora"
    freeze: Freeze | None = None
    loss: Loss = "sft"
    beta: float | None = Field(default=None, ge=0, le=1)
    long_rows: LongRows = "drop"
    lora: dict[str, Any] = Field(default={})
    sft: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _library_fields(self) -> Train:
        for kind in ("lora", "sft"):
            for key, value in getattr(self, kind).items():
                if found := complaint(kind, key, value):
                    refuse("{wrong}", wrong=found[0], mend=found[1], at=f"{kind}.{key}")
        return self

    def over(self, below: Train) -> Train:
        """This one's fields laid over those of `below`, less what of them has no use with this method."""
        fields = {key: getattr(part, key) for part in (below, self) for key in part.model_fields_set}
        whole = Train(**{**fields, "lora": {**below.lora, **self.lora}, "sft": {**below.sft, **self.sft}})
        useless: dict[str, Any] = {}
        if whole.method not in ADAPTERS:
            useless["lora"] = {}
        if whole.method != "full":
            useless["freeze"] = None
        if whole.loss != "distill":
            useless["beta"] = None
        else:
            unused = undistilled(whole.sft)
            useless["sft"] = {key: value for key, value in whole.sft.items() if key not in unused}
        return whole.model_copy(update=useless)


class TrainedVariant(Written):
    """A variant fine-tuned from the pruned model; `train` overrides the recipe's `train` field by field.

    Attributes:
        data: names of datasets, all of whose rows are taken, or by name shares or numbers of rows.
        rows: beside shares, how many rows in all; without it as many as the scarcest dataset allows.
    """

    data: Mix
    rows: int | None = Field(default=None, ge=1, le=MOST)
    targets: Literal["original", "self"]
    train: Train = Train()

    @model_validator(mode="after")
    def _rows_of_shares(self) -> TrainedVariant:
        if self.rows is not None and not are_shares(self.data):
            mend = "Write `data` as shares, such as {math: 0.7, chat: 0.3}, or leave rows out"
            refuse("a variant's rows go with shares of datasets", mend=mend, at="rows")
        return self


class MergedVariant(Written):
    """A variant merged from others; the parameters are mergekit's, `weights` and `density` one per model.

    `of` names variants, `pruned`, or a model folder or Hub id of the same shape.
    """

    merge: str
    of: Names
    t: float | None = Field(default=None, ge=0, le=1)
    weights: Numbers | None = None
    density: Shares | None = None
    normalize: bool | None = None
    rescale: bool | None = None
    lambda_: Factor | None = Field(default=None, alias="lambda")

    @field_validator("merge")
    @classmethod
    def _known_method(cls, method: str) -> str:
        if method not in METHODS:
            refuse("there is no merge method '{method}'", method=method, mend=suggest(method, METHODS))
        return method

    @model_validator(mode="after")
    def _fits_method(self) -> MergedVariant:
        method, given = METHODS[self.merge], self.parameters()
        known = (*method.required, *method.optional)
        for key in method.required:
            if key not in given:
                refuse("{merge} needs '{key}'", merge=self.merge, key=key, mend=f"Add `{key}:`", at="merge")
        for key in given:
            if key not in known:
                mend = f"Remove it; {self.merge} takes {', '.join(known)}"
                refuse("{merge} has no parameter '{key}'", merge=self.merge, key=key, mend=mend, at=key)
        count = len(self.of)
        if (method.models is not None and count != method.models) or count < 2:
            wanted = f"exactly {method.models}" if method.models else "two or more"
            what = "{merge} takes {wanted} models, `of` names {count}"
            refuse(what, merge=self.merge, wanted=wanted, count=count, mend="Correct the list", at="of")
        for key in ("weights", "density"):
            if key in given and len(given[key]) != count:
                what = "{key} has {length} for {count} models"
                mend = "Give one number a model, in the order of `of`"
                refuse(
                    what, key=key, length=counted(len(given[key]), "number"), count=count, mend=mend, at=key
                )
        weights = given.get("weights", [1])
        if not any(weights):
            refuse("all weights are 0", mend="Give one of them a weight", at="weights")
        if self.merge == "linear" and self.normalize is not False and abs(sum(weights)) < 1e-8:
            mend = "Change them, or set `normalize: false`"
            refuse("the weights add up to 0, and linear divides by their sum", mend=mend, at="weights")
        return self

    def parameters(self) -> dict[str, Any]:
        """The parameters that are written, by mergekit's names (per-model ones as lists)."""
        written = self.model_dump(by_alias=True, exclude_none=True, exclude={"merge", "of"})
        return {key: list(value) if isinstance(value, tuple) else value for key, value in written.items()}


def _variant_kind(value: Any) -> str:
    # With `of`, a merge is meant, even where `merge` is misspelt.
    if isinstance(value, MergedVariant) or (isinstance(value, dict) and {"merge", "of"} & value.keys()):
        return "merged"
    return "trained"


Variant = Annotated[
    Annotated[TrainedVariant, Tag("trained")] | Annotated[MergedVariant, Tag("merged")],
    Discriminator(_variant_kind),
]
