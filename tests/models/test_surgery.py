"""What surgery writes: bounded shards, bytes untouched, files carried; and what old checkpoints need."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import random_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.errors import FactoryError
from factory.models import checkpoint, kernel_copy
from factory.models.file_proof import compare
from factory.models.proof import prove
from factory.models.surgery import drop_blocks


def edit(folder: Path, **changes: Any) -> None:
    """Changes config.json; `...` removes a key."""
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def rename(folder: Path, names: Any, **more: torch.Tensor) -> None:
    """Saves the weights again under the names that `names` gives, with tensors more."""
    file = folder / "model.safetensors"
    weights = {names(name): value for name, value in load_file(file).items()}
    save_file({**weights, **more}, file, metadata={"format": "pt"})


def proved(base: Path, out: Path, drop: Any) -> Any:
    """The config of the pruned model, once it is written and proved."""
    dropped = drop_blocks(base, out, drop)
    assert prove(base, out, dropped.kept).mode == "whole"
    return AutoModelForCausalLM.from_pretrained(out).config


def test_sharded_in_and_out(tmp_path: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(random_model(tmp_path / "base", "llama"))
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len(checkpoint.weight_files(tmp_path / "sharded")) > 3
    told: list[tuple[int, int]] = []
    dropped = drop_blocks(
        tmp_path / "sharded",
        tmp_path / "pruned",
        (2, 3, 6),
        shard_bytes=15_000,
        copied=lambda *n: told.append(n),
    )
    files = checkpoint.weight_files(tmp_path / "pruned")
    assert len(files) > 2
    for file in files:
        tensors = load_file(file)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 15_000 or len(tensors) == 1
    index = json.loads((tmp_path / "pruned" / checkpoint.INDEX).read_text())
    stored = checkpoint.stored_tensors(tmp_path / "pruned")
    assert index["metadata"]["total_size"] == sum(tensor.size for tensor in stored) == dropped.written
    assert index["weight_map"] == {tensor.name: tensor.file.name for tensor in stored}
    assert not (tmp_path / "pruned" / checkpoint.SINGLE).exists()
    assert told[-1] == (dropped.written, dropped.written) and told == sorted(told)
    prove(tmp_path / "base", tmp_path / "pruned", dropped.kept)


@pytest.mark.parametrize("refused", [(), ("copy_file_range",), ("copy_file_range", "sendfile")])
def test_every_way_of_copying_gives_the_same_bytes(
    refused: tuple[str, ...], tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(18, os.strerror(18))  # across devices

    for name in refused:
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(kernel_copy, "AT_ONCE", 1000)
    drop_blocks(tiny_model, tmp_path / "pruned", [1])
    before, after = (
        load_file(tiny_model / "model.safetensors"),
        load_file(tmp_path / "pruned/model.safetensors"),
    )
    assert after["model.layers.4.mlp.up_proj.weight"].equal(before["model.layers.5.mlp.up_proj.weight"])
    assert after["model.embed_tokens.weight"].equal(before["model.embed_tokens.weight"])


def test_a_way_of_copying_that_fails_half_way_is_taken_over(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    real, calls = os.copy_file_range, []

    def tired(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) > 7:
            raise OSError(22, os.strerror(22))
        return real(*arguments)

    monkeypatch.setattr(os, "copy_file_range", tired)
    monkeypatch.setattr(kernel_copy, "AT_ONCE", 1000)
    dropped = drop_blocks(tiny_model, tmp_path / "pruned", [1])
    assert len(calls) == 8
    compare(checkpoint.read_checkpoint(tiny_model), tmp_path / "pruned", dropped.kept)


def test_a_source_that_shrinks_while_it_is_read_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    tensors = checkpoint.stored_tensors(base)
    os.truncate(base / "model.safetensors", tensors[-1].offset)
    from factory.models.surgery import write_weights

    (tmp_path / "out").mkdir()
    with pytest.raises(FactoryError, match="cut short while it was read"):
        write_weights(tensors, tmp_path / "out")


def test_mixed_dtypes_are_kept_bit_for_bit_and_aligned(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    odd = {
        "model.norm.weight": torch.arange(5, dtype=torch.float64) / 3,
        "model.layers.0.mlp.up_proj.weight": torch.arange(3).to(torch.int8),
        "model.layers.0.mlp.gate_proj.weight": torch.tensor([[True], [False], [True]]),
        "model.layers.3.mlp.gate_proj.weight": torch.rand(7, 3),
    }
    rename(base, lambda name: name, **odd)
    drop_blocks(base, tmp_path / "pruned", [1])
    with safe_open(tmp_path / "pruned" / "model.safetensors", "pt") as file:
        for name, value in odd.items():
            found = file.get_tensor(name.replace("layers.3", "layers.2"))
            assert found.dtype == value.dtype and torch.equal(found, value)
    for tensor in checkpoint.stored_tensors(tmp_path / "pruned"):
        assert tensor.offset % (tensor.size // tensor.count) == 0, tensor.name


def test_tokenizer_template_generation_config_and_licence_come_along(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "LICENSE").write_text("free")
    (base / "NOTICE.txt").write_text("made by others")
    (base / "README.md").write_text("a card of another model")
    (base / "pytorch_model.bin").write_bytes(b"pickle")
    drop_blocks(base, tmp_path / "pruned", range(1, 3))
    pruned = tmp_path / "pruned"
    assert (pruned / "LICENSE").read_text() == "free"
    assert (pruned / "NOTICE.txt").read_text() == "made by others"
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
    head = load_file(twice / "model.safetensors")["model.embed_tokens.weight"]
    rename(twice, lambda name: name, **{"lm_head.weight": head.clone()})
    assert checkpoint.parameter_count(twice) == built.num_parameters()
    sizes = drop_blocks(twice, tmp_path / "pruned", [0])
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    assert sizes.pruned_parameters == pruned.num_parameters()


def test_a_tied_head_is_counted_once_where_only_the_family_says_that_it_is_tied(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "gemma2")
    edit(base, tie_word_embeddings=...)
    head = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    rename(base, lambda name: name, **{"lm_head.weight": head.clone()})
    built = AutoModelForCausalLM.from_pretrained(base)
    assert checkpoint.parameter_count(base) == built.num_parameters()


@pytest.mark.parametrize("drop", [range(6), (), (-1, 2), (3, 6), (2, 10**9)])
def test_impossible_drops_are_refused(tiny_model: Path, tmp_path: Path, drop: Any) -> None:
    with pytest.raises(FactoryError, match="Drop between 1 and 5 blocks"):
        drop_blocks(tiny_model, tmp_path / "pruned", drop)
    assert not (tmp_path / "pruned").exists()


def test_a_full_disk_is_seen_before_anything_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    with pytest.raises(FactoryError, match=r"needs [0-9.]+ MB, the disk has [0-9.]+ MB left"):
        drop_blocks(tiny_model, tmp_path / "pruned", [1])
    assert not (tmp_path / "pruned").exists()


def test_the_first_gpt2_has_no_prefix_and_stores_its_masks(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "gpt2")
    parameters = AutoModelForCausalLM.from_pretrained(base).num_parameters()
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8) for i in range(8)}
    rename(base, lambda name: name.removeprefix("transformer."), **masks)
    assert checkpoint.parameter_count(base) == parameters
    config = proved(base, tmp_path / "pruned", (0, 3, 4))
    assert config.num_hidden_layers == 5
    assert "h.4.attn.bias" in load_file(tmp_path / "pruned" / "model.safetensors")


def test_an_old_gpt_neox_calls_its_head_embed_out_and_stores_masks(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "gpt_neox")
    parameters = AutoModelForCausalLM.from_pretrained(base).num_parameters()
    masks = {f"gpt_neox.layers.{i}.attention.bias": torch.ones(1, 1, 8, 8).bool() for i in range(8)}
    rename(base, lambda name: name.replace("lm_head", "embed_out"), **masks)
    assert checkpoint.parameter_count(base) == parameters
    proved(base, tmp_path / "pruned", (1, 2))


def test_blocks_that_predict_further_tokens_are_left_out(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "deepseek_v3", num_nextn_predict_layers=1)
    last = {n: v for n, v in load_file(base / "model.safetensors").items() if n.startswith("model.layers.7.")}
    further = {name.replace("layers.7.", "layers.8."): value for name, value in last.items()}
    rename(base, lambda name: name, **further, **{"model.layers.8.eh_proj.weight": torch.rand(32, 64)})
    config = proved(base, tmp_path / "pruned", (6,))
    assert (config.num_hidden_layers, config.num_mtp_layers, config.first_k_dense_replace) == (7, 0, 2)
    blocks = {
        t.name.split(".")[2] for t in checkpoint.stored_tensors(tmp_path / "pruned") if "layers" in t.name
    }
    assert blocks == set("0123456")


# Fields as configs from before `layer_types` write them, and as they must be afterwards.
F, S = "full_attention", "sliding_attention"
OLD = {
    "qwen2": ({"max_window_layers": 3}, [F, F, S, S, S]),
    "gemma2": ({}, [F, S, S, F, S]),
    "gemma3_text": ({"sliding_window_pattern": 3}, [S, F, S, F, S]),
    "cohere2": ({"sliding_window_pattern": 2, "layer_switch": 2}, [F, S, S, F, S]),
    "olmo3": ({}, [S, S, S, S, S]),
    "gpt_oss": ({}, [F, S, S, F, S]),
    "smollm3": ({"no_rope_layer_interval": 3, "no_rope_layers": ...}, [F, S, F, S, F]),
}  # fmt: skip


@pytest.mark.parametrize("family", OLD)
def test_kinds_derived_from_the_blocks_index_stay_with_their_block(family: str, tmp_path: Path) -> None:
    written, kinds = OLD[family]
    base = random_model(tmp_path / "base", family)
    edit(base, layer_types=..., **written)
    if family == "olmo3":
        with pytest.raises(FactoryError, match=r"they are 3, 7\)\. Keep at least one"):
            drop_blocks(base, tmp_path / "pruned", (0, 3, 7))
        return
    config = proved(base, tmp_path / "pruned", (0, 3, 7))
    assert config.layer_types == kinds
    saved = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert not {"sliding_window_pattern", "layer_switch", "no_rope_layer_interval"} & set(saved)
