"""A publication under every fault at each request: old or complete for the reader, and a retry ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
OLD = {"README.md": "---\nlicense: mit\n---\n# Old\n", "w.safetensors": "old\0" * 50, "gone.txt": "gone"}
NEW = {"README.md": "---\nlicense: mit\n---\n# New\n", "w.safetensors": "new\0" * 50, "more.json": "{}"}
FLOWS = {"new": (None, NEW), "update": (OLD, NEW)}

INVARIANTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "a reader saw the old repository or the complete new one": lambda case: all(
        seen in FLOWS[case["flow"]] for seen in case["seen"]
    ),
    "in the end it is the new one, and public": lambda case: case["contents"] == NEW and not case["private"],
    "no commit was made twice": lambda case: case["ours"] == 1 + (case["flow"] == "update"),
    "one version a commit, the newest at the head": lambda case: (
        len(case["tags"]) == 1 + (case["flow"] == "update") and sum(case["tags"].values()) == 1
    ),
    "a retry finished it": lambda case: case["failed"][1:] == [False, False],
    "and a third call changed nothing": lambda case: case["changed_again"] is False,
    "every content that a commit names is there": lambda case: case["whole"],
    "no message holds a token": lambda case: not case["leaked"],
    "a message is one line": lambda case: all("\n" not in said for said in case["said"]),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("faults")
    told = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    told |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(folder / "home")}
    paths = [*sys.path, str(HERE)]
    told["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, str(HERE / "fault_table.py"), "12", str(folder)]
    done = subprocess.run(command, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("invariant", INVARIANTS)
def test_under_every_fault(cases: list[dict[str, Any]], invariant: str) -> None:
    assert len(cases) >= 200
    assert sum(case["failed"][0] for case in cases) >= 50  # the faults are felt
    holds = INVARIANTS[invariant]
    told = ("flow", "request", "fault", "said")
    broken = [[case[name] for name in told] for case in cases if not holds(case)]
    assert not broken, "\n".join(map(str, broken))
