"""Merges equal their formulas, and the result is a stock folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.errors import FactoryError
from factory.stages import merge


@pytest.fixture(scope="module")
def siblings(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two variants of one base: in `b` the MLPs moved far, the rest not at all."""
    folders = {"base": tiny_model}
    for seed, name in enumerate("ab"):
        folders[f"of.{name}"] = shutil.copytree(tiny_model, tmp_path_factory.mktemp("merge") / name)
        generator = torch.Generator().manual_seed(seed)
        weights = load_file(tiny_model / "model.safetensors")
        for key, value in weights.items():
            size = 0.2 if "mlp" in key and name == "b" else 0.001
            weights[key] = (value.float() + size * torch.randn(value.shape, generator=generator)).bfloat16()
        save_file(weights, folders[f"of.{name}"] / "model.safetensors", metadata={"format": "pt"})
    return folders


def merged(out: Path, siblings: dict[str, Path], method: str, **options: Any) -> tuple[dict, dict]:
    settings = merge.Settings(method=method, of=("a", "b"), **options)
    facts = merge.run(settings, siblings, out, lambda *a, **k: None)
    return facts, load_file(out / "model" / "model.safetensors")


def weights_of(siblings: dict[str, Path], role: str) -> dict[str, torch.Tensor]:
    return {name: t.double() for name, t in load_file(siblings[role] / "model.safetensors").items()}


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal to within the rounding of bfloat16, in which the result is stored."""
    return torch.allclose(found.double(), expected, rtol=2**-8, atol=1e-6)


def test_slerp_is_the_formula_and_tells_its_share(siblings: dict[str, Path], tmp_path: Path) -> None:
    facts, found = merged(tmp_path, siblings, "slerp", parameters={"t": 0.25})
    one, other = weights_of(siblings, "of.a"), weights_of(siblings, "of.b")
    spherical = 0
    for name, a in one.items():
        b = other[name]
        cosine = (a * b).sum() / a.norm() / b.norm()
        if cosine.abs() > 0.9995:
            expected = 0.75 * a + 0.25 * b
        else:
            spherical += 1
            angle = torch.arccos(cosine)
            expected = (torch.sin(0.75 * angle) * a + torch.sin(0.25 * angle) * b) / torch.sin(angle)
        assert close(found[name], expected), name
    assert facts == {"method": "slerp", "spherical_share": spherical / len(one)}
    assert 0 < spherical < len(one)


def test_linear_is_the_formula(siblings: dict[str, Path], tmp_path: Path) -> None:
    facts, found = merged(tmp_path, siblings, "linear", parameters={"weights": [3, 1]})
    one, other = weights_of(siblings, "of.a"), weights_of(siblings, "of.b")
    assert all(close(found[name], 0.75 * one[name] + 0.25 * other[name]) for name in one)
    assert facts["spherical_share"] is None


def test_task_arithmetic_adds_differences_from_the_base(siblings: dict[str, Path], tmp_path: Path) -> None:
    _, found = merged(tmp_path, siblings, "task_arithmetic", parameters={"weights": 0.5})
    base, one, other = (weights_of(siblings, role) for role in ("base", "of.a", "of.b"))
    assert all(
        close(found[name], base[name] + 0.5 * (one[name] - base[name]) + 0.5 * (other[name] - base[name]))
        for name in one
    )


def test_dare_repeats_with_the_seed(siblings: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"parameters": {"weights": [0.5, 0.5], "density": 0.5}}
    runs = [
        merged(tmp_path / str(i), siblings, "dare_ties", seed=seed, **options)[1]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_the_result_is_a_stock_folder(siblings: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    merged(tmp_path, siblings, "ties", parameters={"weights": [0.5, 0.5], "density": [0.5, 0.7]})
    folder = tmp_path / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    base = AutoTokenizer.from_pretrained(tiny_model)
    assert model.dtype == torch.bfloat16
    assert model.config.tie_word_embeddings and "lm_head.weight" not in load_file(
        folder / "model.safetensors"
    )
    assert tokenizer.chat_template == base.chat_template
    assert json.loads((folder / "generation_config.json").read_text()) == json.loads(
        (tiny_model / "generation_config.json").read_text()
    )
    ids = torch.tensor([tokenizer("Two words")["input_ids"]])
    assert model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] > ids.shape[1]
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "all are readable by the same people"


def test_models_of_different_shapes_are_refused(siblings: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(siblings["of.b"], tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    del weights["model.layers.5.mlp.up_proj.weight"]
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"layers\.5\.mlp\.up_proj\.weight"):
        merged(tmp_path, {**siblings, "of.b": other}, "linear", parameters={"weights": [1, 1]})


def test_parameters_that_do_not_fit_are_refused(siblings: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="3 values for 2 variants"):
        merged(tmp_path, siblings, "linear", parameters={"weights": [1, 1, 1]})
    with pytest.raises(FactoryError, match="no merge method 'average'"):
        merged(tmp_path, siblings, "average")
    with pytest.raises(FactoryError, match="mergekit refuses this slerp merge"):
        merged(tmp_path, siblings, "slerp")
