"""Whether two models have one vocabulary: what whoever compares them token id by token id needs.

Asked when a recipe is planned, where both models are at hand, and by the stages draft and drift. Nothing is
imported but for models that have no tokenizer.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from factory.models import load


def tokens(folder: Path) -> dict[str, int]:
    """A model folder's tokens with their ids, added ones included.

    Raises:
        FactoryError: the folder has no readable tokenizer.
    """
    try:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):  # of Unigram models: (token, score), ids by place
            vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
        return {**vocabulary, **{one["content"]: one["id"] for one in content.get("added_tokens") or ()}}
    except (OSError, ValueError, KeyError, TypeError):  # another format: transformers reads them all
        found: dict[str, int] = load.tokenizer(folder).get_vocab()
        return found


def difference(one: Path, other: Path) -> str | None:
    """In what the vocabularies of two model folders differ, in a few words; None where they are the same.

    Raises:
        FactoryError: a folder has no readable tokenizer.
    """
    ours, theirs = tokens(one), tokens(other)
    if ours == theirs:
        return None
    if len(ours) != len(theirs):
        return f"one has {len(ours):,} tokens, the other {len(theirs):,}"
    token = min((token for token, id in ours.items() if theirs.get(token) != id), key=lambda t: ours[t])
    at = next((name for name, id in theirs.items() if id == ours[token]), None)
    return f"token {ours[token]} is {token!r} in one and {at!r} in the other"
