"""A config taken apart: which parameters are embeddings, head, attention, experts, norms, block by block.

config.json -> `anatomy` -> sizes.py. The stock model is built on torch's meta device, where tensors have a
shape and no memory, and its modules are asked; 671 billion parameters take a tenth of a second. No family
has a formula of its own here: what is read are the names that transformers' families share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from fractions import Fraction
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.beyond import resolved, without_weights
from factory.models.checkpoint import read_config
from factory.models.sizes import Attention, Block, Sizes

# Attributes of attention modules, the surer first.
_KEY_SIZE = ("qk_head_dim", "head_dim", "head_size")
_QUERY_HEADS = ("num_heads", "num_attention_heads", "n_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "kv_heads")
_EXPERTS = ("num_experts", "num_local_experts", "moe_num_experts", "n_routed_experts")
_EXPERTS_USED = ("top_k", "topk", "num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk")
# Families whose attention costs more than score and weighted value of every head.
_MORE_THAN_HEADS = ("diffllama", "doge", "jetmoe")
_OTHER_FAMILY = "Name a model whose blocks are alike in kind, such as Llama"
_MLP = ("mlp", "feed_forward", "ffn", "moe", "expert", "fc1", "fc2")
# Cache layers of transformers (cache_utils.py) whose cost is understood.
_CACHES = (
    "DynamicLayer", "DynamicSlidingWindowLayer", "LinearAttentionLayer", "DummyLayer",
    "LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer",
)  # fmt: skip


def of(model: Path) -> Sizes:
    """The sizes of a model folder, or of a config.json by itself; see `anatomy`.

    Raises:
        FactoryError: no readable config.json, or one that `anatomy` cannot use.
    """
    return anatomy(read_config(model.parent if model.name == "config.json" else model), model)


def anatomy(config: Mapping[str, Any], where: Path) -> Sizes:
    """The sizes of the stock model that a parsed config.json describes.

    What a checkpoint holds besides, such as DeepSeek-V3's block for predicting two tokens, is no part of
    the stock model and is not counted. Quantisation is disregarded.

    Args:
        config: the parsed config.json.
        where: its folder or file, for messages.

    Raises:
        FactoryError: no decoder-only language model of stock transformers, or one that it cannot build.
    """
    stock = stock_config(config, where)
    return _take_apart(without_weights(stock, where), stock, where)


def stock_config(config: Mapping[str, Any], where: Path) -> Any:
    """The transformers config object of a parsed config.json, without its quantisation.

    Raises:
        FactoryError: another kind of model than a stock decoder-only language model, or values that the
            config class refuses.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    name = str(config.get("model_type"))
    if name not in CONFIG_MAPPING:
        own = " (it wants code of its own)" if config.get("auto_map") else ""
        raise FactoryError(
            f"model_type {name!r} is none of stock transformers{own}",
            where=str(where),
            mend="Use a model that loads without trust_remote_code",
        )
    stock = resolved({key: value for key, value in config.items() if key != "quantization_config"}, where)
    decoder = type(stock) in MODEL_FOR_CAUSAL_LM_MAPPING and not getattr(stock, "is_encoder_decoder", False)
    if not decoder or stock.get_text_config(decoder=True) is not stock:
        raise FactoryError(
            f"a {name} model is more or other than a decoder-only language model",
            where=str(where),
            mend="Name a causal language model",
        )
    return stock


def _take_apart(model: Any, config: Any, where: Path) -> Sizes:
    from torch import nn

    blocks = _blocks(model, config, where)
    uses = Counter(id(parameter) for block in blocks for parameter in block.parameters())
    inside = uses.keys()
    shared = {identity for identity, count in uses.items() if count > 1}
    output = model.get_output_embeddings()
    head = None if output is None else output.weight
    table = model.get_input_embeddings().weight
    embeddings = norms = other = products = 0
    for owner, _, parameter in _owned(model):
        if id(parameter) in shared:  # by several blocks, as in Zamba: there as long as one of them is
            other += parameter.numel()
            continue
        if id(parameter) in inside or (parameter is head and head is not table):
            continue
        if isinstance(owner, nn.Embedding):
            embeddings += parameter.numel()
        elif _is_norm(owner):
            norms += parameter.numel()
        else:  # the head's bias, or projections between the embeddings and the blocks
            other += parameter.numel()
            products += parameter.numel() if parameter.dim() > 1 else 0
    stored = model.state_dict().keys()
    kinds, unknown = _kinds(config)
    parts = []
    for index, block in enumerate(blocks):
        attends = None
        if unknown is None:
            attends, unknown = _attends(block, config, kinds[index], index)
        parts.append(_block(block, config, attends, shared))
    return Sizes(
        blocks=tuple(parts),
        embeddings=embeddings,
        head=0 if head is None else head.numel(),
        tied=head is table,
        norms=norms,
        other=other,
        outer_products=products,
        buffers=sum(buffer.numel() for name, buffer in model.named_buffers() if name in stored),
        positions=_first([config], ("max_position_embeddings",)) or None,
        unknown=unknown,
    )


