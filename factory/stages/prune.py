"""Prune: the base without the run of blocks that matters least. Follows importance; train starts from it.

Removes the `drop` contiguous blocks whose angular distance is smallest and reconnects the stream. The
checkpoint is copied block by block; no model is built (`models/checkpoint.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.errors import FactoryError
from factory.models.checkpoint import drop_blocks
from factory.stages import Frozen, Progress
from factory.wording import blocks_of, counted

VERSION = 1
LIBRARIES: tuple[str, ...] = ()


class Settings(Frozen):
    """What a person chose: `drop`, the number of blocks to remove."""

    drop: int = Field(ge=1)


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/, a stock folder without the chosen blocks.

    Args:
        settings: see `Settings`.
        inputs: `base`, a stock model folder; `importance`, that stage's artifact.
        out: receives model/.
        progress: told the megabytes copied.

    Returns:
        The removed blocks (half-open, and as a sentence), their distance, parameters before and after.

    Raises:
        FactoryError: a drop that leaves no block, or a family whose blocks cannot be removed safely.
    """
    table = json.loads((inputs["importance"] / "importance.json").read_text(encoding="utf-8"))
    blocks: int = table["blocks"]
    if settings.drop >= blocks:
        raise FactoryError(
            f"{counted(settings.drop, 'block')} cannot be removed from {blocks}",
            where=str(inputs["base"]),
            mend=f"Set prune.drop to a number from 1 to {blocks - 1}",
        )
    start, stop = least_important(table["distances"], settings.drop)

    def copied(done: int, total: int) -> None:
        progress(done // 10**6, total // 10**6, "MB")

    target = out / "model"
    if target.exists():  # half a copy, of a step that was interrupted
        shutil.rmtree(target)
    sizes = drop_blocks(inputs["base"], target, start, stop, copied=copied)
    return {
        "blocks": [start, stop],
        "of": blocks,
        "distance": table["distances"][settings.drop - 1][start],
        "parameters": {"base": sizes.base_parameters, "pruned": sizes.pruned_parameters},
        "sentence": blocks_of(start, stop, blocks),
    }


def least_important(distances: Sequence[Sequence[float]], drop: int) -> tuple[int, int]:
    """The run [start, stop) of `drop` blocks with the smallest distance; the first one of equals.

    Args:
        distances: `distances[n - 1][start]`, as importance writes it.
        drop: number of blocks, at most `len(distances)`.
    """
    row = distances[drop - 1]
    start = min(range(len(row)), key=row.__getitem__)
    return start, start + drop
