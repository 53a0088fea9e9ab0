"""The child's side of child.py: it does a stage's work and tells the parent, and does not outlive it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from factory import machine
from factory.errors import FactoryError
from factory.run.child import ChildFailed, Killed, Work, is_disk_full, write_all

_PROGRESS_SECONDS = 0.1  # a stage may report every row; the parent need not hear of each
_AT_ONCE = select.PIPE_BUF  # bytes that several writers can put into one pipe without mixing them


def perform(work: Work, teller: Teller, rank: int = 0) -> None:
    """Do the work and tell what came of it; of several processes the first one speaks for all."""
    module = importlib.import_module(work.module)
    settings = module.Settings.model_validate_json(work.settings)
    inputs = {role: Path(path) for role, path in work.inputs.items()}
    found = module.run(settings, inputs, Path(work.out), _silent if rank else teller.progress)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    teller.tell({"peak_memory": peak, "rank": rank})
    if rank == 0:
        teller.tell({"result": {"facts": found, "machine": machine.facts()}})


def finish(teller: Teller, task: Callable[[Teller], None]) -> NoReturn:
    """Do a task, tell the parent what went wrong if anything did, and end this process."""
    try:
        task(teller)
        code = 0
    except FactoryError as error:
        teller.tell({"user": {"what": error.what, "where": error.where, "mend": error.mend}})
        code = 2
    except BaseException as error:
        details = traceback.format_exc()
        sys.stderr.write(details)
        message = {"error": _one_line(error), "full": is_disk_full(error), "cause": isinstance(error, Killed)}
        room = _AT_ONCE - len(json.dumps({**message, "details": ""})) - 1
        while len(json.dumps(details)) > room:  # its end says most
            details = details[len(details) // 8 + 1 :]
        teller.tell({**message, "details": details})
        code = 1
    with contextlib.suppress(OSError):  # a full disk must not turn into another error here
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # all is said and written: no need to wait for libraries to take themselves down


def _silent(done: int, total: int, unit: str, note: str = "") -> None:
    """The progress of a process that is not the first of several."""


def _one_line(error: BaseException) -> str:
    if isinstance(error, ChildFailed):  # one line already
        return str(error)
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return text if len(text) <= 300 else text[:297] + "..."


def read_line(channel: BinaryIO) -> bytes:
    """What the parent says; without it there is nothing to do."""
    line = channel.readline()
    if not line.endswith(b"\n"):
        os._exit(1)  # the parent died while it was talking
    return line


def die_with_parent(control: int, events: int) -> None:
    """Start the watcher: when the parent's end of `control` closes, this whole process group is killed.

    A process and not a thread: a library that holds the interpreter's lock cannot delay it. Called while
    there is one thread and no library loaded, where forking is safe and cheap.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    alive_read, alive_write = os.pipe()
    if os.fork():
        os.close(alive_read)  # alive_write stays open for as long as this process lives
        return
    os.close(alive_write)
    os.close(events)  # or the parent would never see the end of the events
    select.select([control, alive_read], [], [])
    os.killpg(0, signal.SIGKILL)


class Teller:
    """Writes to the parent, from whichever thread of the stage."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._last = 0.0

    def tell(self, message: dict[str, Any]) -> None:
        """One message, as a line."""
        with self._lock:
            write_all(self._events, json.dumps(message).encode() + b"\n")

    def progress(self, done: int, total: int, unit: str, note: str = "") -> None:
        """As `Progress`; what comes too soon after the last is left out, but for the end."""
        now = time.monotonic()
        if done >= total or now - self._last >= _PROGRESS_SECONDS:
            self._last = now
            self.tell({"progress": [done, total, unit, note]})
