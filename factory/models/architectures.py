"""What is per block in a checkpoint, as data: one row a model family. Nothing of the pipeline is below.

Pruning, importance and the plan's sizes read this table; none of them knows a family by name. A family
without a row is refused, never guessed: a per-block config list that is overlooked makes a model that
loads and is silently wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError


@dataclass(frozen=True)
class Architecture:
    """One family.

    Attributes:
        model_type: `model_type` of its config.json.
        causal_lm: the class in `architectures` of its config.json.
        blocks: what stands before the block's index in a tensor's name.
        outer: every tensor outside the blocks.
        count: the config key that holds the number of blocks.
        per_block: config lists with one entry a block, sliced together with the blocks.
        buffers: endings of tensors that old checkpoints store but that are no parameters.
    """

    model_type: str
    causal_lm: str
    blocks: str = "model.layers."
    outer: tuple[str, ...] = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    count: str = "num_hidden_layers"
    per_block: tuple[str, ...] = ()
    buffers: tuple[str, ...] = (".rotary_emb.inv_freq",)

    def block_of(self, tensor: str) -> int | None:
        """The index of the block that a tensor belongs to; None for a tensor outside the blocks."""
        if not tensor.startswith(self.blocks):
            return None
        index = tensor[len(self.blocks) :].split(".", 1)[0]
        return int(index) if index.isdigit() else None

    def renamed(self, tensor: str, block: int) -> str:
        """The tensor's name once its block has the index `block`."""
        rest = tensor[len(self.blocks) :].split(".", 1)[1]
        return f"{self.blocks}{block}.{rest}"


TABLE = {
    row.model_type: row
    for row in (
        Architecture("llama", "LlamaForCausalLM"),
        Architecture("mistral", "MistralForCausalLM"),
        Architecture("qwen2", "Qwen2ForCausalLM", per_block=("layer_types",)),
        Architecture("qwen3", "Qwen3ForCausalLM", per_block=("layer_types",)),
    )
}

# Lists in a config that may by chance be as long as the model has blocks.
_NEVER_PER_BLOCK = ("architectures", "eos_token_id", "bos_token_id", "pad_token_id")


def architecture_of(config: Mapping[str, Any], where: Path) -> Architecture:
    """The row of a parsed config.json.

    Args:
        config: the parsed config.json.
        where: the model folder, for the message.

    Raises:
        FactoryError: a family without a row, another head than a causal language model's, quantised
            weights, or a list as long as the model has blocks that the row does not know.
    """
    known = ", ".join(sorted(TABLE))
    row = TABLE.get(str(config.get("model_type")))
    if row is None:
        raise FactoryError(
            f"model_type {config.get('model_type')!r} is not one whose blocks can be removed safely",
            where=str(where),
            mend=f"Use a model of one of these families: {known}",
        )
    classes = config.get("architectures") or [row.causal_lm]
    if row.causal_lm not in classes:
        raise FactoryError(
            f"the model is a {classes[0]}, not a causal language model",
            where=str(where),
            mend=f"Use a checkpoint saved from {row.causal_lm}",
        )
    if config.get("quantization_config"):
        raise FactoryError(
            "the weights are quantised",
            where=str(where),
            mend="Use the unquantised checkpoint; quantise after the run",
        )
    blocks = block_count(config, row, where)
    for key, value in config.items():
        known_list = key in row.per_block or key in _NEVER_PER_BLOCK
        if isinstance(value, list) and len(value) == blocks and not known_list:
            raise FactoryError(
                f"config.json has a list {key!r} with one entry a block, unknown for {row.model_type}",
                where=str(where),
                mend=f"Use a stock {row.model_type} checkpoint; removing blocks here could be silently wrong",
            )
    return row


def block_count(config: Mapping[str, Any], row: Architecture, where: Path) -> int:
    """The number of blocks that a config names.

    Raises:
        FactoryError: the config has no such number.
    """
    blocks = config.get(row.count)
    if not isinstance(blocks, int) or blocks < 1:
        raise FactoryError(
            f"config.json has no usable {row.count}: {blocks!r}",
            where=str(where),
            mend="Fetch the model again",
        )
    return blocks
