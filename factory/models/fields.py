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
    """A list of blocks' indices."""


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


Field = Sliced | Renumbered | Keyed | Leading | EveryNth | Behind | Unmovable

_PATTERNS = (
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "layer_switch",
    "order_of_interleaved_layers",
    "global_attn_every_n_layers",
)
# In the order in which they are rewritten: an EveryNth adds to a list that is renumbered behind it.
FIELDS: Mapping[str, Field] = {
    "layer_types": Sliced(replaces=_PATTERNS),
    "mlp_layer_types": Sliced(),
    "layers_block_type": Sliced(),
    "no_rope_layers": Sliced(replaces=("no_rope_layer_interval",)),
    "per_layer_config": Keyed(),
    "decoder_sparse_step": EveryNth(exceptions="mlp_only_layers"),
    "mlp_only_layers": Renumbered(),
    "full_attn_idxs": Renumbered(),
    "first_k_dense_replace": Leading(),
    "num_dense_layers": Leading(),
    "max_window_layers": Leading(),
    "num_nextn_predict_layers": Behind(),
    "num_kv_shared_layers": Unmovable("blocks read the keys and values of other blocks"),
    "scale_attn_by_inverse_layer_idx": Unmovable("every block divides its attention by its own index"),
}
# What transformers' base config class knows for every family, though few write it.
EVERYWHERE = ("layer_types", "mlp_layer_types", "per_layer_config")
