"""A stage in several processes: who speaks, who dies when, and that no word is lost or said twice."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import stand_in

from factory.errors import FactoryError
from factory.run.child import ChildFailed, Result, Stopped, run_stage

KILLED = "rank {} of 2 was killed by SIGKILL (out of memory?)"


def start(folder: Path, heard: list[Any] | None = None, stop: Any = None, **settings: Any) -> Result:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    tell = (lambda *report: heard.append(report)) if heard is not None else (lambda *report: None)
    chosen = stand_in.Settings(**settings)
    return run_stage("stand_in", chosen, {}, out, tell, log=folder / "log", processes=2, stop=stop)


def processes(folder: Path) -> list[psutil.Process]:
    """Those that have a folder's name in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(process)
    return found


def wait_for_rows(out: Path) -> None:
    """Until both ranks write."""
    while not all((out / name).exists() for name in ("rows.txt", "rows-1.txt")):
        time.sleep(0.02)


def test_every_rank_works_and_the_first_one_speaks(tmp_path: Path) -> None:
    heard: list[Any] = []
    result = start(tmp_path, heard, rows=3)
    assert result.facts == {"rows": 3, "threads": "1"}
    assert heard[-1] == (3, 3, "rows", "row 2") and len(heard) <= 3
    assert len(result.peaks) == 2 and result.peak_memory == sum(result.peaks) > 2e6
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"rows.txt", "rows-1.txt"} <= written and "ranks" not in written
    assert not processes(tmp_path)


@pytest.mark.parametrize(
    ("rank", "trouble", "kind", "line"),
    [
        pytest.param(
            0, "error", ChildFailed, "ValueError: the numbers do not add up", marks=pytest.mark.slow
        ),
        (1, "error", ChildFailed, "ValueError: the numbers do not add up"),
        (1, "user", FactoryError, "rows.jsonl:7: row 7 has no response. Fill it in."),
        pytest.param(0, "killed", ChildFailed, KILLED.format(0), marks=pytest.mark.slow),
        (1, "killed", ChildFailed, KILLED.format(1)),
        (1, "silent", ChildFailed, "rank 1 of 2 ended with exit code 3"),
    ],
)
def test_the_trouble_of_one_is_one_line_and_ends_all(
    tmp_path: Path, rank: int, trouble: str, kind: type[Exception], line: str
) -> None:
    with pytest.raises(kind) as caught:
        start(tmp_path, trouble=trouble, trouble_rank=rank, rows=10000, pause=0.05)
    assert str(caught.value) == line
    gone(tmp_path)
    other = tmp_path / "out" / ("rows-1.txt" if rank == 0 else "rows.txt")
    assert not other.exists() or len(other.read_text().splitlines()) < 10000


def test_stop_ends_all_at_once(tmp_path: Path) -> None:
    stop = threading.Event()

    def once_all_work() -> None:
        wait_for_rows(tmp_path / "out")
        stop.set()

    threading.Thread(target=once_all_work).start()
    with pytest.raises(Stopped):
        start(tmp_path, stop=stop, rows=10000, pause=0.05)
    gone(tmp_path)


def gone(folder: Path) -> None:
    """Nothing is left, within a minute."""
    until = time.monotonic() + 60
    while left := processes(folder):
        assert time.monotonic() < until, [process.cmdline() for process in left]
        time.sleep(0.05)


KILLED_PARENT = """
import sys
from pathlib import Path
import stand_in
from factory.run.child import run_stage
folder = Path(sys.argv[1])
settings = stand_in.Settings(rows=10000, pause=0.02)
run_stage("stand_in", settings, {}, folder / "out", lambda *r: None, log=folder / "log", processes=2,
          hold=[int(sys.argv[2])])
"""


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["factory", "launcher"])
def test_when_one_above_is_killed_nobody_goes_on_writing(tmp_path: Path, whom: str) -> None:
    (tmp_path / "out").mkdir()
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_PARENT, str(tmp_path), str(lock)]
    parent = subprocess.Popen(command, env=environment, pass_fds=(lock,), stderr=subprocess.DEVNULL)
    os.close(lock)
    wait_for_rows(tmp_path / "out")
    (launcher,) = psutil.Process(parent.pid).children()
    (launcher if whom == "launcher" else parent).send_signal(signal.SIGKILL)
    parent.wait()
    lock = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # given only once every rank is gone: each holds the lock
    os.close(lock)
    before = (tmp_path / "out" / "rows-1.txt").stat().st_size
    time.sleep(0.3)
    assert (tmp_path / "out" / "rows-1.txt").stat().st_size == before
    gone(tmp_path)
