"""A command that is told to end: what it had begun is gone, and it says what is true of a second start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factory.cli import call
from factory.run.ending import Ended, orderly

# `factory prune` with a proof that never comes to an end.
SLOW = """
import sys, time
from factory import cli
from factory.stages import prune
def waits(*arguments):
    print("proving", flush=True)
    time.sleep(60)
prune.prove = waits
sys.exit(cli.call(sys.argv[1:]))
"""


def started(model: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, "prune", str(model), "--drop", "5", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "proving\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGTERM, 143, "error: ended by SIGTERM. Nothing was written: the same command starts over."),
        (signal.SIGHUP, 129, "error: ended by SIGHUP. Nothing was written: the same command starts over."),
        (signal.SIGINT, 130, "error: interrupted. Nothing was written: the same command starts over."),
    ],
)
def test_it_leaves_nothing(
    number: signal.Signals, code: int, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    process = started(tiny_model, tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / ".out.partial" / "model" / "model.safetensors").exists()
    process.send_signal(number)
    _, errors = process.communicate()
    assert (process.returncode, errors.splitlines()[-1]) == (code, says)
    assert list(tmp_path.iterdir()) == []


def test_what_no_command_can_clear_away_is_named_by_the_next(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, living = started(tiny_model, tmp_path / "first"), started(tiny_model, tmp_path / "living")
    try:
        first.kill()
        first.wait()
        (tmp_path / ".other.partial").mkdir()  # somebody else's: there is no model in it
        assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "second"), "--no-proof"]) == 0
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
        left = tmp_path / ".first.partial"
        assert warnings == [f"warning: {left}: a killed command left this (0 MB). Remove it."]
        assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "first"), "--no-proof"]) == 0
        assert "warning" not in capsys.readouterr().err and not left.exists()
    finally:
        living.terminate()
        living.communicate()
        first.communicate()


def test_a_signal_that_is_ignored_stays_ignored_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with orderly():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Ended) as ended, orderly():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert (ended.value.exit_code, signal.getsignal(signal.SIGTERM)) == (143, handler)
