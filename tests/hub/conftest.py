"""Fixtures of the Hub's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boards
import card_runs
import pytest
import tiny_run
from local_hub import Served, served

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    """A local Hub without repositories."""
    with served(tmp_path / "hub") as one:
        yield one


@pytest.fixture(scope="session")
def finished_recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run beside it, in `runs`, is at its end."""
    return tiny_run.make(tmp_path_factory.mktemp("finished"), tiny_model)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of recipes/quickstart.yaml, which takes minutes.

    FACTORY_QUICKSTART names the --runs-dir where it was made already: what is up to date is not made again.
    """
    made = os.environ.get("FACTORY_QUICKSTART")
    runs = Path(made).absolute() if made else tmp_path_factory.mktemp("quickstart") / "runs"
    command = [sys.executable, "-m", "factory.cli", "run", "recipes/quickstart.yaml", "--runs-dir", str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return runs / "quickstart"


@pytest.fixture
def desk(tmp_path: Path, hub: Served, finished_recipe: Path) -> tiny_run.Desk:
    """A finished run of one's own and a Hub."""
    return tiny_run.Desk.at(tmp_path, hub, finished_recipe)


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run of six models."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    card_runs.build(runs, tiny_model)
    return runs


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a leaderboard's page with these models."""
    out = tmp_path_factory.mktemp("built") / "out"
    boards.build(out, runs)
    return out / "page"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with boards.browser() as one:
        yield one
