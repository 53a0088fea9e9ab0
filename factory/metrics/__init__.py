"""How much blocks matter: the measures that a recipe may name, one table. Under stages/importance.py.

    batches.py  texts as batches of like length      streams.py  measures of the hidden states
    choice.py   from figures to the blocks that go   losses.py   measures of the loss

A measure is a function of (model, its blocks, texts, progress) that gives figures: of shape `pairs` for
every run of blocks, of shape `blocks` one for every block, of shape `order` a sequence of removals. The
less, the sooner a block goes. Nothing heavy is loaded here: the recipe reads the names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Name = Literal["angular", "angular_tokens", "block_influence", "perplexity", "perplexity_iterative", "taylor"]
Shape = Literal["pairs", "blocks", "order"]


@dataclass(frozen=True)
class Metric:
    """One measure.

    Attributes:
        function: its place, as `module.function` of this package.
        shape: what its figures are of.
        title: what it is called in a sentence, without an article.
        unit: of its figures; empty where they have none.
        head: whether it needs the language-model head, which costs memory for the logits.
        batch_tokens: bound on the tokens of a batch, padding included.
    """

    function: str
    shape: Shape
    title: str
    unit: str = ""
    head: bool = False
    batch_tokens: int = 8192

    def load(self) -> Callable[..., dict[str, Any]]:
        """The function itself."""
        module, _, name = self.function.partition(".")
        found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return found


METRICS: Mapping[str, Metric] = {
    "angular": Metric(
        "streams.angular", "pairs", "mean angular distance at the last token", "half turns"
    ),
    # All states of a batch are held at once.
    "angular_tokens": Metric(
        "streams.angular_tokens", "pairs", "mean angular distance over all tokens", "half turns",
        batch_tokens=2048,
    ),
    "block_influence": Metric("streams.block_influence", "blocks", "Block Influence"),
    "perplexity": Metric("losses.perplexity", "blocks", "increase of perplexity", head=True),
    "perplexity_iterative": Metric(
        "losses.perplexity_iterative", "order", "increase of perplexity", head=True
    ),
    "taylor": Metric("losses.taylor", "blocks", "Taylor score", "nats", head=True, batch_tokens=2048),
}  # fmt: skip
