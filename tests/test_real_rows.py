"""Real benchmark rows and a plain model folder go through the whole pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from factory import sandbox

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the real rows are not beside the repository (../shared/data)"
    ),
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    shutil.copytree(sandbox.model_folder(), folder / "plain-base")
    recipe = ROOT / "tests" / "recipes" / "real_rows.yaml"
    command = [sys.executable, "-m", "factory.cli", "run", str(recipe), "--runs-dir", str(folder / "runs")]
    finished = subprocess.run(
        [*command, "--set", f"base.model={folder / 'plain-base'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return folder / "runs" / "real-rows"


def test_real_rows_are_scored_for_every_model(run_folder: Path) -> None:
    report = json.loads((run_folder / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == [
        "base",
        "pruned",
        "math-sft",
        "math-self",
        "merged",
    ]
    for model in report["models"]:
        assert {task: score["n"] for task, score in model["scores"].items()} == {"arc": 12, "gsm8k": 12}


def test_the_regenerated_rows_keep_the_real_questions(run_folder: Path) -> None:
    import pyarrow.parquet as pq

    real = pq.read_table(DATA / "openai__gsm8k" / "main" / "train.parquet").slice(0, 24)
    made = pq.read_table(next((run_folder / "data" / "math").rglob("*.parquet")))
    assert made["instruction"].to_pylist() == real["question"].to_pylist()
    assert made["original"].to_pylist() == real["answer"].to_pylist()
