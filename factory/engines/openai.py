"""The `openai` engine: any OpenAI-compatible server (vllm serve, TGI, transformers serve), for regeneration.

A bounded number of chats is at the server at once, and the next is sent as one comes back. What passes by
(no connection, time-outs, 429, 5xx, an answer that is none) is tried again with growing pauses; what would
only fail again, or still fails then, is one line that says what to mend.

The server renders the chat template and applies its own defaults to what a request does not say. It should
serve the recipe's base, whose folder tells how long prompts are and how much room they leave: some servers
write on past a model's last position without a word. `transformers serve` ignores a temperature above 0
unless the model's generation config samples, so there every sample is the greedy one, and calls a response
cut off whose stop token is the last that it may have (seen with 5.23).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import tenacity
from pydantic import BaseModel, Field, ValidationError

from factory.engines import Answered, Generated, Request, Sampling, Server, refuse_missing
from factory.engines.chats import Chats
from factory.errors import FactoryError

CONCURRENCY = 32
ATTEMPTS = 6
LONGEST_PAUSE = 60.0  # seconds, also of what a server asks for
CONNECT = 10.0  # seconds
KEPT = "Run the same command again then: rows already written are kept"

_PASSING = frozenset({408, 409, 425, 429})
_WHOLE = frozenset({"stop", "eos_token", "stop_sequence"})  # the latter two are TGI's
_TOO_LONG = re.compile(
    r"context_length|(?:maximum )?context length|maximum (?:model|input) length", re.IGNORECASE
)


class _Token(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """The parts of a chat completion that are used."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage = _Usage()


class _Passing(Exception):  # noqa: N818 - not an error yet
    """Something that may go well the next time: what to say if it never does, and when to try again."""

    def __init__(self, final: FactoryError, after: float | None = None) -> None:
        super().__init__(str(final))
        self.final, self.after = final, after


