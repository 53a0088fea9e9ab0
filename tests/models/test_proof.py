"""What the proof says and refuses. That it sees every wrong field is shown family by family elsewhere."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from families import random_model
from safetensors.torch import load_file, save_file

from factory.errors import FactoryError
from factory.models import memory, proof
from factory.models.checkpoint import read_checkpoint
from factory.models.surgery import drop_blocks


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[Path, Path, tuple[int, ...]]:
    """A base, the same without block 2, and the kept blocks."""
    base = random_model(tmp_path / "base", "mistral")
    return base, tmp_path / "pruned", drop_blocks(base, tmp_path / "pruned", (2,)).kept


def test_it_goes_beyond_the_window_with_a_cache(pruned: Any) -> None:
    found = proof.prove(*pruned)
    assert (found.mode, found.window, found.generated, found.dtype) == ("whole", 5, 8, "bfloat16")
    assert found.tokens == 2 * 16 + (5 + 8) + 8
    assert found.sentence().startswith(
        "proved: over 53 tokens, 8 of them generated, the same logits bit for bit"
    )
    assert found.facts()["max_difference"] == 0.0


def test_a_wide_window_is_made_narrow_in_both_models(pruned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proof.prove(*pruned).narrowed_from is None
    monkeypatch.setattr(proof, "WIDEST_WINDOW", {"cpu": 4, "cuda": 4})
    monkeypatch.setattr(proof, "NARROW", 3)
    found = proof.prove(*pruned)
    assert (found.window, found.narrowed_from, found.tokens) == (3, 5, 2 * 16 + (3 + 8) + 8)
    assert "windows of 5 made 3" in found.sentence()


@pytest.mark.parametrize("change", [1e-3, -1e-3])
def test_one_changed_weight_is_seen(pruned: Any, change: float) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    weights["model.layers.3.self_attn.v_proj.weight"][3, 3] += 0.5 + change
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"without these blocks: logits differ by up to [0-9.e-]+"):
        proof.prove(base, out, kept)


def test_a_missing_tensor_is_seen(pruned: Any) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    del weights["model.layers.3.self_attn.v_proj.weight"]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"no fitting weights for model\.layers\.3\.self_attn\.v_proj"):
        proof.prove(base, out, kept)


def test_a_config_that_transformers_refuses_is_seen(pruned: Any) -> None:
    base, out, kept = pruned
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "layer_types": ["full_attention"]}))
    with pytest.raises(FactoryError, match="stock transformers does not load it"):
        proof.prove(base, out, kept)


def test_outputs_that_are_no_numbers_prove_nothing(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    dropped = drop_blocks(base, tmp_path / "pruned", (2,))
    with pytest.raises(FactoryError, match="nothing is proved"):
        proof.prove(base, tmp_path / "pruned", dropped.kept)


def test_a_model_too_large_for_memory_is_compared_block_by_block(
    pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    told: list[str] = []
    found = proof.prove(*pruned, told.append)
    assert (found.mode, found.tokens, found.max_difference) == ("streamed", 0, None)
    assert "no outputs were compared" in found.sentence()
    assert told == ["the model is too large for memory: comparing block by block"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w["model.layers.3.mlp.up_proj.weight"].add_(1), r"up_proj\.weight has other bytes"),
        (lambda w: w.pop("lm_head.weight"), "tensors where"),
        (lambda w: w.update({"model.norm.weight": torch.ones(3)}), "another shape or dtype"),
    ],
)
def test_block_by_block_sees_the_bytes(
    spoil: Any, says: str, pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    spoil(weights)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(proof, "fits", lambda *_: False)
    with pytest.raises(FactoryError, match=says):
        proof.prove(base, out, kept)


def test_memory_is_measured_against_the_container_too(tmp_path: Path, monkeypatch: Any) -> None:
    group = tmp_path / "own"
    group.mkdir()
    (group / "memory.max").write_text("5000\n")
    (group / "memory.current").write_text("4000\n")
    (group / "memory.stat").write_text("anon 1000\nfile 2500\n")
    (tmp_path / "memory.max").write_text("max\n")
    real = Path.read_text

    def read(path: Path, *arguments: Any, **more: Any) -> str:
        return "0::/own\n" if str(path) == "/proc/self/cgroup" else real(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", read)
    assert memory._container(tmp_path) == [3500]
    assert 0 < memory.available() < resource.RLIM_INFINITY or resource.RLIM_INFINITY == -1


def test_small_models_are_not_worth_a_gpu(pruned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_cuda_free", lambda: 10**12)
    assert not memory.fits(read_checkpoint(pruned[0]), "cuda")
    assert memory.fits(read_checkpoint(pruned[0]), "cpu")
    monkeypatch.setattr(memory, "SMALL", 1)
    assert memory.fits(read_checkpoint(pruned[0]), "cuda", more=10**9)
    assert not memory.fits(read_checkpoint(pruned[0]), "cuda", more=2 * 10**12)
