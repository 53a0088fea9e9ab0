"""The packaged base: small, stock, able to spell any text, and as good as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from factory import sandbox
from factory.sandbox import card, train

BASE = sandbox.model_folder()


@pytest.fixture(scope="module")
def tokenizer() -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE)


def test_the_weights_are_small_and_in_bf16() -> None:
    config = json.loads((BASE / "config.json").read_text())
    assert config["model_type"] == "llama" and config["num_hidden_layers"] >= 12
    assert (BASE / "model.safetensors").stat().st_size <= 6_000_000
    with safe_open(BASE / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118
    assert sum(tensor.numel() for tensor in tensors) <= 3_000_000
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.bfloat16"}


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_the_tokenizer_round_trips_any_text(tokenizer: object, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_the_chat_template_ends_where_the_assistant_begins(tokenizer: object) -> None:
    turn = [{"role": "user", "content": "What does a florp eat?"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>What does a florp eat?<|end|><|assistant|>"


def test_the_card_says_what_the_record_says() -> None:
    record = json.loads((BASE / "record.json").read_text())
    text = (BASE / "README.md").read_text()
    assert f"{record['tokens']:,}" in text and str(record["loss"]) in text
    for score in record["scores"].values():
        assert f"{score['value']:.1%}" in text


def test_the_recorded_scores_are_far_above_chance() -> None:
    scores = json.loads((BASE / "record.json").read_text())["scores"]
    assert len(scores) == 6
    for task, score in scores.items():
        assert score["value"] >= score["chance"] + 0.25, task
    assert scores["gsm8k"]["value"] >= 0.8


@pytest.mark.slow
def test_scoring_the_base_gives_the_recorded_scores() -> None:
    recorded = json.loads((BASE / "record.json").read_text())["scores"]
    for task, score in card.scores(BASE, lambda *_: None).items():
        assert score["value"] == pytest.approx(recorded[task]["value"], abs=0.01), task


def test_training_is_the_same_each_time_and_leaves_a_stock_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "scores", lambda model, progress: {})  # not what is asked here
    first = train.train(tmp_path / "a", 3, 2, lambda *_: None)
    second = train.train(tmp_path / "b", 3, 2, lambda *_: None)
    assert first["loss"] == second["loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert {path.suffix for path in (tmp_path / "a").iterdir()} <= {".json", ".safetensors", ".jinja", ".md"}
