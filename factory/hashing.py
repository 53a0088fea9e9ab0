"""Content hashes of files; large ones are remembered, so that planning over a large model stays instant.

`sources.py` fingerprints local folders with it. The memory is a small file in the user's cache folder;
losing it costs only the time to hash again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

REMEMBERED_FROM = 8 * 2**20  # bytes; below, hashing is faster than looking it up
_MOST = 10_000


def _memory_file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "model-factory" / "hashes.json"


def _remembered() -> dict[str, str]:
    try:
        found = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return {}
    return found if isinstance(found, dict) else {}


def _remember(known: dict[str, str]) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        file = _memory_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}")
        newest = dict(list(known.items())[-_MOST:])
        beside.write_text(json.dumps(newest), encoding="utf-8")
        beside.replace(file)


def file_hash(file: Path) -> str:
    """sha256 of a file's content, in hex; a large file is read again only when size or time changed.

    Raises:
        OSError: the file cannot be read.
    """
    state = file.stat()
    if state.st_size < REMEMBERED_FROM:
        return _digest(file)
    key = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    known = _remembered()
    if key not in known:
        known[key] = _digest(file)
        _remember(known)
    return known[key]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_hash(folder: Path, files: Iterable[Path]) -> str:
    """One hash over the names (relative to `folder`) and contents of files; 32 hex digits."""
    lines = sorted(f"{file.relative_to(folder).as_posix()}\0{file_hash(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]
