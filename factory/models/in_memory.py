"""Removes blocks from a loaded model: the reference of the proof, and made so that it can be one.

A block is removed by letting the stream pass by it. Every other block keeps its place in the list, the mask
and the settings that the unchanged config of the base gives it, so this knows nothing of how a config is
rewritten, and a mistake there cannot stand on both sides of the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory.models.load import block_list, tuple_length


def remove_in_memory(model: Any, kept: Sequence[int]) -> None:
    """Lets the stream pass by all blocks of a loaded model but the kept ones.

    The passed blocks still enter one empty key into the cache for each token, since some models read the
    number of tokens so far from the cache of their first block.

    Args:
        model: a causal language model with all its blocks.
        kept: the blocks that stay.
    """
    import torch
    from transformers.cache_utils import Cache

    def holds_keys(cache: Cache, index: int) -> bool:
        return index >= len(cache.layers) or hasattr(cache.layers[index], "update")

    class Passed(torch.nn.Module):
        def __init__(self, index: int, original: torch.nn.Module) -> None:
            super().__init__()
            self.index = index
            # Some models ask the block itself for its kind before they call it.
            for name, value in vars(original).items():
                if not name.startswith("_") and name != "forward" and name not in vars(self):
                    setattr(self, name, value)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            cache = next((value for value in (*args[1:], *kwargs.values()) if isinstance(value, Cache)), None)
            if cache is not None and holds_keys(cache, self.index):
                empty = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
                cache.update(empty, empty, self.index)
            return (hidden, *[None] * (values - 1)) if values else hidden

    blocks = block_list(model)
    values = tuple_length(model, blocks)
    for index in range(len(blocks)):
        if index not in kept:
            blocks[index] = Passed(index, blocks[index])
