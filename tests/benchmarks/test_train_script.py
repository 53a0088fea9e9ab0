"""The training benchmark runs, and its ways do the same work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real rows are not beside the repository (../shared/data)")
def test_the_ways_agree_in_small() -> None:
    command = [sys.executable, str(ROOT / "tests/benchmarks/train.py"), "--data", str(DATA), "--size", "tiny"]
    command += ["--rows", "12", "--rounds", "1", "--threads", "1", "--processes", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    table = [line.strip("|").split("|") for line in ended.stdout.splitlines() if line.startswith("| ")]
    apart = {cells[0].strip(): float(cells[-1]) for cells in table[1:]}
    assert list(apart) == ["factory", "factory, 2", "TRL, defaults", "TRL, float32"]
    assert apart["factory, 2"] < 1e-3 and apart["TRL, float32"] < 1e-3 and apart["TRL, defaults"] < 1e-2
