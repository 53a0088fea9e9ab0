"""Copies ranges of bytes from file to file the fastest way that the machine has.

Stands under surgery.py. copy_file_range(2) lets the file system share or move the bytes itself; sendfile(2)
at least spares the way through this process; a buffer works everywhere. What a file system refuses once is
not asked again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import BinaryIO

from factory.errors import FactoryError

AT_ONCE = 64 * 2**20  # bytes a call, so that progress moves and an interruption is heard
BUFFER = 4 * 2**20


class Copier:
    """Appends byte ranges to files.

    Args:
        copied: called with the bytes copied so far, in all calls together.
    """

    def __init__(self, copied: Callable[[int], None]) -> None:
        self._copied, self._done = copied, 0
        self._ways = [way for name, way in _WAYS if hasattr(os, name)]

    def append(self, origin: BinaryIO, offset: int, size: int, target: BinaryIO) -> None:
        """Copies `size` bytes at `offset` of `origin` to the end of `target`, which has nothing buffered.

        Raises:
            FactoryError: `origin` ends before.
        """
        source, sink = origin.fileno(), target.fileno()
        place = os.lseek(sink, 0, os.SEEK_END)
        left = size
        while left:
            count = self._once(source, sink, min(left, AT_ONCE), offset, place)
            if not count:
                raise FactoryError(
                    "the file was cut short while it was read",
                    where=str(origin.name),
                    mend="Fetch the model again",
                )
            offset, place, left, self._done = offset + count, place + count, left - count, self._done + count
            self._copied(self._done)

    def _once(self, source: int, sink: int, count: int, offset: int, place: int) -> int:
        while self._ways:
            try:
                if moved := self._ways[0](source, sink, count, offset, place):
                    return moved
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
            # Refused, or (as some file systems answer instead) nothing moved: from now on the next way.
            del self._ways[0]
        return _buffer(source, sink, min(count, BUFFER), offset, place)


_REFUSALS = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def _copy_file_range(source: int, sink: int, count: int, offset: int, place: int) -> int:
    return os.copy_file_range(source, sink, count, offset, place)


def _sendfile(source: int, sink: int, count: int, offset: int, place: int) -> int:
    os.lseek(sink, place, os.SEEK_SET)
    return os.sendfile(sink, source, offset, count)


_WAYS = (("copy_file_range", _copy_file_range), ("sendfile", _sendfile))


def _buffer(source: int, sink: int, count: int, offset: int, place: int) -> int:
    chunk = os.pread(source, count, offset)
    view = memoryview(chunk)
    while view:
        written = os.pwrite(sink, view, place)
        view, place = view[written:], place + written
    return len(chunk)
