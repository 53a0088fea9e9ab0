"""The evaluation benchmark runs, and its sides agree."""

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
def test_the_sides_agree_in_small() -> None:
    command = [sys.executable, str(ROOT / "tests/benchmarks/evaluate.py"), "--data", str(DATA)]
    command += ["--size", "tiny", "--documents", "2", "--parts", "ARC-25", "--sides", "factory", "lighteval"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (pair,) = [line for line in ended.stdout.splitlines() if line.startswith("| factory, lighteval")]
    _, far, flips = [cell.strip() for cell in pair.strip("|").split("|")]
    assert float(far) < 1e-4 and flips == "0 of 2"
