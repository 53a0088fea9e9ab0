"""Benchmark rows under their own names and pinned commits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_rows import arc_row, write
from local_hub import Served, served

from factory.hub.local import loading
from factory.tasks.suites import SUITES

ARC = SUITES["openllm_v1"]["arc"]


def rows(folder: Path, first: int = 0) -> Path:
    place = folder / "allenai__ai2_arc" / "ARC-Challenge"
    write([arc_row(i) for i in range(first, first + 6)], place / "test.parquet")
    write([arc_row(i) for i in range(9, 12)], place / "train.parquet")
    return folder


def load(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "factory.cli", "hub", "load", str(folder), "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True)


def test_rows_stand_under_the_commit_that_the_suite_pins(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    done = load(root, rows(tmp_path / "data"))
    assert done.returncode == 0 and done.stdout == "allenai/ai2_arc: 2 files\n"
    with served(root) as hub:
        assert hub.head("allenai/ai2_arc", "datasets") == ARC.revision
        before = hub.head("allenai/ai2_arc", "datasets")
        assert load(root, tmp_path / "data").returncode == 0
        assert hub.head("allenai/ai2_arc", "datasets") == before


def test_other_rows_under_a_pinned_commit_are_refused(tmp_path: Path) -> None:
    load(tmp_path / "hub", rows(tmp_path / "data"))
    done = load(tmp_path / "hub", rows(tmp_path / "more", first=50))
    assert done.returncode == 2 and "with other rows" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_folder_without_datasets_is_refused(tmp_path: Path) -> None:
    done = load(tmp_path / "hub", tmp_path)
    assert done.returncode == 2 and "no datasets here" in done.stderr


@pytest.mark.slow
def test_evaluate_takes_model_and_rows_from_it(hub: Served, tmp_path: Path, tiny_model: Path) -> None:
    loading.load(hub.store, rows(tmp_path / "data"), lambda name, files: None)
    home = tmp_path / "home"
    upload = f'api.upload_folder(repo_id="acme/tiny", folder_path={str(tiny_model)!r})'
    code = f'api.create_repo("acme/tiny")\n{upload}'
    hub.client(code, home)
    command = [sys.executable, "-m", "factory.cli", "evaluate", "acme/tiny", "--suite", "openllm_v1"]
    options = ["--tasks", "arc", "--limit", "3", "--shots", "arc=2", "--json", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *options], env=hub.environment("ann", home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["tasks"]["arc"]["n"] == 3
