"""A model folder as other programs and people find it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from factory.models import checkpoint


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o007, 0o660)])
def test_saved_weights_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    file = tmp_path / "deep" / "model.safetensors"
    file.parent.mkdir()
    before = os.umask(umask)
    try:
        save_file({"weight": torch.ones(2)}, file)
        checkpoint.follow_umask(tmp_path)
        assert os.umask(umask) == umask, "the umask itself stays"
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == mode


def test_parameters_count_a_tied_head_once(tiny_model: Path, tmp_path: Path) -> None:
    """Also where the checkpoint stores the tied head a second time, as some do."""
    built = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert checkpoint.parameter_count(tiny_model) == built.num_parameters()
    twice = shutil.copytree(tiny_model, tmp_path / "twice")
    weights = load_file(twice / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, twice / "model.safetensors", metadata={"format": "pt"})
    assert checkpoint.parameter_count(twice) == built.num_parameters()
    sizes = checkpoint.drop_blocks(twice, tmp_path / "pruned", 0, 1)
    assert (
        sizes.pruned_parameters == AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").num_parameters()
    )


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "smollm3"}, "smollm3"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "not a causal language model"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"no_rope_layers": [1, 1, 1, 0, 1, 1]}, "no_rope_layers"),
        ({"num_hidden_layers": 8}, "promises 8 blocks"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(tiny_model: Path, tmp_path: Path, changes: Any, says: str) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    edit_config(base, **changes)
    with pytest.raises(FactoryError, match=says):
        checkpoint.drop_blocks(base, tmp_path / "pruned", 1, 2)
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (3, 3), (-1, 1), (5, 7)])
def test_impossible_ranges_are_refused(tiny_model: Path, tmp_path: Path, start: int, stop: int) -> None:
    with pytest.raises(FactoryError, match="Drop between 1 and 5 blocks"):
        checkpoint.drop_blocks(tiny_model, tmp_path / "pruned", start, stop)


def test_broken_checkpoints_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    def broken(name: str) -> tuple[Path, Path]:
        folder = shutil.copytree(tiny_model, tmp_path / name)
        return folder, folder / "model.safetensors"

    pickled, weights = broken("pickled")
    weights.rename(pickled / "pytorch_model.bin")
    with pytest.raises(FactoryError, match="pickle"):
        checkpoint.weight_files(pickled)
    short, weights = broken("short")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FactoryError, match="where its header says"):
        checkpoint.stored_tensors(short)
    noise, weights = broken("noise")
    weights.write_bytes(b"no header at all")
    with pytest.raises(FactoryError, match="not a safetensors file"):
        checkpoint.stored_tensors(noise)
    extra, weights = broken("extra")
    save_file(
        {**load_file(weights), "model.adapter.weight": torch.zeros(2)}, weights, metadata={"format": "pt"}
    )
    with pytest.raises(FactoryError, match=r"model\.adapter\.weight"):
        checkpoint.drop_blocks(extra, tmp_path / "pruned", 1, 2)
    with pytest.raises(FactoryError, match=r"config\.json"):
        checkpoint.read_config(tmp_path)
