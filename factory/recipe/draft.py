"""The part `draft` of a recipe: which models are tried as drafts, of what target, on which prompts.

Beside parts.py; recipe.py puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from factory import prompts as templates
from factory.data.mixture import MOST
from factory.drafts import ALL
from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.parts import LARGEST, Base, Name, Names, RecipeColumns, Written
from factory.refused import refused

TEXT = "text"
_ONE_BY_ONE = (
    "Leave it out: assisted generation decodes one sequence at a time, and acceptance is read in batches as "
    "large as fit"
)


def _known_kind(kind: str) -> str:
    if kind not in (TEXT, *templates.KINDS):
        raise refused(f"there is no prompt '{kind}'", mend=suggest(kind, [TEXT, *templates.KINDS]))
    return kind


PromptKind = Annotated[str, AfterValidator(_known_kind)]


class PromptSet(Written):
    """Prompts: `of` a dataset of the recipe, or of one named as in `datasets`.

    Attributes:
        of: a dataset of the recipe; its responses are taken over where the base wrote them greedily without
            sight of the reference.
        prompt: as of a dataset, or `text`: the beginnings of plain texts, to be gone on with.
        rows: how many: of a dataset of the recipe and of `text` the first, else drawn as `drift` draws.
        prompt_tokens: of `text`, how long the beginning is.
    """

    of: str | None = None
    id: str | None = Field(default=None, min_length=1)
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    prompt: PromptKind | None = None
    rows: int = Field(default=100, ge=1, le=MOST)
    skip_empty: bool = False
    columns: RecipeColumns = Field(default_factory=RecipeColumns)
    prompt_tokens: int = Field(default=32, ge=1, le=LARGEST)

    @model_validator(mode="after")
    def _one_source(self) -> PromptSet:
        # What a run keeps of its recipe names every key: one with its default's value is as good as left out.
        fields = PromptSet.model_fields.items()
        defaults = {key: field.get_default(call_default_factory=True) for key, field in fields}
        written = {key for key in self.model_fields_set if getattr(self, key) != defaults[key]}
        own = written - {"of", "rows"}
        if (self.of is None) == (self.id is None):
            mend = "Write `of: <dataset of the recipe>` or `id: <folder or Hub id>`"
            raise _refused("prompts come from one dataset", mend, at="of" if self.of is not None else "")
        if self.of is not None and own:
            key = sorted(own)[0]
            mend = "Leave it out: it is read as the recipe's dataset is"
            raise _refused(f"'{key}' has no place beside `of`", mend, at=key)
        if self.id is not None and self.prompt is None:
            raise _refused("prompts need a kind", "Add `prompt: instruct`, math, chat or text", at="id")
        if "prompt_tokens" in written and self.prompt != TEXT:
            raise _refused("prompt_tokens goes with `prompt: text`", "Leave it out", at="prompt_tokens")
        return self


class Draft(Written):
    """Speculative decoding: what models are worth as drafts of a target.

    Attributes:
        target: the model that is to decode faster; None for the recipe's base.
        models: what is tried; None for the pruned model and every variant.
        prompts: sets of prompts by name.
        max_new_tokens: the longest response.
        temperature: of the sampled responses.
        timed: how many prompts are decoded with and without each draft.
        rounds: how often.
    """

    target: Base | None = None
    models: Names | None = None
    prompts: Annotated[dict[Name, PromptSet], Field(min_length=1)]
    max_new_tokens: int = Field(default=128, ge=2, le=LARGEST)
    temperature: float = Field(default=1.0, gt=0, le=2)
    timed: int = Field(default=12, ge=1, le=100)
    rounds: int = Field(default=3, ge=1, le=20)

    @model_validator(mode="before")
    @classmethod
    def _no_batch(cls, data: Any) -> Any:
        if isinstance(data, dict) and "batch_size" in data:
            raise _refused("draft has no batch_size", _ONE_BY_ONE, at="batch_size")
        return data

    @model_validator(mode="after")
    def _no_all(self) -> Draft:
        if ALL in self.prompts:
            what = f"a set of prompts cannot be called '{ALL}': that is all of them together"
            raise _refused(what, "Give it another name", at=f"prompts.{ALL}")
        return self

    def tried(self, variants: Collection[str]) -> tuple[str, ...]:
        """The models that are tried, in order."""
        return self.models if self.models is not None else ("pruned", *variants)

    def check_names(
        self, variants: Collection[str], datasets: Collection[str], where: Callable[..., str]
    ) -> None:
        """Refuses models and datasets that the recipe does not have.

        Args:
            variants: of the recipe.
            datasets: of the recipe.
            where: gives `file:line` of a key.

        Raises:
            FactoryError: the first unknown name, or the base as a draft of itself.
        """
        for i, name in enumerate(self.models or ()):
            place = where("draft", "models", i)
            if name == "base" and self.target is None:
                what = "the base cannot be a draft of itself"
                raise FactoryError(what, where=place, mend="Name `pruned` or variants, or another `target`")
            if name not in (*variants, "pruned", "base"):
                what = f"draft.models names an unknown variant '{name}'"
                raise FactoryError(what, where=place, mend=suggest(name, [*variants, "pruned"]))
        for name, prompts in self.prompts.items():
            if prompts.of is not None and prompts.of not in datasets:
                what = f"draft.prompts.{name} is of an unknown dataset '{prompts.of}'"
                place = where("draft", "prompts", name, "of")
                raise FactoryError(what, where=place, mend=suggest(prompts.of, datasets))


def _refused(what: str, mend: str, at: str = "") -> PydanticCustomError:
    return PydanticCustomError("refused", "{what}", {"what": what, "mend": mend, "at": at})
