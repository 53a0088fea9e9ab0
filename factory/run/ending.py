"""Ends a command that is told to stop as it ends when it is done: what it began is cleared away.

Around the long commands on a single model (commands/model.py). SIGINT is an exception in Python already.
SIGTERM (a scheduler's time limit, `kill`) and SIGHUP (a lost connection) are not: unhandled they end the
process where it stands, and whatever it was writing stays.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """The command was told to end; its exit code is 128 and the signal's number, as a shell says it."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.name = signal.Signals(number).name


@contextmanager
def orderly() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise `Ended`, once; a signal that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be handled
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in SIGNALS:  # clearing away is not to be cut short by a second one
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
