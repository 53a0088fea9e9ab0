"""What is known of a plan's models and datasets before any step is made: under the estimates of the stages.

Of a model its config, of a dataset its first rows or its card. What is assumed beside that is noted, so that
`factory plan` can say it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from factory.data.rows import TextSpec
from factory.errors import FactoryError
from factory.models.known_sizes import sizes_of
from factory.models.sizes import ELEMENT_BYTES, Sizes
from factory.plan.costs.rows import CHARACTERS, Rows, rows_of, text_tokens
from factory.plan.plan import Plan, Ref, Step
from factory.sources import Source, config_of

Device = Literal["cuda", "cpu"]
DTYPE = {"cuda": "bfloat16", "cpu": "float32"}  # what weights are loaded as
STORED = "bfloat16"
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")  # as config.json calls a hidden state's length
TRAFFIC = 40  # elements as long as the hidden state that a block writes and reads for a token; about
RESERVE = 1_000_000_000  # bytes of CUDA itself and of what lies between tensors
PACK = 1024  # tokens of a row that is trained, unless `max_length` says otherwise


@dataclass(frozen=True)
class Model:
    """A model as an estimate sees it.

    Attributes:
        sizes: what it weighs and a token costs.
        width: of its hidden state.
        dtype: of its weights in memory, as torch calls it.
    """

    sizes: Sizes
    width: int
    dtype: str

    @property
    def blocks(self) -> int:
        """How many it has."""
        return len(self.sizes.blocks)

    @property
    def vocabulary(self) -> float:
        """Logits of a token, about."""
        return self.sizes.embeddings / self.width

    @property
    def weights(self) -> float:
        """Bytes of its weights in memory."""
        return float(self.sizes.checkpoint_bytes(self.dtype))

    @property
    def stored(self) -> float:
        """Bytes on the disk, where the base's own type stays: the usual one."""
        return float(self.sizes.checkpoint_bytes(STORED))

    def cache(self, context: float) -> float:
        """Bytes of keys and values behind so many tokens of one sequence."""
        return float(self.sizes.cache_bytes(int(context), self.dtype))

    def traffic(self, tokens: float) -> float:
        """Bytes that so many tokens have blocks write and read besides weights: what binds narrow models."""
        return tokens * self.blocks * TRAFFIC * self.width * ELEMENT_BYTES[self.dtype]

    def activations(self, tokens: float, scored: float | None = None) -> float:
        """Bytes beside weights: a state a block and token, one block's insides, logits, and the reserve.

        Args:
            tokens: at once.
            scored: of the tokens, how many have logits; None for all.
        """
        states = 2 * tokens * self.width * self.blocks + 40 * tokens * self.width
        logits = tokens if scored is None else scored
        return RESERVE + states + 10 * logits * self.vocabulary


@dataclass
class Known:
    """A plan's models and datasets.

    Attributes:
        plan: of a recipe or a sweep.
        device: what its steps run on.
        assumed: sentences, in the order in which they were needed.
    """

    plan: Plan
    device: Device = "cuda"
    assumed: dict[str, None] = field(default_factory=dict)
    _rows: dict[Any, Rows] = field(default_factory=dict)
    _models: dict[str, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._steps = {step.name: step for step in self.plan.steps}
        base = next(step.inputs["base"] for step in self.plan.steps if step.stage == "importance")
        if not isinstance(base, Source):
            raise FactoryError("this plan has no base model")
        self.base = self._found(base)
        self._tokens = _counter(base)

    def assume(self, sentence: str) -> None:
        """Notes what is not known."""
        self.assumed[sentence] = None

    def above(self, place: Ref | Source) -> Step:
        """The step that makes an input.

        Raises:
            FactoryError: it comes from outside.
        """
        if isinstance(place, Source):
            raise FactoryError(f"no step makes '{place.reference}'")
        return self._steps[place.step]

    def model(self, place: Ref | Source, step: Step) -> Model:
        """A model that a step reads: one from outside, or one of the pruned model's shape."""
        return self._found(place) if isinstance(place, Source) else self.pruned(step)

    def pruned(self, step: Step) -> Model:
        """The pruned model of a step's point: of blocks that are yet to be chosen the last ones go."""
        drop, count = self._drop(step), self.base.blocks
        gone = drop if isinstance(drop, tuple) else range(count - drop, count)
        return replace(self.base, sizes=self.base.sizes.without(tuple(gone)))

    def rows(self, step: Step, role: str, spec: TextSpec) -> Rows:
        """The rows behind an input: of a regenerated or curated one, those it is made from, as many."""
        place, reads, most = step.inputs[role], spec, spec.rows
        while isinstance(place, Ref):
            above = self._steps[place.step]
            reads = above.settings.data  # type: ignore[attr-defined]
            counts = [rows for rows in (most, reads.rows) if rows is not None]
            most = min(counts, default=None)
            place = above.inputs["data"]
        key = (place.reference, place.fingerprint, reads.config, reads.split)
        if key not in self._rows:
            name = role.partition(".")[2] or step.name.partition("/")[2]
            self._rows[key] = rows_of(place, reads, name, self._tokens)
        found = self._rows[key]
        if found.assumed:
            self.assume(found.assumed)
        return replace(found, rows=found.first(most))

    def text_tokens(self, step: Step, role: str, spec: TextSpec, most: int) -> float:
        """Tokens of a mean text that a step reads, none of more than `most`."""
        place, longest = step.inputs[role], min(most, self.base.sizes.positions or most)
        if isinstance(place, Source):
            found = text_tokens(place, spec, longest, self._tokens)
            if found is not None:
                return found
        self.assume(f"texts of {spec.name} fill their {longest:,} tokens")
        return longest

    def _found(self, source: Source) -> Model:
        key = f"{source.reference} {source.fingerprint}"
        if key not in self._models:
            config = config_of(source)
            width = next((config[key] for key in WIDTHS if isinstance(config.get(key), int)), 4096)
            self._models[key] = Model(sizes_of(config, Path(source.reference)), width, DTYPE[self.device])
        return self._models[key]

    def _drop(self, step: Step) -> int | tuple[int, ...]:
        for point in self.plan.points:
            if any((own.stage, own.key) == (step.stage, step.key) for own in point.plan.steps):
                return point.plan.recipe.prune.drop
        return self.plan.recipe.prune.drop


def _counter(base: Source) -> Callable[[str], float]:
    """How many tokens a text is: by a tokenizer at hand, else as English mostly is."""
    file = base.path / "tokenizer.json" if base.path else None
    if file is not None and file.is_file():
        from tokenizers import Tokenizer

        with contextlib.suppress(Exception):  # the tokenizers package raises no class of its own
            encode = Tokenizer.from_file(str(file)).encode
            return lambda text: len(encode(text, add_special_tokens=False).ids)
    return lambda text: len(text) / CHARACTERS
