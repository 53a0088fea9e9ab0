"""Fixtures of the Hub's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_run
from local_hub import Served, served


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    """A local Hub without repositories."""
    with served(tmp_path / "hub") as one:
        yield one


@pytest.fixture(scope="session")
def finished_recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run beside it, in `runs`, is at its end."""
    return tiny_run.make(tmp_path_factory.mktemp("finished"), tiny_model)


@pytest.fixture
def desk(tmp_path: Path, hub: Served, finished_recipe: Path) -> tiny_run.Desk:
    """A finished run of one's own and a Hub."""
    return tiny_run.Desk.at(tmp_path, hub, finished_recipe)
