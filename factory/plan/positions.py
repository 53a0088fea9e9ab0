"""How many tokens a model can read at once, against what a recipe wants written: under outside.py.

Config.json alone is looked at; how long prompts are in tokens shows only with a tokenizer and all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.errors import FactoryError

_NAMES = ("max_position_embeddings", "n_positions")  # as config.json calls the longest context


def positions(config: Mapping[str, Any]) -> int | None:
    """The longest context in tokens; None where config.json does not tell."""
    return next((config[name] for name in _NAMES if isinstance(config.get(name), int)), None)


def check_new_tokens(
    config: Mapping[str, Any], model: str, key: str, wanted: int, where: str, prompt: int | None = None
) -> None:
    """Refuses responses that a prompt leaves no room for.

    Args:
        config: of the model.
        model: what the recipe calls it.
        key: of the recipe, that says how long responses may be.
        wanted: what it says.
        where: its line, or that of the prompt's length.
        prompt: how long the prompt is, in tokens; None where nobody says: then it has one at least.

    Raises:
        FactoryError: so it is, with that line.
    """
    longest = positions(config)
    if not longest or wanted + (prompt or 1) <= longest:
        return
    what = f"{key} is {wanted}, but '{model}' has {longest} positions for prompt and response"
    mend = f"Say less than {longest}, by as much as the prompts take"
    if prompt:
        what = f"{key} is {wanted} behind prompts of {prompt} tokens, but '{model}' has {longest} positions"
        mend = f"Let them be {longest} together at most"
    raise FactoryError(what, where=where, mend=mend)
