"""A folder as one tar and back, of one moment even while a stage writes in it: under share.py."""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from factory.errors import FactoryError

Tree = dict[str, tuple[int, int]]
_TRIES = 3  # to copy a folder in which a stage is writing


def tree(folder: Path) -> Tree:
    """Every file with its size in bytes and its time of change in nanoseconds."""
    found: Tree = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):  # the stage took it away
                stat = path.lstat()
                found[path.relative_to(folder).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return found


@contextlib.contextmanager
def packed(folder: Path, beside: Path) -> Iterator[Path | None]:
    """A folder's tar as of one moment, for as long as the context; None where it did not hold still.

    A tar is written over some time, in which a stage may go on writing. The copy is of one moment only if
    nothing changed from its beginning to its end.

    Args:
        folder: what is packed.
        beside: a folder on a disk with room for it.
    """
    with tempfile.TemporaryDirectory(prefix=".shared-", dir=beside) as at:
        tar = Path(at) / "tar"
        for _ in range(_TRIES):
            before = tree(folder)
            try:
                with tarfile.open(tar, "w") as archive:
                    archive.add(folder, ".", filter=_without_owner)
            except OSError as error:  # it went away or grew shorter while it was read; of the latter tarfile
                if error.errno not in (None, errno.ENOENT, errno.ENOTDIR):  # tells without a number
                    raise
                continue
            if tree(folder) == before:
                yield tar
                return
        yield None


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def unpack(tar: Path, folder: Path, name: str) -> None:
    """A tar as a new folder; nothing outside it, no devices, no owners.

    Args:
        tar: the file.
        folder: is made.
        name: of the tar, for a message.

    Raises:
        FactoryError: it is no tar, or holds what does not belong into one.
    """
    folder.mkdir()
    try:
        with tarfile.open(tar) as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        mend = "Remove it there: the step is then made again"
        raise FactoryError(f"what was shared is damaged: {error}", where=name, mend=mend) from error
