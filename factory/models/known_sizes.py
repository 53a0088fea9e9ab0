"""The sizes of models that were taken apart before: anatomy.py's answers, kept in the user's cache folder.

A `Sizes` follows from a config, from transformers and from anatomy's own code; importing transformers' models
takes seconds, longer than all else that `factory plan` does. So an answer is kept by these three.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from factory.models.sizes import Sizes
from factory.remembered import Remembered

_KNOWN = Remembered("sizes.json", 200)
_CODE = ("anatomy.py", "beyond.py", "sizes.py")
_SIZES = TypeAdapter(Sizes)


def sizes_of(config: Mapping[str, Any], where: Path) -> Sizes:
    """As `anatomy`, without taking apart a model again that is known.

    Raises:
        FactoryError: as there.
    """
    key = _key(config)
    try:
        return _SIZES.validate_json(json.dumps(_KNOWN.get(key)), strict=True)
    except ValidationError:  # not known, or somebody wrote into the file
        from factory.models.anatomy import anatomy

        found = anatomy(config, where)
        _KNOWN.put(key, _SIZES.dump_python(found, mode="json"))
        return found


def _key(config: Mapping[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(f"{_code()}\0{metadata.version('transformers')}\0{text}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """A hash of what answers: whoever mends it gets new answers."""
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()
