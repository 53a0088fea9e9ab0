"""A tiny random checkpoint of every family: what the surgery tests cut.

Options make each block's kind visible: windows of 5 tokens, mixed kinds, experts in some blocks only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

BLOCKS = 8
SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": BLOCKS,
    "initializer_range": 0.2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
WINDOW = {"sliding_window": 5}
WINDOWS = {"use_sliding_window": True, **WINDOW}
F, S = "full_attention", "sliding_attention"
MIXED = [F, S, F, S, S, S, F, S]
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": WINDOW,
    "mixtral": {**EXPERTS, **WINDOW},
    "qwen2": {**WINDOWS, "tie_word_embeddings": True, "layer_types": MIXED},
    "qwen3": {**WINDOWS, "layer_types": MIXED},
    "qwen3_moe": {**EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "gemma2": WINDOW,
    "gemma3_text": {**WINDOW, "layer_types": [S, F, S, S, F, S, S, F]},
    "phi3": {**WINDOW, "original_max_position_embeddings": 128},
    "smollm3": {**WINDOWS, "no_rope_layer_interval": 3},
    "olmo2": {},
    "olmo3": WINDOW,
    "gpt_neox": {"use_parallel_residual": True},
    "gpt2": {"n_embd": 32, "n_layer": BLOCKS, "n_head": 4, "n_positions": 128},
    "falcon": {"head_dim": ..., "new_decoder_architecture": True, "num_kv_heads": 2},
    "stablelm": {"use_qkv_bias": True, "qk_layernorm": True},
    "cohere": {"use_qk_norm": True},
    "cohere2": WINDOW,
    "gpt_oss": {**EXPERTS, **WINDOW},
    "deepseek_v3": {
        "first_k_dense_replace": 2, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "moe_intermediate_size": 16, "kv_lora_rank": 16, "q_lora_rank": 16,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
    },
    "granite": {"residual_multiplier": 0.5},
    "starcoder2": WINDOW,
}  # fmt: skip
# Families that transformers has and the table has not.
BEYOND: dict[str, dict[str, Any]] = {
    "olmo": {},
    "gemma": {},
    "phi": {},
    "ernie4_5": {},
    "glm": {},
    "olmoe": EXPERTS,
    "exaone4": {**WINDOW, "sliding_window_pattern": 3},
    "bloom": {"n_layer": BLOCKS, "n_head": 4},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gptj": {"n_embd": 32, "n_layer": BLOCKS, "n_head": 4, "n_positions": 128, "rotary_dim": 8},
    "glm4_moe": {**EXPERTS, "n_routed_experts": 4, "first_k_dense_replace": 1},
    "lfm2": {},
    "mamba": {"state_size": 8},
    "qwen3_5_text": {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "openai-gpt": {"n_embd": 32, "n_layer": BLOCKS, "n_head": 4, "n_positions": 128},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": BLOCKS, "max_seq_len": 128, "expansion_ratio": 2},
}


def random_model(folder: Path, family: str, dtype: str = "bfloat16", **options: Any) -> Path:
    """Saves a model with every parameter drawn at random, norms and biases too.

    Args:
        folder: where to.
        family: a model_type of `FAMILIES` or `BEYOND`.
        dtype: of the stored weights.
        options: config fields over those of the family.
    """
    own = FAMILIES.get(family) or BEYOND.get(family) or {}
    torch.manual_seed(0)
    fields = {key: value for key, value in {**SHAPE, **own, **options}.items() if value is not ...}
    config = AutoConfig.for_model(family, **fields)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.dim() == 1:  # as made, all ones or zeros: blocks could be swapped unseen
                tensor.add_(torch.randn_like(tensor) * 0.1)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder
