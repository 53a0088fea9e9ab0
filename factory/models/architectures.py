"""Where a checkpoint's blocks live and what in it is per block, as data: one row a model family.

Pruning, importance and the plan's sizes read this table; none of them knows a family by name. What the
per-block fields mean stands in fields.py. Families without a row go through beyond.py and must pass a proof
by outputs (proof.py).

Source of every row: the family's configuration_*.py and modeling_*.py in transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.fields import EVERYWHERE, FIELDS, Unmovable
from factory.models.refused import refuse_foreign


@dataclass(frozen=True)
class Architecture:
    """One family.

    Attributes:
        model_type: `model_type` of its config.json.
        causal_lm: the class in `architectures` of its config.json.
        blocks: what stands before the block's index in a tensor's name.
        outer: every tensor outside the blocks; None where any may stand there.
        count: the config key that holds the number of blocks.
        per_block: the keys of `FIELDS` that the family reads, besides `EVERYWHERE`.
        buffers: endings of tensors that some checkpoints store but that are no parameters.
        tied: whether the head is the embedding where config.json does not say.
        listed: whether the row stands in `TABLE`; the others must pass a proof by outputs.
        total: number of parameters, where the stock model had to be asked.
        number: how many blocks transformers makes where config.json does not say it.
        shared: for a block with weights that later blocks use too (they are stored once), those blocks.
    """

    model_type: str
    causal_lm: str
    blocks: str = "model.layers."
    outer: tuple[str, ...] | None = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    count: str = "num_hidden_layers"
    per_block: tuple[str, ...] = ()
    buffers: tuple[str, ...] = (".rotary_emb.inv_freq", ".e_score_correction_bias")
    tied: bool = False
    listed: bool = True
    total: int | None = None
    number: int | None = None
    shared: Mapping[int, tuple[int, ...]] = field(default_factory=dict, hash=False)

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

    def is_parameter(self, tensor: str, config: Mapping[str, Any]) -> bool:
        """Whether a stored tensor counts: no buffer, and no second copy of a tied embedding."""
        tied = bool(config.get("tie_word_embeddings", self.tied))
        return not tensor.endswith(self.buffers) and not (tied and tensor in HEADS)

    def stored_as(self, names: Collection[str]) -> Architecture:
        """The row with the names of a checkpoint saved from the bare backbone, if that is what this is.

        Such a checkpoint lacks the first part of every name (`h.0.` for `transformer.h.0.`, as the first
        GPT-2 had); transformers adds it when it loads.
        """
        prefix, _, rest = self.blocks.partition(".")
        if not rest or self.outer is None or any(name.startswith(self.blocks) for name in names):
            return self
        if not any(name.startswith(rest) for name in names):
            return self
        return replace(self, blocks=rest, outer=tuple(name.removeprefix(prefix + ".") for name in self.outer))


HEADS = ("lm_head.weight", "embed_out.weight")
_NORM_WITH_BIAS = ("model.embed_tokens.weight", "model.norm.weight", "model.norm.bias", "lm_head.weight")

TABLE = {
    row.model_type: row
    for row in (
        Architecture("llama", "LlamaForCausalLM"),
        Architecture("mistral", "MistralForCausalLM"),
        Architecture("mixtral", "MixtralForCausalLM"),
        Architecture("qwen2", "Qwen2ForCausalLM", per_block=("layer_types", "max_window_layers")),
        Architecture("qwen3", "Qwen3ForCausalLM", per_block=("layer_types", "max_window_layers")),
        Architecture(
            "qwen3_moe",
            "Qwen3MoeForCausalLM",
            per_block=("decoder_sparse_step", "mlp_only_layers", "max_window_layers"),
        ),
        Architecture("gemma2", "Gemma2ForCausalLM", per_block=("layer_types",), tied=True),
        Architecture("gemma3_text", "Gemma3ForCausalLM", per_block=("layer_types",), tied=True),
        Architecture("phi3", "Phi3ForCausalLM"),
        Architecture(
            "smollm3",
            "SmolLM3ForCausalLM",
            per_block=("layer_types", "no_rope_layers", "max_window_layers"),
            tied=True,
        ),
        Architecture("olmo2", "Olmo2ForCausalLM"),
        Architecture("olmo3", "Olmo3ForCausalLM", per_block=("layer_types",)),
        Architecture(
            "gpt_neox",
            "GPTNeoXForCausalLM",
            blocks="gpt_neox.layers.",
            outer=(
                "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight",
                "gpt_neox.final_layer_norm.bias", *HEADS,
            ),
            buffers=(".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
        ),
        Architecture(
            "gpt2",
            "GPT2LMHeadModel",
            blocks="transformer.h.",
            outer=(
                "transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight",
                "transformer.ln_f.bias", "lm_head.weight",
            ),
            count="n_layer",
            per_block=("scale_attn_by_inverse_layer_idx",),
            buffers=(".attn.bias", ".attn.masked_bias"),
            tied=True,
        ),
        Architecture(
            "falcon",
            "FalconForCausalLM",
            blocks="transformer.h.",
            outer=(
                "transformer.word_embeddings.weight", "transformer.ln_f.weight", "transformer.ln_f.bias",
                "lm_head.weight",
            ),
            tied=True,
        ),
        Architecture("stablelm", "StableLmForCausalLM", outer=_NORM_WITH_BIAS),
        Architecture("cohere", "CohereForCausalLM", tied=True),
        Architecture("cohere2", "Cohere2ForCausalLM", per_block=("layer_types",), tied=True),
        Architecture("gpt_oss", "GptOssForCausalLM", per_block=("layer_types",)),
        Architecture(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            per_block=("first_k_dense_replace", "num_nextn_predict_layers"),
        ),
        Architecture("granite", "GraniteForCausalLM"),
        Architecture("starcoder2", "Starcoder2ForCausalLM", outer=_NORM_WITH_BIAS, tied=True),
    )
}  # fmt: skip

# Lists in a config that may by chance be as long as the model has blocks.
NEVER_PER_BLOCK = ("architectures", "eos_token_id", "bos_token_id", "pad_token_id")


def architecture_of(config: Mapping[str, Any], where: Path, names: Collection[str] = ()) -> Architecture:
    """The row of a parsed config.json.

    Args:
        config: the parsed config.json.
        where: the model folder, for the message.
        names: the names of its tensors, where they are at hand: they tell how the checkpoint was saved, and
            where the blocks of a family without a row live.

    Raises:
        FactoryError: a model that cannot be pruned whatever its family, another head than a causal language
            model's, a field under which blocks cannot move, or one that may be per block and is not known.
    """
    refuse_foreign(config, where)
    row = TABLE.get(str(config.get("model_type")))
    if row is None:
        from factory.models.beyond import derived  # it looks into transformers, which takes seconds

        return derived(config, where, names)
    classes = config.get("architectures") or [row.causal_lm]
    if row.causal_lm not in classes:
        raise FactoryError(
            f"the model is a {classes[0]}, not the causal language model of {row.model_type}",
            where=str(where),
            mend=f"Use a checkpoint saved from {row.causal_lm}",
        )
    refuse_unknown(config, row, where)
    return row.stored_as(names)


def refuse_unknown(config: Mapping[str, Any], row: Architecture, where: Path) -> None:
    """Refuses settings under which blocks cannot move, and lists as long as the model has blocks.

    Raises:
        FactoryError: there is one.
    """
    blocks = block_count(config, row, where)
    for key, meaning in FIELDS.items():
        if isinstance(meaning, Unmovable) and config.get(key):
            raise FactoryError(
                f"no block can be removed, because {meaning.why} ({key} in config.json)",
                where=str(where),
                mend="Use another base model",
            )
    known = {*row.per_block, *EVERYWHERE, *NEVER_PER_BLOCK}
    for key, value in config.items():
        if isinstance(value, list) and len(value) == blocks and key not in known:
            raise FactoryError(
                f"config.json has a list {key!r} with one entry a block, unknown for {row.model_type}",
                where=str(where),
                mend=f"Use a stock {row.model_type} checkpoint; removing blocks here could be silently wrong",
            )


def block_count(config: Mapping[str, Any], row: Architecture, where: Path) -> int:
    """The number of blocks that a config names.

    Raises:
        FactoryError: the config has no such number.
    """
    blocks = config.get(row.count, config.get("num_hidden_layers", row.number))
    if not isinstance(blocks, int) or blocks < 1:
        raise FactoryError(
            f"config.json has no usable {row.count}: {blocks!r}",
            where=str(where),
            mend="Fetch the model again",
        )
    return blocks
