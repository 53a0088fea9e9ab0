"""The metadata at the top of a README.md: YAML between two lines of three dashes.

Read by data/files.py (which files are which config), by the cards and by the local Hub.
"""

from __future__ import annotations

import re
from typing import Any

_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def split(text: str) -> tuple[str | None, str]:
    """The YAML at the top of a text, None where there is none, and the rest."""
    found = _FRONT.match(text)
    return (found.group(1), text[found.end() :]) if found else (None, text)


def parse(yaml: str) -> Any:
    """What the YAML says.

    Raises:
        ValueError: it is broken; the message is one line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(yaml)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
