"""kill -9 in every real stage: the run that went on afterwards gives what an undisturbed run gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small import SMALL

ROOT = Path(__file__).parents[2]
# In the order they are run: of what is ready, what most hangs on comes first. A sweep is a stage of its own
# kind of run: see tests/test_sweep_run.py.
STAGES = ("importance", "curate", "prune", "regenerate", "train", "merge", "drift", "evaluate", "report")
# Fewer models than the quickstart has: a kill costs the start of the step, and there are nine.
VARIANTS = (
    "{math-self: {data: [math], targets: self}, "
    "merged: {merge: linear, of: [math-self, pruned], weights: [1, 1]}}"
)

pytestmark = pytest.mark.slow


def command(runs: Path, jobs: int = 1) -> list[str]:
    overrides = [part for setting in (*SMALL, f"variants={VARIANTS}") for part in ("--set", setting)]
    recipe = str(ROOT / "recipes" / "quickstart.yaml")
    # One step at a time where one is killed, so that it is known which.
    options = ["--runs-dir", str(runs), "--json", "--jobs", str(jobs)]
    return [sys.executable, "-m", "factory.cli", "run", recipe, *options, *overrides]


def finish(runs: Path, jobs: int = 1) -> list[str]:
    """Runs to the end; the names of the steps that were made."""
    done = subprocess.run(command(runs, jobs), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [event["step"] for event in events if event["kind"] == "done"]


def kill_in(stage: str, runs: Path) -> str:
    """Kills the run at the first word of progress from a step of `stage`; the step's name."""
    process = subprocess.Popen(command(runs), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["kind"] == "progress" and event["step"].split("/")[0] == stage:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            return event["step"]
    raise AssertionError(f"no step of {stage} was run")


def artifacts(runs: Path) -> dict[str, bytes]:
    """Every file of every artifact but what tells when and how long: records, and the report's times (which
    are also in the names of the results it gives to lighteval)."""
    told = ("record.json", "report.md", "report.json")
    files = sorted(path for path in (runs / "store").glob("*/*/**/*") if path.is_file())
    return {
        str(path.relative_to(runs)): path.read_bytes()
        for path in files
        if path.name not in told
        and not path.name.endswith(".lock")
        and not {"sources", "lighteval"} & set(path.parts)
    }


def records(runs: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (runs / "store").glob("*/*/record.json")}


def models(runs: Path) -> list[dict]:
    return json.loads((runs / "quickstart" / "report.json").read_text())["models"]


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    finish(tmp_path / "undisturbed", jobs=2)
    killed = tmp_path / "killed"
    for stage in STAGES:
        before = records(killed)
        interrupted = kill_in(stage, killed)
        after = records(killed)
        assert before.items() <= after.items(), f"a finished step was made again before {stage}"
        assert interrupted not in {json.loads(record)["name"] for record in after.values()}
    last = finish(killed)
    assert last == ["report"]
    assert artifacts(killed) == artifacts(tmp_path / "undisturbed")
    assert models(killed) == models(tmp_path / "undisturbed")
