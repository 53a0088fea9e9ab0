"""All runs in one pass equal the definition, computed one text at a time in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.data.rows import TextSpec
from factory.errors import FactoryError
from factory.stages import importance

TEXTS = [
    "a",
    "Two words",
    "A longer text that is cut? No, it is not.",
    "",
    "  ",
    "x" * 40,
    "Blocks and streams.",
]


def calibration(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def naive(base: Path, texts: list[str], max_tokens: int) -> list[list[float]]:
    """The definition: text by text, block by block, states taken by hooks, angles in float64."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    blocks = model.config.num_hidden_layers
    sums = [[0.0] * (blocks - n + 1) for n in range(1, blocks)]
    states: list[Any] = []
    model.model.embed_tokens.register_forward_hook(lambda m, a, out: states.append(out[0, -1].double()))
    for layer in model.model.layers:
        layer.register_forward_hook(lambda m, a, out: states.append(out[0, -1].double()))
    for text in texts:
        states.clear()
        with torch.no_grad():
            model(torch.tensor([tokenizer(text)["input_ids"][:max_tokens]]))
        for n in range(1, blocks):
            for start in range(blocks - n + 1):
                cosine = torch.cosine_similarity(states[start], states[start + n], dim=0).clamp(-1, 1)
                sums[n - 1][start] += float(torch.arccos(cosine)) / torch.pi
    return [[value / len(texts) for value in row] for row in sums]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_tokens", [8192, 60, 1])
def test_equals_the_definition(tiny_model: Path, tmp_path: Path, side: str, batch_tokens: int) -> None:
    """Texts of ragged lengths, in one batch, several, or one each; the tokenizer may pad on either side."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": side}))
    settings = importance.Settings(
        data=TextSpec(name="calibration", rows=5), max_tokens=30, batch_tokens=batch_tokens
    )
    seen: list[int] = []
    facts = importance.run(
        settings,
        {"base": base, "calibration": calibration(tmp_path / "texts", TEXTS)},
        tmp_path,
        lambda done, total, unit, note="": seen.append(done),
    )
    written = json.loads((tmp_path / "importance.json").read_text())
    expected = naive(base, [text for text in TEXTS if text.strip()], 30)
    assert written["blocks"] == facts["blocks"] == 6
    assert [len(row) for row in written["distances"]] == [6, 5, 4, 3, 2]
    for row, reference in zip(written["distances"], expected, strict=True):
        assert row == pytest.approx(reference, abs=1e-4)
    assert written["rows"] == facts["rows"] == seen[-1] == 5
    assert written["tokens"] == sum(min(30, len(text.encode())) for text in TEXTS if text.strip())


def test_texts_are_no_longer_than_the_models_positions(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16}))
    settings = importance.Settings(data=TextSpec(name="calibration", rows=5), max_tokens=1024)
    inputs = {"base": base, "calibration": calibration(tmp_path / "texts", TEXTS)}
    importance.run(settings, inputs, tmp_path, lambda *a, **k: None)
    written = json.loads((tmp_path / "importance.json").read_text())
    expected = naive(tiny_model, [text for text in TEXTS if text.strip()], 16)
    for row, reference in zip(written["distances"], expected, strict=True):
        assert row == pytest.approx(reference, abs=1e-4)
    assert written["cut_at"] == 16


def test_texts_without_a_token_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    rules = json.loads((base / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[a-z]"}, "content": ""}
    (base / "tokenizer.json").write_text(json.dumps(rules))
    settings = importance.Settings(data=TextSpec(name="calibration", rows=5), max_tokens=30)
    inputs = {"base": base, "calibration": calibration(tmp_path / "some", ["abc", "ab1"])}
    assert importance.run(settings, inputs, tmp_path, lambda *a, **k: None)["rows"] == 1
    inputs["calibration"] = calibration(tmp_path / "none", ["abc"])
    with pytest.raises(FactoryError, match="a token of no calibration text"):
        importance.run(settings, inputs, tmp_path, lambda *a, **k: None)


def test_a_family_that_cannot_be_pruned_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "no_such_family"}))
    settings = importance.Settings(data=TextSpec(name="calibration", rows=5), max_tokens=30)
    inputs = {"base": base, "calibration": calibration(tmp_path / "texts", TEXTS)}
    with pytest.raises(FactoryError, match="no_such_family"):
        importance.run(settings, inputs, tmp_path, lambda *a, **k: None)
