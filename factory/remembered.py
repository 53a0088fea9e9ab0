"""What was costly to find out and stays true, kept in the user's cache folder: hashes, sizes of models.

hashing.py and models/known_sizes.py keep theirs here, each in a small file of its own. Losing a file, or
having no place for one, costs only the time to find out again.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """The factory's folder in the user's cache; perhaps not there yet.

    Raises:
        RuntimeError: there is no home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "model-factory"


@dataclass(frozen=True)
class Remembered:
    """Values by key, in a file of JSON.

    Attributes:
        file: its name.
        most: values that are kept; of more, the newest.
    """

    file: str
    most: int

    def get(self, key: str) -> Any:
        """The value, or None where nothing is known."""
        return self._known().get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps a value that JSON can hold, if that is possible."""
        with contextlib.suppress(OSError, RuntimeError):
            file = cache_folder() / self.file
            file.parent.mkdir(parents=True, exist_ok=True)
            newest = dict(list({**self._known(), key: value}.items())[-self.most :])
            beside = file.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps(newest), encoding="utf-8")
            beside.replace(file)  # whole or as it was, whoever reads it

    def _known(self) -> dict[str, Any]:
        try:
            found = json.loads((cache_folder() / self.file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RuntimeError):
            return {}
        return found if isinstance(found, dict) else {}
