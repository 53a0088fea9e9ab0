"""Fixtures of the Hub's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import Served, served


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    """A local Hub without repositories."""
    with served(tmp_path / "hub") as one:
        yield one
