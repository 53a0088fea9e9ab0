"""Real benchmark rows for tests: where they lie, and as the Hub would give them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from factory.tasks.suites import SUITES, Task

DATA = Path(__file__).parents[2].parent / "shared" / "data"
V1 = SUITES["openllm_v1"]

needs_rows = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real rows are not beside the repository (../shared/data)"
)


def rows(task: Task, split: str, config: str | None = None) -> list[dict[str, Any]]:
    """The rows of a split of a task's dataset, or of its configuration `config`."""
    named = Path(task.dataset)
    folder = named if named.is_absolute() else DATA / task.dataset.replace("/", "__")
    (path,) = folder.glob(f"{config or task.config or '*'}/{split}.parquet")
    return pq.read_table(path).to_pylist()


def v1_draws(scored: int, pool: int, shots: int) -> Iterator[tuple[int, list[int]]]:
    """Indices as v1 walks through a task: the scored row, and its solved examples."""
    generator = random.Random(42)
    order = list(range(scored))
    generator.shuffle(order)
    for index in order:
        yield index, generator.sample(range(pool), shots)


def hub_lookalike(folder: Path) -> Path:
    """A working directory in which `datasets` finds the suite's rows under their Hub ids, offline."""
    for task in V1.values():
        there = DATA / task.dataset.replace("/", "__")
        here = folder / task.dataset
        here.parent.mkdir(parents=True, exist_ok=True)
        here.mkdir()
        lines = ["---", "configs:"]
        for config in sorted(path for path in there.iterdir() if any(path.glob("*.parquet"))):
            (here / config.name).symlink_to(config)
            lines += [f"- config_name: {config.name}", "  data_files:"]
            for file in sorted(config.glob("*.parquet")):
                lines += [f"  - split: {file.stem}", f"    path: {config.name}/{file.name}"]
        (here / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder
