"""Families that no table lists: pruned where a row can be derived and the proof passes, else refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from families import BEYOND, BLOCKS, EXPERTS, random_model
from transformers import AutoModelForCausalLM

from factory.errors import FactoryError
from factory.models import beyond, memory, proof
from factory.models.architectures import TABLE
from factory.models.checkpoint import read_checkpoint
from factory.models.surgery import drop_blocks
from factory.stages import prune

PREFIXES = {
    "mamba": "backbone.layers.",
    "bloom": "h.",
    "opt": "model.decoder.layers.",
    "gptj": "transformer.h.",
    "mpt": "transformer.blocks.",
    "openai-gpt": "h.",
}


@pytest.mark.parametrize("family", BEYOND)
def test_a_family_beyond_the_list_is_proved(family: str, tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", family)
    row = read_checkpoint(base).row
    assert family not in TABLE and not row.listed
    assert row.blocks.endswith(PREFIXES.get(family, "model.layers."))
    dropped = drop_blocks(base, tmp_path / "pruned", (0, 3, 5))
    assert proof.prove(base, tmp_path / "pruned", dropped.kept).max_difference == 0.0
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    assert pruned.config.num_hidden_layers == BLOCKS - 3
    assert dropped.pruned_parameters == pruned.num_parameters()


MINICPM3 = {
    "scale_depth": 1.4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "num_key_value_heads": 4, "dim_model_base": 32,
}  # fmt: skip


def test_a_scale_that_follows_the_number_of_blocks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiniCPM3 divides by the root of that number: its key shows it, and if it did not, the outputs would."""
    base = random_model(tmp_path / "base", "minicpm3", **MINICPM3)
    with pytest.raises(FactoryError, match="may say by 'scale_depth' how blocks differ"):
        drop_blocks(base, tmp_path / "pruned", [1])
    monkeypatch.setattr(beyond, "_PER_BLOCK", re.compile("$^"))
    with pytest.raises(FactoryError, match="is not the base without these blocks: logits differ"):
        prune.cut(base, tmp_path / "pruned", [1], True, lambda *a, **k: None)
    assert not (tmp_path / "pruned").exists()


def test_the_proof_cannot_be_switched_off(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "olmo")
    with pytest.raises(FactoryError, match="cannot be switched off for a family that is not listed"):
        prune.cut(base, tmp_path / "pruned", [1], False, lambda *a, **k: None)
    assert not (tmp_path / "pruned").exists()


def test_where_memory_is_small_outputs_are_compared_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = random_model(tmp_path / "base", "olmo")
    monkeypatch.setattr(proof, "fits", lambda *_: False)
    _, proved = prune.cut(base, tmp_path / "pruned", [1], True, lambda *a, **k: None)
    assert (proved.mode, proved.max_difference) == ("streamed", 0.0)


def test_and_files_alone_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = random_model(tmp_path / "base", "olmo")
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(FactoryError, match="memory is too small for the whole proof, which this olmo model"):
        prune.cut(base, tmp_path / "pruned", [1], True, lambda *a, **k: None)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


STORED = {  # a buffer stored in each block, and under which name
    "apertus": ({}, "act_fn"),
    "lfm2_moe": (
        {**EXPERTS, "num_dense_layers": 2, "layer_types": ["conv", "full_attention"] * 4}, "expert_bias",
    ),
    "hy_v3": ({**EXPERTS, "num_shared_experts": 1}, "expert_bias"),
    "ernie4_5_moe": ({"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16}, "e_score_correction"),
}  # fmt: skip


@pytest.mark.parametrize("family", STORED)
def test_parameters_are_those_of_the_stock_model(family: str, tmp_path: Path) -> None:
    """Stored buffers are none, whatever their names; what is a buffer elsewhere is a parameter in ERNIE."""
    options, name = STORED[family]
    base = random_model(tmp_path / "base", family, **options)
    assert any(name in tensor.name for tensor in read_checkpoint(base).tensors)
    dropped = drop_blocks(base, tmp_path / "pruned", (1, 4))
    stock = [AutoModelForCausalLM.from_pretrained(folder) for folder in (base, tmp_path / "pruned")]
    assert [model.num_parameters() for model in stock] == [dropped.base_parameters, dropped.pruned_parameters]
