"""Unlisted families whose configs say by a pattern, a list or a range which kind a block is.

The configs carry their keys as published ones do: `save_pretrained` writes what transformers derived, so the
keys are put into config.json by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from families import EXPERTS, WINDOW, random_model

from factory.errors import FactoryError
from factory.models.checkpoint import read_checkpoint
from factory.stages import prune

F, S, L, C = "full_attention", "sliding_attention", "linear_attention", "chunked_attention"
DELTA = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
SSM = {"mamba_d_state": 8, "mamba_expand": 2}
MAMBA2 = {**SSM, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}
JAMBA = {**EXPERTS, **SSM, "attn_layer_period": 4, "attn_layer_offset": 1}
ERNIE = {
    "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_interval": 2,
    "moe_layer_start_index": 1, "moe_layer_end_index": 6,
}  # fmt: skip
LLAMA4 = {**EXPERTS, "num_experts_per_tok": 1, "attention_chunk_size": 8, "intermediate_size_mlp": 48}
NEMOTRON = {
    **EXPERTS, "n_routed_experts": 4, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8,
    "n_groups": 1, "hybrid_override_pattern": "M*M-M*M-",
}  # fmt: skip
ZAMBA = {**SSM, "n_mamba_heads": 2, "attn_layer_period": 3, "attn_layer_offset": 2}
THETAS = [1e4, 0, 1e4, 500.0, 0, 1e4, 500.0, 1e4]
ALTERNATING = [F, L] * 4

# Family, options, what config.json says instead of the keys that are None, the drop, what is said then.
Case = tuple[str, dict[str, Any], dict[str, Any], tuple[int, ...], dict[str, Any]]
WORK: dict[str, Case] = {
    "qwen3_next": (
        "qwen3_next", {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 16},
        {"layer_types": None, "full_attention_interval": 4}, (1,),
        {"layer_types": [L, L, F, L, L, L, F], "full_attention_interval": None},
    ),
    "qwen3_5 with list and interval": (
        "qwen3_5_text", DELTA, {"full_attention_interval": 4}, (0, 3),
        {"layer_types": [L, L, L, L, L, F], "full_attention_interval": None},
    ),
    "gemma4": (
        "gemma4_text",
        {**WINDOW, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "global_head_dim": 16,
         "layer_types": [S, F, S, S, F, S, S, F]},
        {"vocab_size_per_layer_input": 262144}, (1,), {"layer_types": [S, S, S, F, S, S, F]},
    ),
    "minimax": (
        "minimax", {**EXPERTS, "block_size": 8}, {}, (2, 5),
        {"layer_types": [F, L, L, F, F, L], "block_size": 8},
    ),
    "llama4": (
        "llama4_text", {**LLAMA4, "interleave_moe_layer_step": 2},
        {"layer_types": None, "moe_layers": None, "no_rope_layers": []}, (1, 4, 5),
        {"layer_types": [C, C, F, C, F], "no_rope_layers": [1, 1, 0, 1, 0], "moe_layers": [2, 4],
         "interleave_moe_layer_step": None},
    ),
    "jamba, a whole period": (
        "jamba", JAMBA, {}, (2, 3, 4, 5), {"attn_layer_period": 4, "attn_layer_offset": 1},
    ),
    "jamba, another rhythm": (
        "jamba", {**JAMBA, "expert_layer_period": 1, "expert_layer_offset": 0}, {}, (3, 7),
        {"attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 1},
    ),
    "bamba": ("bamba", {**MAMBA2, "attn_layer_indices": [2, 5]}, {}, (0, 2), {"attn_layer_indices": [3]}),
    "zamba": (
        "zamba", ZAMBA, {"layers_block_type": None}, (0, 3),
        {"layers_block_type": [L, "hybrid", L, "hybrid", L, L], "attn_layer_period": None},
    ),
    "ernie": (
        "ernie4_5_moe", ERNIE, {}, (4, 5),
        {"moe_layer_interval": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 3},
    ),
    "ernie, dense": (
        "ernie4_5_moe", ERNIE, {}, (1, 3, 5), {"moe_layer_start_index": 5, "moe_layer_end_index": 5},
    ),
    "recurrent_gemma": (
        "recurrent_gemma", {"lru_width": 32, "attention_window_size": 6}, {}, (1, 4, 5),
        {"block_types": ["recurrent", "attention", "recurrent", "recurrent", "recurrent"]},
    ),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": 8, "num_heads": 4, "window_size": 5, "attention_types": [[["global", "local"], 4]]},
        {"attention_layers": None}, (1, 4, 5),
        {"attention_types": [[["global", "global", "local", "global", "local"], 1]], "num_layers": 5},
    ),
    "cohere2_moe": (
        "cohere2_moe", {**EXPERTS, **WINDOW, "first_k_dense_replace": 2},
        {"layer_types": None, "mlp_layer_types": None, "first_k_dense_replace": 2}, (1, 4),
        {"mlp_layer_types": ["dense", *["sparse"] * 5], "first_k_dense_replace": 1,
         "layer_types": [F, S, S, F, S, S], "sliding_window_pattern": None},
    ),
    "granite_swa": (
        "granite_swa", {**WINDOW, "layer_rope_theta": THETAS}, {}, (1, 4),
        {"layer_rope_theta": [1e4, 1e4, 500.0, 1e4, 500.0, 1e4]},
    ),
    "nemotron_h": (
        "nemotron_h", NEMOTRON, {"layers_block_type": None, "hybrid_override_pattern": "M*M-M*M-"}, (1, 2),
        {"layers_block_type": [L, "mlp", L, F, L, "mlp"], "hybrid_override_pattern": None},
    ),
}  # fmt: skip


def published(folder: Path, family: str, options: dict[str, Any], written: dict[str, Any]) -> Path:
    """A random model whose config.json says what is given; keys that are None it does not have."""
    random_model(folder, family, **options)
    config = {**json.loads((folder / "config.json").read_text()), **written}
    kept = {key: value for key, value in config.items() if key not in written or value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize("name", WORK)
def test_every_kept_block_keeps_its_kind_and_the_proof_says_so(name: str, tmp_path: Path) -> None:
    family, options, written, drop, expected = WORK[name]
    base = published(tmp_path / "base", family, options, written)
    _, proof = prune.cut(base, tmp_path / "out", drop, True, lambda *a, **k: None)
    assert (proof.mode, proof.max_difference) == ("whole", 0.0)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: config.get(key) for key in expected} == expected


REFUSED: dict[str, tuple[str, dict[str, Any], tuple[int, ...], str]] = {
    "jamba, experts": ("jamba", JAMBA, (1,), r"a pattern \(expert_layer_period 2, expert_layer_offset 1\)"),
    "jamba, attention": ("jamba", JAMBA, (2, 3), r"a pattern \(attn_layer_period 4, attn_layer_offset 1\)"),
    "jamba, no attention": ("jamba", JAMBA, (1, 5), r"no block with full attention .* they are 1, 5\)"),
    "ernie": ("ernie4_5_moe", ERNIE, (2,), r"pattern \(moe_layer_interval 2, moe_layer_start_index 1, moe"),
    "bamba": ("bamba", {**MAMBA2, "attn_layer_indices": [2, 5]}, (2, 5), "no block with full attention"),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": 8, "num_heads": 4, "attention_types": [[["global", "local"], 4]]},
        (0, 2, 4, 6),
        r"no block with full attention .* they are 0, 2, 4, 6\)",
    ),
    "nemotron_h": ("nemotron_h", NEMOTRON, (1, 5), r"no block with full attention .* they are 1, 5\)"),
    "zamba": ("zamba", ZAMBA, (2,), "block 5 would lose weights that are stored once for several"),
    "zamba, one left": ("zamba", ZAMBA, (5,), "without these blocks the model cannot be built"),
    "rwkv": (
        "rwkv", {"attention_hidden_size": 32, "context_length": 128, "rescale_every": 2}, (1,),
        r"because every block's weights are scaled by its own index \(rescale_every",
    ),
    "gemma4": (
        "gemma4_text",
        {**WINDOW, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64,
         "num_kv_shared_layers": 0},
        (1,), r"a table of embeddings outside the blocks has a part for each \(hidden_size_per_layer_input",
    ),
    "longcat": (
        "longcat_flash",
        {"num_layers": 4, "num_hidden_layers": 8, "kv_lora_rank": 16, "q_lora_rank": 16,
         "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "moe_topk": 2,
         "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "zero_expert_num": 2,
         "num_key_value_heads": 4},
        (1,), r"do not show where the 8 blocks are \(numbered: model.layers.0..3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_family_cannot_say_is_refused_before_a_byte_is_copied(name: str, tmp_path: Path) -> None:
    family, options, drop, says = REFUSED[name]
    base = random_model(tmp_path / "base", family, **options)

    def copied(done: int, total: int, unit: str, note: str = "") -> None:
        raise AssertionError(f"{done} of {total} {unit}")

    with pytest.raises(FactoryError, match=says):
        prune.cut(base, tmp_path / "out", drop, True, copied)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "camembert", "rembert"])
def test_an_encoder_with_a_head_for_language_is_refused(family: str, tmp_path: Path) -> None:
    random_model(tmp_path / "base", family)
    with pytest.raises(FactoryError, match="the model is an encoder: each of its tokens sees those behind"):
        read_checkpoint(tmp_path / "base")
    random_model(tmp_path / "decoder", family, is_decoder=True)
    _, proof = prune.cut(tmp_path / "decoder", tmp_path / "out", [1], True, lambda *a, **k: None)
    assert proof.max_difference == 0.0


@pytest.mark.parametrize("family", ["gpt_neox_japanese"])
def test_a_decoder_whose_class_has_the_switch_unread_is_pruned(family: str, tmp_path: Path) -> None:
    random_model(tmp_path / "base", family)
    _, proof = prune.cut(tmp_path / "base", tmp_path / "out", [1], True, lambda *a, **k: None)
    assert proof.max_difference == 0.0
