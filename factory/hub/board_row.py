"""What a model's row on the leaderboard may hold, checked. Under board_rows.py.

Records come from strangers too. Numbers are plain: fractions, tokens, seconds, elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from factory.stages import Frozen

Method = Literal["base", "pruned", "SFT", "self-distilled", "merged"]


def one_line(text: Any) -> Any:
    """Names come from strangers and are printed in terminals too: no control characters, no second line."""
    if not isinstance(text, str):
        return text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


Word = Annotated[str, BeforeValidator(one_line), Field(max_length=200)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
TaskName = Annotated[str, Field(pattern=r"^[\w.:-]{1,80}$")]  # a column's name too
Finite = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**16)]


class Figure(Frozen):
    """A value, and its interval where there is one."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    value: Finite
    low: Finite | None = None
    high: Finite | None = None


class Interval(Figure):
    """A value and its 95 % interval."""

    low: Finite
    high: Finite
    n: Count | None = None


@dataclass(frozen=True)
class More:
    """A column for what only some recipes measure: where its figure stands in which step's facts.

    Attributes:
        label: its head; `title` says more.
        step: whose record has it; `{model}` stands for the model.
        path: of the figure among the facts; `{shape}` for `base` or, of all without its blocks, `pruned`.
        unit: `percent`, or `plain` for a number as it is.
        factor: what it is multiplied by.
    """

    label: str
    title: str
    step: str
    path: tuple[str, ...]
    unit: Literal["percent", "plain"] = "plain"
    factor: float = 1.0


MORE = {
    "latency": More(
        "Latency (ms)", "of each further token: median, lowest and highest round", "measure",
        ("models", "{shape}", "decode_seconds"), factor=1000,
    ),
    "kl": More("KL", "nats a token from the base, on held-out prompts", "drift/{model}", ("kl",)),
    "agreement": More(
        "Same token", "share of tokens that it and the base find likeliest", "drift/{model}",
        ("agreement",), "percent",
    ),
    "similarity": More(
        "Similarity", "mean cosine of its answers and the base's", "drift/{model}", ("similarity",)
    ),
    "acceptance": More(
        "Accepted", "share of the tokens it proposes as a draft that the target keeps, greedy",
        "draft/{model}", ("greedy", "all", "rate"), "percent",
    ),
    "speed_up": More(
        "Speed-up as draft",
        "of its target by assisted generation at its fastest K: median, least and most of the rounds",
        "draft/{model}", ("measured", "speed_up"),
    ),
}  # fmt: skip


class Score(Interval):
    """A task's score, as a fraction, with its metric and shots."""

    value: Share
    low: Share
    high: Share
    metric: Word = ""
    shots: Count = 0


class Row(Frozen):
    """A model.

    Attributes:
        key: of the evaluation; the same key is the same model with the same scores.
        name: the repository where it is published, else `<run>/<variant>`; of a base model its id.
        run: the recipe's name.
        variant: its name in the recipe, `base` or `pruned`.
        base: the base model; `revision` its commit, or the hash of its content.
        method: what was done with it; `how` says more, such as `slerp of a, b` or `lora`.
        targets: of a trained model: what its responses were.
        data: names of the datasets that it, or what it is merged from, was trained on.
        rows: how many rows these were.
        blocks: decoder blocks.
        removed: how many blocks fewer than the base; `removed_blocks` which, such as `7..9`.
        parameters: elements; `parameters_removed` the share of the base's that went.
        flops: of a forward pass for one token, attention over other tokens left out.
        suite: that scored it; `limit` documents a task or subject, where it was limited.
        apart: why its scores are shown apart, as sentences; empty where they are whole.
        scores: by task.
        average: over the tasks.
        recovery: the average / the base's.
        more: what only some recipes measure, by the names of `MORE`.
        tokens_per_second: of generating, with the lowest and highest round: its own, or that of the pruned
            model, whose shape it has; `measured_on` says where.
        repository: where it is published; `url` its page and `commit` what was read.
        evaluated: when scoring began.
        seed: the recipe's.
        factory: the version that made it.
    """

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    name: Word
    run: Word
    variant: Word
    base: Word
    revision: Word
    method: Method
    how: Word = ""
    targets: Literal["original", "self"] | None = None
    data: tuple[Word, ...] = ()
    rows: Count | None = None
    blocks: Count
    removed: Count
    removed_blocks: Word = ""
    parameters: Count
    parameters_removed: Share
    flops: Count | None = None
    suite: Word
    limit: Count | None = None
    apart: tuple[Word, ...] = ()
    scores: dict[TaskName, Score] = Field(min_length=1, max_length=100)
    average: Score
    recovery: Interval | None = None
    more: dict[str, Figure] = Field(default_factory=dict)
    tokens_per_second: Interval | None = None
    measured_on: Word = ""
    repository: Word | None = None
    url: Annotated[str, Field(pattern=r"^https?://[^\s\"'<>]+$", max_length=300)] | None = None
    commit: Word | None = None
    evaluated: Word = ""
    seed: int | None = None
    factory: Word = ""

    @model_validator(mode="after")
    def _in_order(self) -> Row:
        if taken := sorted(self.scores.keys() & {*Row.model_fields, *MORE}):
            raise ValueError(f"a task is called {taken[0]}, as a column is")
        for name, one in {**self.scores, "average": self.average}.items():
            if not one.low <= one.high:
                raise ValueError(f"the interval of {name} ends before it begins")
        return self
