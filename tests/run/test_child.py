"""A stage in a child process: what travels, what is told, and who dies when."""

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

import pytest
import stand_in

from factory.errors import FactoryError
from factory.run.child import ChildFailed, DiskFull, Result, Stopped, run_stage


def start(folder: Path, heard: list[Any] | None = None, threads: int = 1, **settings: Any) -> Result:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    tell = (lambda *report: heard.append(report)) if heard is not None else (lambda *report: None)
    chosen = stand_in.Settings(**settings)
    return run_stage("stand_in", chosen, {}, out, tell, log=folder / "log", threads=threads)


def beats(path: Path) -> bool:
    """Whether somebody still writes to a file."""
    before = path.stat().st_mtime_ns
    time.sleep(0.3)
    return path.stat().st_mtime_ns != before


def test_returns_facts_and_writes_into_the_folder(tmp_path: Path) -> None:
    result = start(tmp_path, rows=2)
    assert result.facts["rows"] == 2
    assert (tmp_path / "out" / "rows.txt").read_text() == "step 0 0\nstep 1 0\n"
    assert result.peak_memory > 1e6
    assert result.machine["cores"] >= 1


def test_progress_arrives_and_the_last_report_is_never_dropped(tmp_path: Path) -> None:
    heard: list[Any] = []
    start(tmp_path, heard, rows=500)
    assert heard[-1] == (500, 500, "rows", "row 499")
    assert len(heard) < 100  # a report a row would drown the parent


def test_the_child_gets_the_number_of_threads(tmp_path: Path) -> None:
    assert start(tmp_path, threads=3).facts["threads"] == "3"


def test_prints_go_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start(tmp_path)
    assert "step prints something" in (tmp_path / "log").read_text()
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_stage_is_one_line_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed) as caught:
        start(tmp_path, trouble="error")
    assert str(caught.value) == "ValueError: the numbers do not add up"
    assert "Traceback" in caught.value.__notes__[0]
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_users_mistake_found_by_a_stage_arrives_as_such(tmp_path: Path) -> None:
    with pytest.raises(FactoryError) as caught:
        start(tmp_path, trouble="user")
    assert str(caught.value) == "rows.jsonl:7: row 7 has no response. Fill it in."


def test_a_full_disk_is_told_from_other_errors_by_its_words(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        start(tmp_path, trouble="full")


def test_a_death_without_a_word_is_told(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"killed by SIGKILL \(out of memory\?\)"):
        start(tmp_path, trouble="killed")
    with pytest.raises(ChildFailed, match="the library says goodbye"):
        start(tmp_path, trouble="silent")


def test_modules_of_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert start(tmp_path).facts["rows"] == 3


def test_stop_ends_the_child_at_once(tmp_path: Path) -> None:
    stop, rows = threading.Event(), tmp_path / "out" / "rows.txt"
    rows.parent.mkdir()

    def once_it_works() -> None:
        while not (rows.exists() and rows.stat().st_size):
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=once_it_works, daemon=True).start()
    with pytest.raises(Stopped):
        run_stage(
            "stand_in", stand_in.Settings(rows=2000, pause=0.05), {}, tmp_path / "out", lambda *r: None,
            log=tmp_path / "log", stop=stop,
        )  # fmt: skip
    assert not beats(rows)
    assert len(rows.read_text().splitlines()) < 2000


def test_what_a_stage_started_ends_with_it(tmp_path: Path) -> None:
    start(tmp_path, trouble="stray")
    assert not beats(tmp_path / "stray")


KILLED_PARENT = """
import sys
from pathlib import Path
import stand_in
from factory.run.child import run_stage
folder = Path(sys.argv[1])
settings = stand_in.Settings(rows=10000, pause=0.02, trouble="stray")
hold = [int(descriptor) for descriptor in sys.argv[2:]]
run_stage("stand_in", settings, {}, folder / "out", lambda *r: None, log=folder / "log", hold=hold)
"""


def test_when_the_parent_is_killed_nobody_goes_on_writing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    rows, lock = tmp_path / "out" / "rows.txt", os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_PARENT, str(tmp_path), str(lock)]
    parent = subprocess.Popen(command, env=environment, pass_fds=(lock,))
    os.close(lock)
    while not (rows.exists() and rows.stat().st_size):
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    lock = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)  # given only once the child is gone too: it inherited the lock
    os.close(lock)
    assert not beats(rows)
    assert not beats(tmp_path / "stray")
