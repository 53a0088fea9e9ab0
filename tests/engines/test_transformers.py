"""The transformers engine: same text whatever the batch, every stop token, honest finish and counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.engines import Answered, Engine, Generated, Request, Sampling, load
from factory.errors import FactoryError

STORY = "tell me what the old red fox ate for its supper in the snow and why it slept so long"


def requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of many lengths, in no order of length."""
    texts = (f"{STORY[: 1 + 29 * i % len(STORY)]} {i}" for i in range(count))
    return [Request(i, ({"role": "user", "content": text},), seed + i) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def stopping(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with so many stop tokens that its rows end early, at different lengths."""
    folder = tmp_path_factory.mktemp("stopping") / "model"
    shutil.copytree(tiny_model, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [0, *range(5, 260, 13)]}))
    return folder


@pytest.fixture(scope="module")
def engine(stopping: Path) -> Engine:
    return load("transformers", stopping, 4)


def generate(
    engine: Any, wanted: list[Request], sampling: Sampling, batch_size: int | None = 4
) -> dict[int, Generated]:
    engine.batch_size = batch_size
    results = list(engine.generate(wanted, sampling))
    assert len({result.id for result in results}) == len(results) == len(wanted)
    return {result.id: result for result in results}


def same(one: dict[int, Generated], other: dict[int, Generated]) -> bool:
    """Whether two runs gave the same, log-probabilities within rounding."""
    near = all(result.logprob == pytest.approx(other[id].logprob, abs=1e-3) for id, result in one.items())
    return near and all(replace(r, logprob=0) == replace(other[id], logprob=0) for id, r in one.items())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_gives_the_same_in_any_batch(engine: Engine, temperature: float) -> None:
    sampling = Sampling(24, temperature)
    alone = generate(engine, requests(70), sampling, batch_size=1)
    assert len({result.new_tokens for result in alone.values()}) > 3
    for size in (3, 64, None):
        assert same(generate(engine, requests(70), sampling, size), alone)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_log_probability_is_that_of_the_tokens_under_the_model_itself(
    engine: Any, stopping: Path, temperature: float
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stopping, dtype="float32")
    taken: dict[int, list[int]] = {}
    chats, plain = engine.chats, engine.chats.text
    chats.text = lambda tokens: taken.setdefault(len(taken), list(tokens)) and plain(tokens)
    try:
        results = list(engine.generate(requests(9), Sampling(16, temperature)))
    finally:
        chats.text = plain
    for place, result in enumerate(results):
        prompt = chats.prompt(requests(9)[result.id].messages)
        ids = torch.tensor([prompt + taken[place]])
        with torch.no_grad():
            rows = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = rows.gather(1, ids[0, len(prompt) :, None]).sum().item()
        assert result.logprob == pytest.approx(wanted, abs=1e-3)
        assert result.mean_logprob == pytest.approx(wanted / result.new_tokens, abs=1e-3)


def test_requests_are_drawn_a_window_at_a_time(engine: Any) -> None:
    drawn = 0

    def source() -> Iterator[Request]:
        nonlocal drawn
        for request in requests(200):
            drawn += 1
            yield request

    engine.batch_size = 2
    results = engine.generate(source(), Sampling(4))
    first = next(results)
    assert drawn < 60
    assert len({first.id, *(result.id for result in results)}) == 200


def test_a_likelihood_is_the_mean_over_the_response_and_its_end(engine: Any, stopping: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stopping, dtype="float32")
    chats = [
        Answered(i, request.messages, "so it goes " * (1 + i % 4)) for i, request in enumerate(requests(11))
    ]
    engine.batch_size = 3
    found = dict(engine.likelihoods(iter(chats)))
    assert found.keys() == set(range(11))
    for chat in chats:
        prompt = engine.chats.prompt(chat.messages)
        response = engine.chats.tokenizer(chat.response + "<|end|>", add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            rows = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert found[chat.id] == pytest.approx(
            rows.gather(1, torch.tensor(response)[:, None]).mean().item(), abs=1e-4
        )


def test_a_response_that_the_model_has_no_room_for_is_never_likely(engine: Engine) -> None:
    messages = requests(1)[0].messages
    found = dict(engine.likelihoods([Answered(0, messages, "x" * 2000), Answered(1, messages, "x")]))
    assert found[0] == float("-inf") < found[1]


def test_greedy_text_is_that_of_stock_generate(engine: Any, stopping: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stopping)
    model = AutoModelForCausalLM.from_pretrained(stopping, dtype="float32")
    ours = generate(engine, requests(8), Sampling(16))
    for request in requests(8):
        inputs = tokenizer.apply_chat_template(
            list(request.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=16, do_sample=False, pad_token_id=1)
        new = output[0, inputs["input_ids"].shape[1] :]
        result = ours[request.id]
        assert result.text == tokenizer.decode(new, skip_special_tokens=True)
        assert (result.prompt_tokens, result.new_tokens) == (inputs["input_ids"].shape[1], len(new))


def test_any_stop_token_ends_a_row_and_running_out_says_length(engine: Any) -> None:
    results = generate(engine, requests(20), Sampling(12)).values()
    assert {result.finish for result in results} == {"stop", "length"}
    assert all(result.new_tokens == 12 for result in results if result.finish == "length")


def test_a_sampled_row_depends_on_its_own_seed_only(engine: Engine) -> None:
    sampling = Sampling(12, temperature=1.0)
    one = generate(engine, requests(12), sampling, batch_size=5)
    other = generate(engine, requests(12)[::-2], sampling, batch_size=2)
    assert same(other, one)
    reseeded = generate(engine, requests(12, seed=100), sampling)
    assert sum(one[id].text != reseeded[id].text for id in one) > 6


def test_a_low_temperature_comes_close_to_greedy_and_a_high_one_does_not(engine: Engine) -> None:
    greedy = generate(engine, requests(12), Sampling(6))
    cold = generate(engine, requests(12), Sampling(6, temperature=0.001))
    hot = generate(engine, requests(12), Sampling(6, temperature=50.0))
    assert same(cold, greedy)
    assert sum(hot[id].text != greedy[id].text for id in greedy) > 6


def test_a_prompt_that_fills_the_model_gives_an_empty_row(engine: Engine) -> None:
    long, close = ({"role": "user", "content": "x" * length} for length in (2000, 1010))
    results = generate(engine, [Request(0, (long,)), Request(1, (close,)), *requests(4)[2:]], Sampling(64))
    assert (results[0].text, results[0].finish, results[0].new_tokens) == ("", "length", 0)
    assert results[1].prompt_tokens + results[1].new_tokens <= 1024
    assert results[2].new_tokens > 0


def test_a_model_without_chat_template_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(FactoryError, match="no chat template"):
        load("transformers", tmp_path / "model", 4)
