"""Logits at chosen tokens alone: the backbone reads a batch once, and the head sees what is asked of it.

Under reader.py. A whole batch's logits are the largest thing there is (128,000 numbers a token, say), and in
a chat those of the prompt are for nothing. `logits_to_keep` takes the last positions of all texts alike; so
the model's own forward is run over states that its backbone gave before, the backbone passed by: what stands
behind it (head, scale, cap) stays the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from factory.errors import FactoryError


def at(
    model: Any, ids: torch.Tensor, texts: torch.Tensor, places: torch.Tensor
) -> Callable[[slice], torch.Tensor]:
    """Reads a batch; what comes back gives the logits at some of the chosen places.

    Args:
        model: a loaded causal language model.
        ids: token ids (texts, tokens), padded on the right, where a causal model does not look.
        texts: of each chosen place its text in the batch, (places,).
        places: its position there, (places,).

    Returns:
        A function of a slice of the places: logits in float32, (places, vocabulary).

    Raises:
        FactoryError: from that function, where the model's forward does not go through its backbone.
    """
    backbone = model.base_model
    if backbone is model:
        backbone = model.get_decoder()
    given = backbone(input_ids=ids, use_cache=False, return_dict=True)
    kind, states = type(given), given.last_hidden_state[texts, places]
    del given

    def logits(some: slice) -> torch.Tensor:
        chosen, passed = states[None, some], []

        def forward(*args: Any, **kwargs: Any) -> Any:
            passed.append(True)
            return kind(last_hidden_state=chosen)

        backbone.forward = forward
        try:
            found = model(input_ids=ids.new_zeros(chosen.shape[:2]), use_cache=False, return_dict=True).logits
        finally:
            vars(backbone).pop("forward", None)
        if not passed:
            what = f"models of type {model.config.model_type} cannot be read token by token"
            mend = "Use a model of another family"
            raise FactoryError(what, where=str(model.config.name_or_path), mend=mend)
        return found[0].float()  # type: ignore[no-any-return]

    return logits


def width(*models: Any) -> int:
    """How many logits the model with the most of them gives a token."""
    return max(model.config.get_text_config().vocab_size for model in models)