def _blocks(model: Any, config: Any, where: Path) -> Any:
    """The outermost list of modules with as many entries as the config has blocks."""
    from torch import nn

    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == getattr(config, "num_hidden_layers", None):
            return module
    raise FactoryError(
        f"the blocks of a {config.model_type} model are not one list", where=str(where), mend=_OTHER_FAMILY
    )


def _owned(module: Any) -> Iterator[tuple[Any, str, Any]]:
    """Every parameter once, with the module that holds it and the path to it."""
    owners = dict(module.named_modules())
    for path, parameter in module.named_parameters():
        yield owners[path.rpartition(".")[0]], path, parameter


def _is_packed(owner: Any, parameter: Any) -> bool:
    """Whether a tensor holds the weights of all experts, with the expert's number in front."""
    return parameter.dim() == 3 and bool(_first([owner], _EXPERTS))


def _is_norm(module: Any) -> bool:
    return "norm" in type(module).__name__.lower()


def _block(block: Any, config: Any, attends: Attention | None, shared: Set[int]) -> Block:
    """One block; the parameters whose ids are in `shared` are counted outside, but multiplied with here."""
    from torch import nn

    share = _share_of_experts(block, config)
    sums = dict.fromkeys(("attention", "mlp", "experts", "norms", "other"), 0)
    packed = {id(owner) for owner, _, parameter in _owned(block) if _is_packed(owner, parameter)}
    idle = products = 0
    for owner, path, parameter in _owned(block):
        count, names = parameter.numel(), path.lower().split(".")
        used = count
        if _is_norm(owner):
            part = "norms"
        elif "experts" in names or _is_packed(owner, parameter):
            part, used = "experts", int(count * share)
            idle += count - used
        elif any("attn" in name or "attention" in name for name in names):
            part = "attention"
        elif any(sign in name for name in names for sign in _MLP):
            part = "mlp"
        else:
            part = "other"
        sums[part] += 0 if id(parameter) in shared else count
        # Packed experts have a dimension more, their biases too: what is a vector there has two.
        matrix = parameter.dim() > 1 and not (parameter.dim() == 2 and id(owner) in packed)
        if matrix and not isinstance(owner, nn.Embedding):
            products += used
    return Block(**sums, idle=idle, products=products, attends=attends)


def _share_of_experts(block: Any, config: Any) -> Fraction:
    """The share of the routed experts that one token is sent to; 1 in a block without."""
    holders = [owner for owner, _, parameter in _owned(block) if _is_packed(owner, parameter)]
    holders += [module for path, module in block.named_modules() if path.split(".")[-1] == "experts"]
    if not holders:
        return Fraction(1)
    experts = _first([*holders, config], _EXPERTS)
    used = _first(block.modules(), _EXPERTS_USED) or _first([config], _EXPERTS_USED)
    return Fraction(used, experts) if used and experts else Fraction(1)


def _kinds(config: Any) -> tuple[list[Any], str | None]:
    """What each block keeps of earlier tokens, as stock generation would: one cache layer a block."""
    from transformers import DynamicCache

    layers = list(DynamicCache(config=config).layers)
    if len(layers) != config.num_hidden_layers:
        return layers, f"{len(layers)} caches for {config.num_hidden_layers} blocks"
    return layers, None


def _attends(block: Any, config: Any, kept: Any, index: int) -> tuple[Attention | None, str | None]:
    """What attending costs in a block, or why that cannot be told."""
    kind = type(kept).__name__
    if config.model_type in _MORE_THAN_HEADS:
        return None, f"a {config.model_type} model's attention does more than its numbers of heads tell"
    if kind not in _CACHES:
        return None, f"block {index} keeps a {kind}, whose cost is not known here"
    if kind == "LinearAttentionLayer":
        return None, None
    module = next((m for m in block.modules() if _first([m], _KEY_SIZE) and not _is_norm(m)), None)
    if module is None:
        if kind == "DummyLayer":  # a block without attention
            return None, None
        return None, f"the attention of block {index} is none that is known here"
    size = _first([module, config], _KEY_SIZE)
    value = _first([module], ("v_head_dim",)) or size
    queries = _first([module], _QUERY_HEADS) or config.num_attention_heads
    groups = _first([module], ("num_key_value_groups",))
    keys = _first([module], _KEY_HEADS) or (queries // groups if groups else queries)
    latent = _first([module], ("kv_lora_rank",))
    cached = latent + module.qk_rope_head_dim if latent else keys * (size + value)
    window = getattr(kept, "sliding_window", None)
    if kind == "DummyLayer":  # reads the cache of an earlier block
        cached, window = 0, getattr(module, "sliding_window", None)
    return Attention(queries * (size + value), cached, window), None


def _first(places: Iterable[Any], names: tuple[str, ...]) -> int:
    """The first positive whole number that one of the objects has under one of the names; 0 if none."""
    for place in places:
        for name in names:
            value = getattr(place, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return 0
