"""Real benchmark rows and a plain model folder go through the whole pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import running, serve_model

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
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "plain-base"
    shutil.copytree(sandbox.model_folder(), folder)
    return folder


def run(base: Path, *options: str) -> Path:
    """The recipe's run folder, after a run into `base`'s folder."""
    recipe = ROOT / "tests" / "real_rows.yaml"
    runs = base.parent / "runs"
    command = [sys.executable, "-m", "factory.cli", "run", str(recipe), "--runs-dir", str(runs)]
    finished = subprocess.run(
        [*command, "--set", f"base.model={base}", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return runs / "real-rows"


@pytest.fixture(scope="module")
def run_folder(base: Path) -> Path:
    return run(base)


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

    # Row 20 asks what a scored question asks.
    real = pq.read_table(DATA / "openai__gsm8k" / "main" / "train.parquet").take([*range(20), *range(21, 25)])
    made = pq.read_table(next((run_folder / "data" / "math").rglob("*.parquet")))
    assert made["instruction"].to_pylist() == real["question"].to_pylist()
    assert made["original"].to_pylist() == real["answer"].to_pylist()


def test_a_server_of_the_same_model_writes_the_same_rows(base: Path, run_folder: Path) -> None:
    import pyarrow.parquet as pq

    pytest.importorskip("fastapi")

    def rows() -> list[dict[str, Any]]:
        return pq.read_table(next((run_folder / "data" / "math").rglob("*.parquet"))).to_pylist()

    here, key = rows(), json.loads((run_folder / "data" / "math" / "record.json").read_text())["key"]
    with running(serve_model(base), base.parent / "serve.log") as url:
        server = f"regenerate.server={{url: {url}/v1, model: {base}}}"
        run(base, "--set", "regenerate.engine=openai", "--set", server, "--only", "regenerate/*")
    assert rows() == here
    assert json.loads((run_folder / "data" / "math" / "record.json").read_text())["key"] != key
