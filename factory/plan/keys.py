"""The key of an artifact: one hash of all that decides it. plan.py names steps with it.

Two models under one name never share scores: an input counts by the hash of its content (of a model: its
weights, its config and every tokenizer file) or by its Hub commit, never by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from factory.stages import Frozen, load

KEY_LENGTH = 16  # hex digits


@lru_cache
def libraries(stage: str) -> dict[str, str]:
    """The versions of the distributions that decide what a stage makes."""
    return {name: metadata.version(name) for name in sorted(load(stage).LIBRARIES)}


def stage_key(stage: str, settings: Frozen, inputs: Mapping[str, str]) -> str:
    """The key of what a stage makes.

    Args:
        stage: one of `factory.stages.NAMES`.
        settings: of that stage's `Settings` type.
        inputs: by role, the fingerprint of an outside source, or the key of another artifact.
    """
    facts = {
        "stage": stage,
        "version": load(stage).VERSION,
        # What decides only how fast or where the work is done may be changed without losing the artifact.
        "settings": settings.model_dump(mode="json", exclude=getattr(load(stage), "KEYLESS", None)),
        "inputs": inputs,
        "libraries": libraries(stage),
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
