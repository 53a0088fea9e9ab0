"""Content hashes of files; large ones are remembered, so that planning over a large model stays instant.

`sources.py` fingerprints local folders with it. Who only checks a recipe needs no hash: `postponed` leaves
large files unread.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from factory.remembered import Remembered

REMEMBERED_FROM = 8 * 2**20  # bytes; below, hashing is faster than looking it up
TOLD_FROM = 2**30  # bytes; seconds of silence above
_HASHES = Remembered("hashes.json", 10_000)
_unread: ContextVar[dict[Path, int] | None] = ContextVar("unread", default=None)


@contextmanager
def postponed() -> Iterator[dict[Path, int]]:
    """Within, a large file whose hash is not remembered is not read, and is told by its size and time.

    Such a hash names no artifact. Where what is yielded stays empty, every hash is the content's.

    Yields:
        The files that were left unread, with their sizes in bytes.
    """
    unread: dict[Path, int] = {}
    token = _unread.set(unread)
    try:
        yield unread
    finally:
        _unread.reset(token)


def file_hash(file: Path) -> str:
    """sha256 of a file's content, in hex; a large file is read again only when its size or times changed.

    That a very large one is read is said on stderr. Within `postponed` see there.

    Raises:
        OSError: the file cannot be read.
    """
    state = file.stat()
    if state.st_size < REMEMBERED_FROM:
        return _digest(file)
    # Who writes can set the time of change back (`cp -p`, `rsync -t`), but not that of the inode.
    key = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}|{state.st_ctime_ns}"
    known = _HASHES.get(key)
    if isinstance(known, str):
        return known
    if (unread := _unread.get()) is not None:
        unread[file] = state.st_size
        return f"unread {key}"
    if state.st_size >= TOLD_FROM:
        told = f"note: {file.name} is read for its hash, {state.st_size / 1e9:.1f} GB; that is remembered"
        print(told, file=sys.stderr, flush=True)
    found = _digest(file)
    _HASHES.put(key, found)
    return found


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_hash(folder: Path, files: Iterable[Path]) -> str:
    """One hash over the names (relative to `folder`) and contents of files; 32 hex digits."""
    lines = sorted(f"{file.relative_to(folder).as_posix()}\0{file_hash(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]
