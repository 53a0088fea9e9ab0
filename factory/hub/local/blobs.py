"""The contents that the local Hub keeps, by their sha256. Under storage.py, whose commits name them.

A content arrives in a file of its own and is renamed to its place once all of it is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from factory.run.store import synced, write_atomically

_CHUNK = 1 << 20


class MissingError(LookupError):
    """No such repository, revision or blob; the argument says which."""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Blobs:
    """Contents by their sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / "incoming" / str(os.getpid())
        for left in (folder / "incoming").glob("*"):
            if not _alive(int(left.name)):  # a process that was killed leaves what it had received
                shutil.rmtree(left, ignore_errors=True)
        self._incoming.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the content is, or would be."""
        return self.folder / sha256[:2] / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        """Whether the content is here, with that many bytes."""
        try:
            found = self.path(sha256).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def incoming(self) -> Path:
        """A new file's path for a content on its way."""
        return self._incoming / uuid.uuid4().hex

    def take(self, received: Path, sha256: str) -> None:
        """Moves a whole file, synced by its writer, to where its content belongs."""
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        received.replace(target)
        synced(target.parent)

    def add(self, content: bytes) -> str:
        """Stores a small content; its sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has(sha256, len(content)):
            received = self.incoming()
            write_atomically(received, content)
            self.take(received, sha256)
        return sha256

    def add_file(self, path: Path) -> tuple[str, int]:
        """Stores a copy of a file; its sha256 and size."""
        received, digest, size = self.incoming(), hashlib.sha256(), 0
        with path.open("rb") as source, received.open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        self.take(received, digest.hexdigest())
        return digest.hexdigest(), size

    def open(self, sha256: str) -> BinaryIO:
        """The content.

        Raises:
            MissingError: it is not here.
        """
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            raise MissingError(f"no content {sha256}") from None

    def read(self, sha256: str) -> bytes:
        """A small content, whole."""
        with self.open(sha256) as file:
            return file.read()
