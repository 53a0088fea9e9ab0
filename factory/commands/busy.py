"""A sign of life before a run's display begins, for what takes seconds and cannot be counted.

Apart from display.py, which costs a tenth of a second to import: a short command should not pay that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """A spinner with words on the terminal, gone when the body ends; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(doing, style="dim")):
        yield
