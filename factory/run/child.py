"""One stage in one child process, between make.py (which asks and waits) and the stages (which work).

Stages must not share a process: one switches gradients off, another wants its own launcher, and all of
them load libraries the command line must not wait for. `run_stage` starts the process, sends it the work,
hands its progress on and returns what it found. Three promises:

- The child dies when its parent dies, however the parent dies, and takes its own children along. A
  watcher process waits on a pipe that only the parent holds open; on Linux the kernel also sends SIGKILL.
- The child inherits the lock of the artifact it writes (`hold`), so nobody can take that lock while an
  orphan is still alive.
- Whatever a library prints goes to a log file. Progress, result and error come over a pipe of their own,
  one JSON object a line.

A stage may be asked to run in several processes at once: ranks.py starts those, with the same promises.
Here is the parent's side; boot.py and inside.py are the child's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.stages import Frozen, Progress

# The child looks for modules exactly where its parent does, and never in a working folder that happens
# to hold a `datasets.py` (-P).
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from factory.run.boot import main; main()"
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class ChildFailed(Exception):  # noqa: N818 - named as its sibling StageFailed
    """A stage broke. `str()` is one line; the child's traceback, if it could tell it, is a note."""

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line)
        if details:
            self.add_note(details)


class Killed(ChildFailed):
    """One of several processes was killed; what the others say after that is not the cause."""


class DiskFull(ChildFailed):
    """A stage broke because nothing more could be written."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The stage was ended because `stop` was set."""


@dataclass(frozen=True)
class Work:
    """What the child is told: which module's `run`, on what, where to write, in how many processes."""

    module: str
    settings: str
    inputs: dict[str, str]
    out: str
    hold: tuple[int, ...]
    processes: int = 1


@dataclass(frozen=True)
class Result:
    """What the child tells at the end; `peak_memory` in bytes, of each process in the order of ranks."""

    facts: dict[str, Any]
    machine: dict[str, Any]
    peaks: tuple[int, ...]

    @property
    def peak_memory(self) -> int:
        """Of all its processes together, in bytes; they share pages, so this is the most it can be."""
        return sum(self.peaks)


def run_stage(
    module: str,
    settings: Frozen,
    inputs: Mapping[str, Path],
    out: Path,
    progress: Progress,
    *,
    log: Path,
    threads: int = 1,
    processes: int = 1,
    hold: Sequence[int] = (),
    stop: threading.Event | None = None,
) -> Result:
    """Run `module.run(settings, inputs, out, progress)` in a process of its own and wait for it.

    Args:
        module: dotted name of a stage module.
        settings: an instance of the module's `Settings`; it travels as JSON.
        inputs: folder by role.
        out: existing folder to write into.
        progress: called in this thread whenever the stage reports.
        log: file that receives everything the child prints; replaced.
        threads: how many threads the numeric libraries of each process may use.
        processes: how many run the stage together; more than one are started by torchrun.
        hold: file descriptors of locks that must live as long as the child.
        stop: when set, the child and its children are killed.

    Raises:
        FactoryError: raised by the stage itself.
        DiskFull: the stage could not write any more.
        ChildFailed: any other error of the stage, or a death without a word.
        Stopped: `stop` was set.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    places = {role: str(path) for role, path in inputs.items()}
    work = Work(module, settings.model_dump_json(), places, str(out), tuple(hold), processes)
    command = [sys.executable, "-P", "-c", _BOOT]
    control_read, control_write = os.pipe()
    events_read, events_write = os.pipe()
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, str(control_read), str(events_write), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(control_read, events_write, *hold),
                start_new_session=True,  # Ctrl-C is the parent's to handle; and the group can be killed whole
                env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "PYTHONUNBUFFERED": "1"},
            )
    except BaseException:
        os.close(control_write)
        os.close(events_read)
        raise
    finally:
        os.close(control_read)
        os.close(events_write)
    try:
        with contextlib.suppress(BrokenPipeError):  # it died already: its exit code tells below
            write_all(control_write, json.dumps(asdict(work)).encode() + b"\n")
        last: dict[str, Any] = {}
        peaks: dict[int, int] = {}
        for message in _messages(events_read, stop):
            if "progress" in message:
                progress(*message["progress"])
            elif "peak_memory" in message:
                peaks[message["rank"]] = message["peak_memory"]
            elif not last or message.get("cause"):  # what the others say after the first follows from it
                last = message
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its group keeps its id
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # after an exception here, or a child's stray children
        os.close(control_write)
        os.close(events_read)
        code = process.wait()
    return _conclude(last, peaks, code, log)


def _conclude(last: Mapping[str, Any], peaks: Mapping[int, int], code: int, log: Path) -> Result:
    if "result" in last:
        return Result(**last["result"], peaks=tuple(peaks[rank] for rank in sorted(peaks)))
    if "user" in last:
        raise FactoryError(last["user"]["what"], where=last["user"]["where"], mend=last["user"]["mend"])
    if "error" in last:
        raise (DiskFull if last["full"] else ChildFailed)(last["error"], last["details"])
    if code < 0:
        reason = f"killed by {signal.Signals(-code).name}"
        raise ChildFailed(reason + (" (out of memory?)" if -code == signal.SIGKILL else ""))
    raise ChildFailed(_last_line(log) or f"ended with exit code {code}")


def _messages(descriptor: int, stop: threading.Event | None) -> Iterator[dict[str, Any]]:
    """JSON objects as they arrive, until the writing end is closed."""
    rest = b""
    while True:
        if stop is not None and stop.is_set():
            raise Stopped
        if not select.select([descriptor], [], [], 0.2)[0]:
            continue
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def write_all(descriptor: int, data: bytes) -> None:
    """All of it: a pipe may take a part at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that the disk is full.

    Libraries written in Rust or C++ give no error number, only the words.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
