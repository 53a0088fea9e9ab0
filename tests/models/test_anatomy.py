"""Sizes from a config against real models of many families: tensors, files, caches and counted FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.models.anatomy import anatomy, of
from factory.models.sizes import Sizes

COMMON: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12,
    "num_key_value_heads": 4,
}  # fmt: skip
WINDOW = {"sliding_window": 8}
PATTERN = {**WINDOW, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}

# Keys over COMMON.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "head_dim": 12},
    "llama tied": {"tie_word_embeddings": True},
    "mistral": WINDOW,
    "mixtral": EXPERTS,
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {**EXPERTS, "mlp_only_layers": [1]},
    "gemma2": {"head_dim": 16, **WINDOW},
    "gemma3_text": {"head_dim": 16, **PATTERN},
    "gemma4_text": {
        "head_dim": 8, "global_head_dim": 16, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 96, "layer_types": ["sliding_attention", "full_attention"] * 2,
        **WINDOW,
    },
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128},
    "gpt_neox": {},
    "phi3": {},
    "smollm3": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "falcon": {"multi_query": True},
    "stablelm": {},
    "cohere": {},
    "cohere2": WINDOW,
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, **WINDOW},
    "deepseek_v3": {
        **EXPERTS, **LATENT, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    },
    "granite": {},
    "starcoder2": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
}  # fmt: skip
PROMPT = 20


def config_of(name: str) -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[name.split()[0]](**{**COMMON, **FAMILIES[name]})


def real(name: str) -> Any:
    """The model itself, with the plain loops and products that a counter of FLOPs can see."""
    from transformers import AutoModelForCausalLM

    config = config_of(name)
    kinds = {"attn_implementation": "eager"}
    if "experts" in " ".join(vars(config)):
        kinds["experts_implementation"] = "eager"
    return AutoModelForCausalLM.from_config(config, **kinds).eval()


def counted(call: Callable[[], Any]) -> int:
    """FLOPs of a call as torch counts them, without those of the rotary embedding's angles."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    angles = [sum(c.values()) for n, c in counter.get_flop_counts().items() if ".rotary" in n]
    return counter.get_total_flops() - sum(angles)


def tokens(count: int) -> Any:
    import torch

    return torch.randint(3, 90, (1, count), generator=torch.Generator().manual_seed(0))


def from_config(name: str) -> Sizes:
    return anatomy(config_of(name).to_dict(), Path(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters(name: str, tmp_path: Path) -> None:
    from safetensors import safe_open
    from torch import nn

    model, found = real(name), from_config(name)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    blocks = next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 4)
    assert [b.parameters for b in found.blocks] == [sum(p.numel() for p in b.parameters()) for b in blocks]
    tables = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)]
    assert found.embeddings == sum(tables)
    named = list(model.named_parameters())
    assert found.part("experts") == sum(p.numel() for n, p in named if ".experts." in n)
    assert found.part("norms") == sum(p.numel() for n, p in named if "norm" in n or ".ln_" in n)
    assert found.part("other") < 0.1 * found.parameters
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as stored:
        elements = sum(stored.get_tensor(key).numel() for key in stored.keys())  # noqa: SIM118
    assert found.checkpoint_bytes("float32") == 4 * elements


@pytest.mark.parametrize("name", FAMILIES)
def test_flops_of_a_prompt(name: str) -> None:
    model, found = real(name), from_config(name)
    # Eager attention multiplies all pairs, the masked ones too; seven tokens are inside every window.
    assert counted(lambda: model(tokens(7), use_cache=False)) == 7 * found.flops(7)


@pytest.mark.parametrize("name", FAMILIES)
def test_cache_and_flops_of_one_more_token(name: str) -> None:
    import torch

    model, found = real(name), from_config(name)
    with torch.no_grad():
        cache = model(tokens(PROMPT), use_cache=True).past_key_values
    own = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in own)
    # Stock sliding caches leave room for the token to come: they hold one token less than the window.
    room = sum(b.attends.cached for b in found.blocks if b.attends and b.attends.window)
    assert 4 * (kept + room) == found.cache_bytes(PROMPT, "float32")
    # Stock latent attention expands the keys and values of all earlier tokens again.
    expanded = 4 * 16 * 4 * (16 + 12) * PROMPT if name == "deepseek_v3" else 0
    step = counted(lambda: model(tokens(1), past_key_values=cache, use_cache=True))
    assert step == found.flops(PROMPT + 1) + 2 * expanded


