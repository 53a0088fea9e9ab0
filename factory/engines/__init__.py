"""Text generation behind one small interface, so that regeneration does not know who generates.

Regeneration builds `Request`s, opens an engine with `load` and reads `Generated`s as they are finished,
in any order. What a request gives depends on the model, its own messages and its own seed, never on the
requests beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

NAMES = ("transformers",)


@dataclass(frozen=True)
class Request:
    """One chat that waits for the assistant's turn.

    Attributes:
        id: the caller's number for it, handed back with the result.
        messages: chat messages, {"role", "content"}; the engine renders the model's own chat template.
        seed: of this request's sampling; without effect at temperature 0.
    """

    id: int
    messages: tuple[dict[str, str], ...]
    seed: int = 0


@dataclass(frozen=True)
class Generated:
    """One finished request.

    Attributes:
        id: of its `Request`.
        text: what was generated, without special tokens, white space untouched.
        finish: "stop" where the model ended its turn; "length" where it ran out of tokens.
        prompt_tokens: length of the rendered prompt.
        new_tokens: tokens generated, the stop token included.
    """

    id: int
    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Sampling:
    """How tokens are picked: the most likely one at temperature 0, else drawn from softmax(logits / t).

    Nothing of the model's generation config but its stop tokens is used: what is not said here, such as
    top-p or a repetition penalty, is not done.
    """

    max_new_tokens: int
    temperature: float = 0.0


class Engine(Protocol):
    """What generates."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Generated]:
        """Every request once, in the order in which they happen to finish."""


def load(name: str, model: Path, batch_size: int) -> Engine:
    """Opens an engine on a model folder.

    Args:
        name: one of `NAMES`.
        model: a stock Hugging Face folder with a chat template.
        batch_size: the most requests in work at once.

    Raises:
        KeyError: there is no such engine.
        FactoryError: the folder cannot be loaded, or has no chat template.
    """
    if name not in NAMES:
        raise KeyError(name)
    from factory.engines.transformers import TransformersEngine

    return TransformersEngine(model, batch_size)
