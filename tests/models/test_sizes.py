"""Sizes from a config alone: the paper's figures, published ones of other models, and the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.models.anatomy import anatomy
from factory.models.sizes import Attention, Sizes

# Values of the published config.json files that decide sizes.
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "rope_theta": 500000.0, "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
}  # fmt: skip
MISTRAL = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "tie_word_embeddings": False,
    "max_position_embeddings": 32768, "rope_theta": 1000000.0, "sliding_window": None,
}  # fmt: skip
MIXTRAL = {
    **MISTRAL,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN3_30B = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip
GPT_OSS_20B = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
    "num_experts_per_tok": 4, "vocab_size": 201088, "sliding_window": 128, "tie_word_embeddings": False,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "n_group": 8, "topk_group": 4,
    "moe_intermediate_size": 2048, "first_k_dense_replace": 3, "tie_word_embeddings": False,
}  # fmt: skip
GEMMA2_9B = {
    "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
    "sliding_window": 4096,
}  # fmt: skip


def sizes(config: dict[str, Any]) -> Sizes:
    return anatomy(config, Path("model"))


def removed(base: float, pruned: float) -> str:
    return f"{100 * (1 - pruned / base):.2f}"


# The table of the paper's two models: blocks removed, billions of parameters left, percent removed.
@pytest.mark.parametrize(
    ("config", "billions", "rows"),
    [
        (
            LLAMA,
            "8.030",
            {2: ("7.594", "5.43"), 4: ("7.158", "10.86"), 6: ("6.722", "16.30"), 8: ("6.285", "21.73"),
             10: ("5.849", "27.16")},
        ),
        (
            MISTRAL,
            "7.248",
            {2: ("6.812", "6.02"), 4: ("6.376", "12.04"), 6: ("5.939", "18.06"), 8: ("5.503", "24.07"),
             10: ("5.067", "30.09")},
        ),
    ],
    ids=["Llama-3.1-8B", "Mistral-7B-v0.3"],
)  # fmt: skip
def test_the_papers_tables(config: dict[str, Any], billions: str, rows: dict[int, tuple[str, str]]) -> None:
    base = sizes(config)
    assert f"{base.parameters / 1e9:.3f}" == billions
    assert {block.parameters for block in base.blocks} == {218_112_000}
    for count, (left, share) in rows.items():
        pruned = base.without(range(28 - count, 28))
        assert f"{pruned.parameters / 1e9:.3f}" == left
        assert removed(base.parameters, pruned.parameters) == share
        assert pruned == sizes({**config, "num_hidden_layers": 32 - count})


def test_the_papers_two_shares_of_flops() -> None:
    base = sizes(LLAMA)
    pruned = base.without(range(22, 28))
    shares = {
        kind: removed(base.flops(0, kind), pruned.flops(0, kind)) for kind in ("parameters", "head", "blocks")
    }
    assert shares == {"parameters": "16.30", "head": "17.44", "blocks": "18.75"}


def test_llama_by_hand() -> None:
    base = sizes(LLAMA)
    assert base.part("embeddings") == base.part("head") == 128256 * 4096
    assert base.part("attention") == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    assert base.part("mlp") == 32 * 3 * 4096 * 14336
    assert base.part("norms") == (2 * 32 + 1) * 4096
    assert base.part("experts") == base.part("other") == 0
    assert base.checkpoint_bytes("bfloat16") == 16_060_522_496  # total_size of the published index
    assert base.cache_bytes(1, "bfloat16") == 131_072
    assert base.flops(1000) - base.flops(0) == 2 * 32 * (2 * 4096) * 1000


# "46.7B total parameters but only uses 12.9B per token"; "30.5B in total and 3.3B activated"; "671B total
# parameters with 37B activated".
@pytest.mark.parametrize(
    ("config", "total", "active"),
    [(MIXTRAL, 46.7e9, 12.9e9), (QWEN3_30B, 30.5e9, 3.3e9), (DEEPSEEK_V3, 671e9, 37e9)],
    ids=["Mixtral-8x7B", "Qwen3-30B-A3B", "DeepSeek-V3"],
)
def test_published_sizes_of_models_with_experts(config: dict[str, Any], total: float, active: float) -> None:
    found = sizes(config)
    assert found.parameters == pytest.approx(total, rel=0.002)
    assert found.active == pytest.approx(active, rel=0.02)


def test_gpt_oss_publishes_its_active_parameters_without_the_embeddings() -> None:
    found = sizes(GPT_OSS_20B)
    assert f"{found.parameters / 1e9:.2f}" == "20.91"
    assert f"{(found.active - found.embeddings) / 1e9:.2f}" == "3.61"


def test_latent_attention_keeps_the_latent_and_one_rotated_key() -> None:
    assert sizes(DEEPSEEK_V3).cache_bytes(1000) == 61 * (512 + 64) * 2 * 1000


def test_a_block_with_a_sliding_window_stops_growing_at_the_window() -> None:
    found = sizes(GEMMA2_9B)
    token = 2 * 8 * 256 * 2
    assert found.cache_bytes(4096) == 42 * token * 4096
    assert found.cache_bytes(10_000) == 21 * token * (4096 + 10_000)
    pair = 2 * 16 * 2 * 256
    assert found.flops(10_000) - found.flops(0) == 21 * pair * (4096 + 10_000)


def test_kept_blocks_keep_their_kind() -> None:
    found = sizes(GEMMA2_9B).without([0])  # blocks 0, 2, 4 .. slide
    assert [block.attends.window for block in found.blocks[:3] if block.attends] == [None, 4096, None]


@pytest.mark.parametrize("window", [None, 1, 3, 7, 50])
def test_a_prompts_pairs_are_the_sum_of_what_its_tokens_reach(window: int | None) -> None:
    attention = Attention(1, 1, window)
    for tokens in (1, 2, 3, 4, 20):
        assert attention.pairs(tokens) == sum(attention.reach(t) for t in range(1, tokens + 1))


def test_a_prompt_costs_what_its_tokens_cost() -> None:
    found = sizes(GEMMA2_9B).without(range(2, 42))
    total = sum(found.flops(t) for t in range(1, 4200))
    assert found.prefill_flops(4199) == total


def test_blocks_that_are_not_there_cannot_go() -> None:
    base = sizes(LLAMA)
    for dropped in ([32], [-1], range(32)):
        with pytest.raises(FactoryError, match=r"blocks 0\.\.31"):
            base.without(dropped)
