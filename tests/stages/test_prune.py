"""The run with the smallest distance goes, and only a run of the right length."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from factory.errors import FactoryError
from factory.stages import prune

# distances[n - 1][start]: the best run of two starts at 3, the best single block is 1, of four 0.
DISTANCES = [
    [0.3, 0.1, 0.3, 0.2, 0.2, 0.3],
    [0.4, 0.4, 0.4, 0.2, 0.3],
    [0.5] * 4,
    [0.3, 0.4, 0.5],
    [0.6, 0.7],
]


def importance(folder: Path) -> Path:
    folder.mkdir()
    (folder / "importance.json").write_text(
        json.dumps({"metric": "angular", "blocks": 6, "distances": DISTANCES})
    )
    return folder


@pytest.mark.parametrize(
    ("drop", "start", "sentence"),
    [
        (1, 1, "block 1, 0-based, of 6"),
        (2, 3, "blocks 3..4, 0-based, of 6"),
        (3, 0, "blocks 0..2, 0-based, of 6"),
        (4, 0, "blocks 0..3, 0-based, of 6"),
    ],
)  # fmt: skip
def test_drops_the_nearest_run(
    tiny_model: Path, tmp_path: Path, drop: int, start: int, sentence: str
) -> None:
    inputs = {"base": tiny_model, "importance": importance(tmp_path / "importance")}
    facts = prune.run(prune.Settings(drop=drop), inputs, tmp_path, lambda *a, **k: None)
    assert facts["blocks"] == list(range(start, start + drop))
    assert (facts["of"], facts["score"]) == (6, DISTANCES[drop - 1][start])
    assert facts["sentence"] == sentence
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert pruned.config.num_hidden_layers == 6 - drop
    assert facts["parameters"] == {"base": base.num_parameters(), "pruned": pruned.num_parameters()}
    kept = [i for i in range(6) if not start <= i < start + drop]
    for layer, index in zip(pruned.model.layers, kept, strict=True):
        assert layer.mlp.up_proj.weight.equal(base.model.layers[index].mlp.up_proj.weight)


def test_a_drop_of_all_blocks_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    inputs = {"base": tiny_model, "importance": importance(tmp_path / "importance")}
    with pytest.raises(FactoryError, match=r"6 blocks cannot be removed from 6\. Remove from 1 to 5"):
        prune.run(prune.Settings(drop=6), inputs, tmp_path, lambda *a, **k: None)


def test_what_an_interrupted_copy_left_is_not_kept(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors.index.json").write_text("{")
    inputs = {"base": tiny_model, "importance": importance(tmp_path / "importance")}
    prune.run(prune.Settings(drop=2), inputs, tmp_path, lambda *a, **k: None)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.num_hidden_layers == 4


def test_named_blocks_go_without_any_figures(tiny_model: Path, tmp_path: Path) -> None:
    facts = prune.run(prune.Settings(drop=(1, 4)), {"base": tiny_model}, tmp_path, lambda *a, **k: None)
    assert (facts["blocks"], facts["metric"], facts["score"]) == ([1, 4], None, None)
    assert facts["sentence"] == "blocks 1 and 4, 0-based, of 6"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.num_hidden_layers == 4


def test_excluded_ends_stay(tiny_model: Path, tmp_path: Path) -> None:
    inputs = {"base": tiny_model, "importance": importance(tmp_path / "importance")}
    chosen = prune.Settings(drop=3, exclude=(1, 1))
    assert prune.run(chosen, inputs, tmp_path, lambda *a, **k: None)["blocks"] == [1, 2, 3]
    with pytest.raises(FactoryError, match="of which 1 at the beginning and 3 at the end stay"):
        prune.run(prune.Settings(drop=3, exclude=(1, 3)), inputs, tmp_path, lambda *a, **k: None)
