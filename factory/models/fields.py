"""What the config fields mean that depend on a block's index, as data: the same wherever they occur.

Beside architectures.py, which says for each family which of these fields it reads. A field that is in no
table is refused, never guessed: one that is overlooked makes a model that loads and is silently wrong.

Source: the configuration_*.py and modeling_*.py of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sliced:
    """A list with one entry a block. It makes the keys in `replaces`, which describe a pattern, untrue."""

    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Renumbered:
    """A list of blocks' indices. It makes the keys in `replaces` untrue."""

    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeated:
    """A short list of kinds, said over and over until every block has one; rewritten in full length."""


@dataclass(frozen=True)
class Nested:
    """Pairs of a list of kinds and how often it is repeated; rewritten as one pair, in full length."""


@dataclass(frozen=True)
class Rhythm:
    """Blocks whose index leaves the remainder in `offset` when divided by this number have one kind.

    Nothing but another such pair of numbers can say it; without one for the kept blocks it is refused.
    """

    offset: str


@dataclass(frozen=True)
class Between:
    """Every n-th block has one kind, from the index in `start` to the one in `end` (-1: the last)."""

    start: str
    end: str


@dataclass(frozen=True)
class Keyed:
    """A mapping from blocks' indices (numbers or text) to settings."""


@dataclass(frozen=True)
class Leading:
    """The number of blocks at the beginning that are of another kind than those behind."""


@dataclass(frozen=True)
class EveryNth:
    """Every n-th block has one kind, but for those in `exceptions`; rewritten as 1 and a longer list."""

    exceptions: str


@dataclass(frozen=True)
class Behind:
    """The number of extra blocks stored behind the last, which predict further tokens. They are left out."""


@dataclass(frozen=True)
class Unmovable:
    """A setting, wherever it is on, under which a block cannot change its place; `why` goes on `because`."""

    why: str


Field = (
    Sliced
    | Renumbered
    | Repeated
    | Nested
    | Rhythm
    | Between
    | Keyed
    | Leading
    | EveryNth
    | Behind
    | Unmovable
)

_PATTERNS = (
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "layer_switch",
    "order_of_interleaved_layers",
    "global_attn_every_n_layers",
    "full_attention_interval",
)
# In the order in which they are rewritten: an EveryNth adds to a list that is renumbered behind it.
FIELDS: Mapping[str, Field] = {
    "layer_types": Sliced(replaces=_PATTERNS),
    "mlp_layer_types": Sliced(),
    "layers_block_type": Sliced(
        replaces=("hybrid_override_pattern", "attn_layer_period", "attn_layer_offset")
    ),
    "no_rope_layers": Sliced(replaces=("no_rope_layer_interval",)),
    "attention_layers": Sliced(),
    "attention_types": Nested(),
    "block_types": Repeated(),
    "layer_rope_theta": Sliced(),
    "num_attention_heads_per_layer": Sliced(),
    "per_layer_config": Keyed(),
    "decoder_sparse_step": EveryNth(exceptions="mlp_only_layers"),
    "mlp_only_layers": Renumbered(),
    "full_attn_idxs": Renumbered(),
    "attn_layer_indices": Renumbered(),
    "moe_layers": Renumbered(replaces=("interleave_moe_layer_step",)),
    "attn_layer_period": Rhythm(offset="attn_layer_offset"),
    "expert_layer_period": Rhythm(offset="expert_layer_offset"),
    "moe_layer_interval": Between(start="moe_layer_start_index", end="moe_layer_end_index"),
    "first_k_dense_replace": Leading(),
    "num_dense_layers": Leading(),
    "max_window_layers": Leading(),
    "num_nextn_predict_layers": Behind(),
    "num_kv_shared_layers": Unmovable("blocks read the keys and values of other blocks"),
    "scale_attn_by_inverse_layer_idx": Unmovable("every block divides its attention by its own index"),
    "rescale_every": Unmovable("every block's weights are scaled by its own index"),
    "hidden_size_per_layer_input": Unmovable("a table of embeddings outside the blocks has a part for each"),
}
# What transformers' base config class knows for every family, though few write it.
EVERYWHERE = ("layer_types", "mlp_layer_types", "per_layer_config")


def unread_beside(field: Field) -> tuple[str, ...]:
    """The keys that transformers does not read where the field is written out."""
    return field.replaces if isinstance(field, Sliced | Renumbered) else ()


def partners(field: Field) -> tuple[str, ...]:
    """The keys that say, together with the field's own, which blocks are of one kind."""
    if isinstance(field, Rhythm):
        return (field.offset,)
    return (field.start, field.end) if isinstance(field, Between) else ()
