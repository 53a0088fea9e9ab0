"""The pruned folder is the base with blocks removed: proved on logits, for each family of the table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from factory.errors import FactoryError
from factory.models import checkpoint
from factory.models.architectures import TABLE

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
    "initializer_range": 0.2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
# A window of 5 makes a wrongly sliced `layer_types` visible in the logits of 12 tokens.
WINDOWS = {"use_sliding_window": True, "sliding_window": 5}
MIXED = ["full_attention", "sliding_attention", "full_attention"] + ["sliding_attention"] * 3
FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": 5},
    "qwen2": {**WINDOWS, "tie_word_embeddings": True, "layer_types": MIXED},
    "qwen3": {**WINDOWS, "layer_types": MIXED},
}


def random_model(folder: Path, family: str, **options: Any) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SHAPE, **options)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def cut_in_memory(folder: Path, start: int, stop: int) -> Any:
    """The reference: the base loaded whole, its blocks deleted and renumbered by hand."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    del model.model.layers[start:stop]
    for index, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = index
    model.config.num_hidden_layers = len(model.model.layers)
    if getattr(model.config, "layer_types", None):
        del model.config.layer_types[start:stop]
    return model


def same_logits_and_words(one: Any, other: Any) -> bool:
    ids = torch.randint(2, 64, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        if not torch.equal(one(ids).logits, other(ids).logits):
            return False
        words = [m.generate(ids, max_new_tokens=12, do_sample=False, use_cache=True) for m in (one, other)]
    return torch.equal(*words)


@pytest.mark.parametrize("family", sorted(TABLE))
@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 3), (4, 6)])
def test_dropping_equals_removing_in_memory(tmp_path: Path, family: str, start: int, stop: int) -> None:
    base = random_model(tmp_path / "base", family, **FAMILIES[family])
    checkpoint.drop_blocks(base, tmp_path / "pruned", start, stop)
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    assert pruned.config.num_hidden_layers == 4
    assert pruned.dtype == torch.bfloat16
    assert same_logits_and_words(cut_in_memory(base, start, stop), pruned)


def test_windows_derived_from_the_blocks_index_stay_with_their_block(tmp_path: Path) -> None:
    """Configs from before `layer_types` say only `max_window_layers`; the list is written out."""
    base = random_model(tmp_path / "base", "qwen2", **WINDOWS, max_window_layers=3)
    config = json.loads((base / "config.json").read_text())
    del config["layer_types"]
    (base / "config.json").write_text(json.dumps(config))
    checkpoint.drop_blocks(base, tmp_path / "pruned", 0, 2)
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    assert pruned.config.layer_types == ["full_attention"] + ["sliding_attention"] * 3
    assert same_logits_and_words(cut_in_memory(base, 0, 2), pruned)


def test_sharded_in_and_out(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    whole = AutoModelForCausalLM.from_pretrained(base)
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(checkpoint.weight_files(tmp_path / "sharded")) > 3
    checkpoint.drop_blocks(tmp_path / "sharded", tmp_path / "pruned", 2, 5, shard_bytes=15_000)
    files = checkpoint.weight_files(tmp_path / "pruned")
    assert len(files) > 2
    for file in files:
        tensors = load_file(file)
        size = sum(tensor.nbytes for tensor in tensors.values())
        assert size <= 15_000 or len(tensors) == 1
    index = json.loads((tmp_path / "pruned" / checkpoint.INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(
        t.size for t in checkpoint.stored_tensors(tmp_path / "pruned")
    )
    assert not (tmp_path / "pruned" / checkpoint.SINGLE).exists()
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    assert same_logits_and_words(cut_in_memory(base, 2, 5), pruned)


def test_mixed_dtypes_are_kept_bit_for_bit_and_aligned(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = torch.arange(5, dtype=torch.float64) / 3
    weights["model.layers.0.mlp.up_proj.weight"] = torch.arange(3).to(torch.float8_e4m3fn)
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    checkpoint.drop_blocks(base, tmp_path / "pruned", 1, 2)
    with safe_open(tmp_path / "pruned" / "model.safetensors", "pt") as file:
        for name in ("model.norm.weight", "model.layers.0.mlp.up_proj.weight"):
            assert file.get_tensor(name).dtype == weights[name].dtype
            assert torch.equal(file.get_tensor(name).view(torch.uint8), weights[name].view(torch.uint8))
    for tensor in checkpoint.stored_tensors(tmp_path / "pruned"):
        assert tensor.offset % (tensor.size // tensor.count) == 0, tensor.name


def test_tokenizer_template_generation_config_and_licence_come_along(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "LICENSE").write_text("free")
    (base / "README.md").write_text("a card of another model")
    (base / "pytorch_model.bin").write_bytes(b"pickle")
    checkpoint.drop_blocks(base, tmp_path / "pruned", 1, 3)
    pruned = tmp_path / "pruned"
    assert (pruned / "LICENSE").read_text() == "free"
    assert (pruned / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    assert not (pruned / "README.md").exists() and not (pruned / "pytorch_model.bin").exists()
    one, other = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(pruned)
    assert one.chat_template == other.chat_template
    assert one("naïve 字")["input_ids"] == other("naïve 字")["input_ids"]


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
