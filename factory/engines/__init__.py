"""Text generation behind one small interface, so that regeneration does not know who generates.

Regeneration streams `Request`s into an engine and reads `Generated`s as they are finished, in any order.
What a request gives depends on the model, its own messages and its own seed, never on the requests beside
it. No engine holds more than a window of requests, so memory is bounded by the batch, not the dataset.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from factory.errors import FactoryError

NAMES = ("transformers", "vllm", "openai")
Name = Literal["transformers", "vllm", "openai"]


@dataclass(frozen=True)
class Request:
    """One chat that waits for the assistant's turn, or tokens that wait for more.

    Attributes:
        id: the caller's number for it, handed back with the result.
        messages: chat messages, {"role", "content"}; the engine renders the model's own chat template.
        seed: of this request's sampling; without effect at temperature 0.
        prompt: token ids in place of `messages`, for engines that run a model folder themselves.
    """

    id: int
    messages: tuple[dict[str, str], ...] = ()
    seed: int = 0
    prompt: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One finished request.

    Attributes:
        id: of its `Request`.
        text: what was generated, without special tokens, white space untouched.
        finish: "stop" where the model ended its turn; "length" where it ran out of tokens.
        prompt_tokens: length of the rendered prompt.
        new_tokens: tokens generated, the stop token included.
        logprob: sum of the log-probabilities (nats) of those tokens under the model itself, whatever the
            temperature; None where a server does not tell.
        tokens: those tokens' ids, where the request was tokens. Text and tokens do not determine each other.
    """

    id: int
    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int
    logprob: float | None = None
    tokens: tuple[int, ...] = ()

    @property
    def mean_logprob(self) -> float | None:
        """Nats a token; None where nothing was generated or the server does not tell."""
        return None if self.logprob is None or not self.new_tokens else self.logprob / self.new_tokens


@dataclass(frozen=True)
class Answered:
    """A chat with the assistant's turn in it, whose likelihood is asked for.

    Attributes:
        id: the caller's number for it, handed back with the result.
        messages: as in `Request`.
        response: the assistant's turn.
    """

    id: int
    messages: tuple[dict[str, str], ...]
    response: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are picked: the most likely one at temperature 0, else drawn from softmax(logits / t).

    Nothing of the model's generation config but its stop tokens is used: what is not said here, such as
    top-p or a repetition penalty, is not done.
    """

    max_new_tokens: int
    temperature: float = 0.0


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server.

    Attributes:
        url: what its paths start from, such as `http://localhost:8000/v1`.
        model: the name it serves the model under.
        api_key_env: the environment variable that holds the API key; None where none is wanted. The key
            itself is never written down.
        timeout: seconds that one answer may take.
    """

    url: str
    model: str
    api_key_env: str | None = None
    timeout: float = 600.0


class Engine(Protocol):
    """What generates."""

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Generated]:
        """Every request once, in the order in which they happen to finish.

        Requests are drawn a window at a time, so what was read from the results may decide what the
        iterable gives next.
        """

    def likelihoods(self, chats: Iterable[Answered]) -> Iterator[tuple[int, float]]:
        """Each chat's id and the mean log-probability, in nats a token, of its response and its end.

        -inf for a chat that the model has no room for.

        Raises:
            FactoryError: the engine cannot tell.
        """


def refuse_missing(name: str, server: Server | None = None) -> None:
    """Refuses an engine that cannot work here, as far as that shows without loading anything.

    Args:
        name: one of `NAMES`.
        server: of the engine `openai`.

    Raises:
        FactoryError: vLLM is not installed, or the variable that should hold the server's key is not set.
    """
    if name == "vllm" and importlib.util.find_spec("vllm") is None:
        raise vllm_missing("No module named 'vllm'")
    if server and server.api_key_env and not os.environ.get(server.api_key_env):
        what = f"the environment variable {server.api_key_env}, which should hold its key, is not set"
        raise FactoryError(what, where="regenerate.server", mend="Set it, or leave api_key_env out")


def vllm_missing(reason: str) -> FactoryError:
    """What is said where vLLM does not load."""
    return FactoryError(
        f"the engine 'vllm' cannot be loaded ({reason})",
        where="regenerate.engine",
        mend="Install it with `pip install model-factory[vllm]` on a machine with a GPU, or take "
        "the engine transformers or openai",
    )


def load(name: str, model: Path, batch_size: int | None = None, server: Server | None = None) -> Engine:
    """Opens an engine on a model folder.

    Args:
        name: one of `NAMES`.
        model: a stock Hugging Face folder with a chat template; of it `openai` reads no weights.
        batch_size: the most requests in work at once; None leaves it to the engine.
        server: of the engine `openai`.

    Raises:
        KeyError: there is no such engine.
        FactoryError: the folder cannot be loaded or has no chat template, the engine is not installed, or
            the server's key is not there.
    """
    if name == "transformers":
        from factory.engines.transformers import TransformersEngine

        return TransformersEngine(model, batch_size)
    if name == "vllm":
        from factory.engines.vllm import VllmEngine

        return VllmEngine(model, batch_size)
    if name == "openai":
        from factory.engines.openai import OpenAIEngine

        if server is None:
            mend = "Add `server: {url: http://localhost:8000/v1, model: <its name there>}`"
            raise FactoryError("the engine 'openai' needs a server", where="regenerate", mend=mend)
        return OpenAIEngine(server, model, batch_size)
    raise KeyError(name)
