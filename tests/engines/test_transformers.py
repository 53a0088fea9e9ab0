"""The transformers engine: same text whatever the batch, every stop token, honest finish and counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from factory.engines import Engine, Generated, Request, Sampling, load
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
    engine: Any, wanted: list[Request], sampling: Sampling, batch_size: int = 4
) -> dict[int, Generated]:
    engine.batch_size = batch_size
    results = list(engine.generate(wanted, sampling))
    assert len({result.id for result in results}) == len(results) == len(wanted)
    return {result.id: result for result in results}


def test_a_row_gives_the_same_in_any_batch(engine: Engine) -> None:
    alone = generate(engine, requests(20), Sampling(24), batch_size=1)
    assert len({result.new_tokens for result in alone.values()}) > 3
    for size in (3, 8, 64):
        assert generate(engine, requests(20), Sampling(24), size) == alone


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
    assert {id: one[id] for id in other} == other
    reseeded = generate(engine, requests(12, seed=100), sampling)
    assert sum(one[id].text != reseeded[id].text for id in one) > 6


def test_a_low_temperature_comes_close_to_greedy_and_a_high_one_does_not(engine: Engine) -> None:
    greedy = generate(engine, requests(12), Sampling(6))
    cold = generate(engine, requests(12), Sampling(6, temperature=0.001))
    hot = generate(engine, requests(12), Sampling(6, temperature=50.0))
    assert cold == greedy
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