def test_experts_that_a_token_is_not_sent_to_are_idle() -> None:
    found = from_config("qwen3_moe")
    assert [block.idle for block in found.blocks] == [0 if i == 1 else 2 * 3 * 32 * 24 for i in range(4)]
    assert found.active == found.parameters - 3 * 2 * 3 * 32 * 24


def test_blocks_without_attention_have_no_cache() -> None:
    config = {
        **COMMON, **EXPERTS, "model_type": "qwen3_next", "head_dim": 8, "linear_num_value_heads": 4,
        "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    }  # fmt: skip
    found = anatomy(config, Path("model"))
    assert [block.attends is None for block in found.blocks] == [True, True, True, False]
    assert found.cache_bytes(10) == 10 * 2 * 2 * 8 * 2


def test_what_is_not_understood_is_not_told() -> None:
    found = anatomy({**COMMON, "model_type": "diffllama"}, Path("model"))
    assert found.parameters > 0
    with pytest.raises(FactoryError, match="more than its numbers of heads"):
        found.flops()
    with pytest.raises(FactoryError):
        found.cache_bytes(1)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "my_llama", "auto_map": {"AutoConfig": "x.Y"}}, "it wants code of its own"),
        ({}, "model_type 'None'"),
        ({"model_type": "t5"}, "more or other than a decoder-only"),
        ({"model_type": "gemma3"}, "more or other than a decoder-only"),
        ({**COMMON, "model_type": "llama", "hidden_act": "nonsense"}, "cannot build"),
        (
            {**COMMON, "model_type": "qwen3", "layer_types": ["full_attention"]},
            "transformers refuses config.json",
        ),
    ],
    ids=lambda value: value.get("model_type", "") if isinstance(value, dict) else "",
)
def test_configs_that_are_refused_in_one_line(config: dict[str, Any], says: str) -> None:
    with pytest.raises(FactoryError, match=says) as refused:
        anatomy(config, Path("folder"))
    assert str(refused.value).startswith("folder: ") and "\n" not in str(refused.value)


def test_a_folder_and_its_config_alone(tiny_model: Path) -> None:
    found = of(tiny_model)
    assert found == of(tiny_model / "config.json")
    weights = (tiny_model / "model.safetensors").stat().st_size
    assert 0 < weights - found.checkpoint_bytes("bfloat16") < 10_000  # the file's header


UNBOUNDED = {
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "attn_layer_indices": [1]},
    "nemotron_h": {
        **EXPERTS, "n_routed_experts": 4, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1,
        "layers_block_type": ["linear_attention", "full_attention", "moe", "mlp"],
    },
}  # fmt: skip


@pytest.mark.parametrize("family", UNBOUNDED)
def test_a_saved_config_with_a_bound_of_infinity_is_read_as_stock_reads_it(
    family: str, tmp_path: Path
) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[family](**{**COMMON, **UNBOUNDED[family]})
    config.save_pretrained(tmp_path)
    assert "Infinity" in (tmp_path / "config.json").read_text()
    assert of(tmp_path).parameters == AutoModelForCausalLM.from_config(config).num_parameters()


def test_what_blocks_share_counts_once_and_is_multiplied_with_in_each() -> None:
    """Zamba: one transformer block, run through at two places of eight."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    shape = {**COMMON, "num_hidden_layers": 8, "mamba_d_state": 8, "n_mamba_heads": 2}
    config = CONFIG_MAPPING["zamba"](**shape, attn_layer_period=3, attn_layer_offset=2)
    found, model = anatomy(config.to_dict(), Path("zamba")), AutoModelForCausalLM.from_config(config)
    assert found.parameters == model.num_parameters()
    shared = sum(p.numel() for p in model.model.layers[2].shared_transf.parameters())
    assert found.other >= shared
    one, other = (found.blocks[block] for block in (2, 5))
    assert one == other and one.products > found.blocks[0].products
    assert found.without([2]).parameters == found.parameters - one.parameters
