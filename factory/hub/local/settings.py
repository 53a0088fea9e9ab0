"""What a terminal is told so that clients find the local Hub: by `factory hub serve` and the home page."""

from __future__ import annotations

import shlex
from pathlib import Path

TOKEN = "token"  # the file below the Hub's root with the token of the one who rehearses


def settings(endpoint: str, root: Path) -> dict[str, str]:
    """The variables of the environment."""
    token = str((root / TOKEN).resolve())
    return {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN_PATH": token}


def exports(endpoint: str, root: Path) -> list[str]:
    """The same as lines for a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in settings(endpoint, root).items()]
