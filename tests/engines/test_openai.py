"""The openai engine against servers that misbehave: what passes is tried again, what does not is one line."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import running, serve_faults

from factory import sandbox
from factory.engines import Answered, Generated, Request, Sampling, Server, load
from factory.engines.openai import ATTEMPTS, OpenAIEngine
from factory.errors import FactoryError


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(serve_faults(), tmp_path_factory.mktemp("faults") / "log") as url:
        yield url


def requests(count: int) -> list[Request]:
    return [Request(i, ({"role": "user", "content": f"say {i}"},), 40 + i) for i in range(count)]


def engine(url: str, how: str, **more: Any) -> OpenAIEngine:
    batch, pause = more.pop("batch_size", 4), more.pop("pause", 0.01)
    server = Server(f"{url}/{how}/v1", **{"model": "the-base", **more})
    return OpenAIEngine(server, sandbox.model_folder(), batch, pause)


def generate(url: str, how: str, count: int = 6, **more: Any) -> dict[int, Generated]:
    temperature = more.pop("temperature", 0.0)
    results = list(engine(url, how, **more).generate(iter(requests(count)), Sampling(7, temperature)))
    assert len(results) == count
    return {result.id: result for result in results}


def counted(url: str, how: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/{how}/count", timeout=5) as answer:
        return dict(json.load(answer))


def test_every_chat_is_answered_under_its_own_number(faults: str) -> None:
    results = generate(faults, "plain", 50)
    assert {id: result.text for id, result in results.items()} == {i: f"say {i}!" for i in range(50)}
    assert results[0] == Generated(0, "say 0!", "stop", 3, 2, -2.0)


def test_no_more_chats_are_at_the_server_than_told(faults: str) -> None:
    drawn = 0

    def source() -> Iterator[Request]:
        nonlocal drawn
        for request in requests(40):
            drawn += 1
            yield request

    results = engine(faults, "crowd", batch_size=3).generate(source(), Sampling(7))
    next(results)
    assert drawn <= 6
    assert len(list(results)) == 39
    assert 1 < counted(faults, "crowd")["most"] <= 3


def test_seed_and_temperature_are_sent_where_they_count(faults: str) -> None:
    greedy = json.loads(generate(faults, "echo")[2].text)
    drawn = json.loads(generate(faults, "echo", temperature=0.5)[2].text)
    assert greedy == {"seed": None, "temperature": 0.0, "max_tokens": 7}
    assert drawn == {"seed": 42, "temperature": 0.5, "max_tokens": 7}


@pytest.mark.parametrize("how", ["busy-at-first", "broken-at-first"])
def test_what_passes_is_tried_again(faults: str, how: str) -> None:
    assert len(generate(faults, how)) == 6
    assert counted(faults, how)["seen"] == 10


def test_a_server_that_knows_no_logprobs_is_asked_without(faults: str) -> None:
    assert len(generate(faults, "no-logprobs")) == 6


def test_a_prompt_that_is_too_long_is_a_failure_of_its_row_only(faults: str) -> None:
    long = Request(0, ({"role": "user", "content": "x" * 30},))
    results = list(engine(faults, "too-long").generate([long, *requests(3)[1:]], Sampling(7)))
    assert {result.id: result.finish for result in results} == {0: "length", 1: "stop", 2: "stop"}


def test_a_prompt_that_fills_the_model_is_not_sent(faults: str) -> None:
    served = engine(faults, "full")
    long = Request(0, ({"role": "user", "content": "well " * 3000},))
    [result] = served.generate([long], Sampling(7))
    assert (result.text, result.finish, result.new_tokens) == ("", "length", 0)
    assert result.prompt_tokens > 1000
    assert counted(faults, "full")["seen"] == 0


def test_an_answer_that_was_held_back_is_not_whole(faults: str) -> None:
    assert {result.finish for result in generate(faults, "filtered").values()} == {"length"}


REFUSALS = {
    "429": ["still wants fewer requests after 6 tries (429: slow down)", "batch_size"],
    "500": ["keeps failing after 6 tries (500: CUDA error)", "Look into its log"],
    "404": ["does not serve 'the-base' there (404: The model", "it serves the-base, another"],
    "401": ["refuses a request without a key (401: Incorrect API key", "api_key_env"],
    "bad-request": ["refuses the request (400: temperature is out of range)"],
    "no-choices": ["holds no choice, where one was asked for"],
    "page": ["no chat completion", "OpenAI-compatible"],
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_failure_is_one_line_with_its_mend(faults: str, how: str) -> None:
    before = counted(faults, how)["seen"]
    with pytest.raises(FactoryError) as caught:
        generate(faults, how, 1)
    message = str(caught.value)
    assert message.startswith(f"{faults}/{how}/v1: ")
    assert "\n" not in message
    assert all(words in message for words in REFUSALS[how]), message
    passing = how in ("429", "500", "no-choices", "page")
    assert counted(faults, how)["seen"] - before == (ATTEMPTS if passing else 1)


def test_a_failure_ends_the_other_chats(faults: str) -> None:
    """Those that wait to be sent again wait no longer."""
    with pytest.raises(FactoryError, match="404"):
        generate(faults, "mixed", 20, batch_size=8, pause=40)
    for thread in threading.enumerate():
        if thread.name.startswith("chat"):
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_a_server_that_takes_too_long_is_told(faults: str) -> None:
    with pytest.raises(FactoryError, match=r"no answer within 0.1 s, 6 times.*timeout"):
        generate(faults, "slow", 1, timeout=0.1)


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}/v1", "the-base")
    with pytest.raises(FactoryError, match=r"cannot be reached .*refused.*Start it"):
        load("openai", sandbox.model_folder(), 4, server)


def test_the_key_comes_from_the_environment_and_is_never_repeated(
    faults: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    with pytest.raises(FactoryError, match="OUR_KEY, which should hold its key, is not set"):
        engine(faults, "key", api_key_env="OUR_KEY")
    with pytest.raises(FactoryError, match="without a key"):
        engine(faults, "key")
    monkeypatch.setenv("OUR_KEY", "s3cret")
    assert len(generate(faults, "key", api_key_env="OUR_KEY")) == 6
    with pytest.raises(FactoryError) as caught:
        generate(faults, "401", api_key_env="OUR_KEY")
    assert "OUR_KEY" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_engine_without_its_server_is_refused() -> None:
    with pytest.raises(FactoryError, match="needs a server"):
        load("openai", Path())


def test_a_server_tells_no_likelihoods(faults: str) -> None:
    chats = [Answered(0, requests(1)[0].messages, "x")]
    with pytest.raises(FactoryError, match="transformers or vllm"):
        list(engine(faults, "plain").likelihoods(chats))