class OpenAIEngine:
    """An `Engine` over HTTP."""

    def __init__(
        self, server: Server, folder: Path, batch_size: int | None = None, pause: float = 1.0
    ) -> None:
        """Asks the server whether it is there.

        Args:
            server: where it is.
            folder: the model it serves, of which tokenizer and configs are read.
            batch_size: the most chats at the server at once.
            pause: seconds before a chat is sent a second time; doubled each time.

        Raises:
            FactoryError: it cannot be reached, the key is not set or is refused, or the folder has no chat
                template or stop token.
        """
        self.chats = Chats(folder)
        self.server, self.concurrency, self.pause = server, batch_size or CONCURRENCY, pause
        headers = {}
        refuse_missing("openai", server)
        self._key = os.environ[server.api_key_env] if server.api_key_env else ""
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx2.Limits(max_connections=self.concurrency)
        timeout = httpx2.Timeout(server.timeout, connect=min(CONNECT, server.timeout))
        self._client = httpx2.Client(headers=headers, limits=limits, timeout=timeout)
        self._logprobs = True
        self._stop = threading.Event()
        self.models()

    def models(self) -> list[str]:
        """The names under which the server says it serves models; none where it does not say.

        Raises:
            FactoryError: it cannot be reached, or refuses the key.
        """
        try:
            answer = self._client.get(f"{self.server.url}/models", timeout=min(CONNECT, self.server.timeout))
        except httpx2.TimeoutException:
            return []  # it is there, and busy
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if answer.status_code in (401, 403):
            raise self._refusal(answer)
        try:
            return [str(model["id"]) for model in answer.json()["data"]]
        except (ValueError, LookupError, TypeError):
            return []

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Generated]:
        """See `factory.engines.Engine`. A prompt that leaves no room gives "" and finish "length".

        Raises:
            FactoryError: a chat got no answer, with what to mend.
        """
        source = iter(requests)
        self._stop.clear()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="chat")
        try:
            working: set[Future[Generated]] = set()
            while True:
                for request in islice(source, self.concurrency - len(working)):
                    length = len(prompt := self.chats.prompt(request.messages))
                    if (room := self.chats.room(prompt, sampling.max_new_tokens)) > 0:
                        one = replace(sampling, max_new_tokens=room)
                        working.add(pool.submit(self._one, request, one))
                    else:
                        yield Generated(request.id, "", "length", length, 0)
                if not working:
                    return
                done, working = wait(working, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            self._stop.set()  # wakes those that wait to try again
            pool.shutdown(wait=False, cancel_futures=True)

    def likelihoods(self, chats: Iterable[Answered]) -> Iterator[tuple[int, float]]:
        """Not to be had over this interface.

        Raises:
            FactoryError: always.
        """
        what = "a server does not tell how likely a given response is"
        raise FactoryError(what, where="regenerate.select", mend="Use the engine transformers or vllm")

    def _one(self, request: Request, sampling: Sampling) -> Generated:
        """One chat, sent as often as it takes."""

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.after if isinstance(error, _Passing) else None
            return growing(state) if asked is None else min(asked, LONGEST_PAUSE)

        growing = tenacity.wait_random_exponential(multiplier=2 * self.pause, max=LONGEST_PAUSE)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_when_event_set(self._stop),
            wait=pause,
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            return retrying(self._ask, request, sampling)
        except _Passing as error:
            raise error.final from error

    def _ask(self, request: Request, sampling: Sampling) -> Generated:
        """Sends a chat once."""
        body: dict[str, Any] = {
            "model": self.server.model,
            "messages": list(request.messages),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            body |= {"seed": request.seed, "top_p": 1.0}
        if self._logprobs:
            body["logprobs"] = True
        try:
            answer = self._client.post(f"{self.server.url}/chat/completions", json=body)
        except httpx2.TimeoutException as error:
            what = f"the server gave no answer within {self.server.timeout:g} s, {ATTEMPTS} times"
            mend = f"Raise regenerate.server.timeout or lower batch_size. {KEPT}"
            raise _Passing(FactoryError(what, where=self.server.url, mend=mend)) from error
        except httpx2.TransportError as error:
            raise _Passing(self._unreachable(error)) from error
        if answer.status_code in _PASSING or answer.status_code >= 500:
            raise _Passing(self._trouble(answer), _seconds(answer.headers.get("Retry-After")))
        if answer.status_code != 200:
            detail = self._detail(answer)
            if _TOO_LONG.search(detail):
                return Generated(request.id, "", "length", 0, 0)
            if "logprobs" in body and "logprob" in detail.lower():
                self._logprobs = False  # not every server knows them
                return self._ask(request, sampling)
            raise self._refusal(answer)
        return self._read(request, answer)

    def _read(self, request: Request, answer: httpx2.Response) -> Generated:
        try:
            completion = _Completion.model_validate_json(answer.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            missing = place == "choices" and first["type"] in ("missing", "too_short")
            what = (
                "the server's answer holds no choice, where one was asked for"
                if missing
                else f"the server's answer is no chat completion ({place}: {first['msg']})"
            )
            mend = f"See that the address leads to an OpenAI-compatible server. {KEPT}"
            raise _Passing(FactoryError(what, where=self.server.url, mend=mend)) from error
        choice, usage = completion.choices[0], completion.usage
        tokens = choice.logprobs.content if choice.logprobs else None
        return Generated(
            request.id,
            choice.message.content or "",
            "stop" if choice.finish_reason in _WHOLE else "length",
            usage.prompt_tokens,
            usage.completion_tokens,
            sum(token.logprob for token in tokens) if tokens else None,
        )

    # ------------------------------------------------------------ what went wrong

    def _unreachable(self, error: Exception) -> FactoryError:
        what = f"the server cannot be reached ({self._said(error) or type(error).__name__})"
        return FactoryError(what, where=self.server.url, mend=f"Start it, or correct its address. {KEPT}")

    def _trouble(self, answer: httpx2.Response) -> FactoryError:
        """What is said when a server keeps failing."""
        detail = self._detail(answer)
        if answer.status_code == 429:
            what, mend = "the server still wants fewer requests", "Lower regenerate.batch_size, or wait"
        else:
            what, mend = "the server keeps failing", "Look into its log"
        what = f"{what} after {ATTEMPTS} tries ({answer.status_code}{detail and f': {detail}'})"
        return FactoryError(what, where=self.server.url, mend=f"{mend}. {KEPT}")

    def _refusal(self, answer: httpx2.Response) -> FactoryError:
        """What would only be refused again."""
        status, detail = answer.status_code, self._detail(answer)
        told = f" ({status}{detail and f': {detail}'})"
        if status in (401, 403):
            variable = self.server.api_key_env
            key = f"the key in {variable}" if variable else "a request without a key"
            mend = (
                "Put a valid key into it"
                if variable
                else "Name the variable that holds one: `api_key_env: ..`"
            )
            return FactoryError(f"the server refuses {key}{told}", where=self.server.url, mend=mend)
        if status == 404 or "model" in detail.lower() or self.server.model in detail:
            names = self.models()
            mend = "Correct regenerate.server.model or its url" + (
                f"; it serves {', '.join(names[:8])}" if names else ""
            )
            what = f"the server does not serve '{self.server.model}' there{told}"
            return FactoryError(what, where=self.server.url, mend=mend)
        return FactoryError(f"the server refuses the request{told}", where=self.server.url, mend="Correct it")

    def _detail(self, answer: httpx2.Response) -> str:
        """What an answer says about its failure, in one line and without the key."""
        try:
            said: Any = answer.json()
        except ValueError:
            said = answer.text
        for name in ("error", "detail", "message"):
            if isinstance(said, dict) and name in said:
                said = said[name]
        if isinstance(said, dict):
            said = said.get("message", said)
        return self._said(said)

    def _said(self, said: object) -> str:
        text = " ".join(str(said).split()).rstrip(".")
        if self._key:
            text = text.replace(self._key, "<key>")
        return text if len(text) <= 200 else text[:197] + "..."


def _seconds(header: str | None) -> float | None:
    """A Retry-After header that tells seconds; dates are not read."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
