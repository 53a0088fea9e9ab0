"""Prune: the base without the run of blocks that matters least. Follows importance; train starts from it.

Removes the `drop` contiguous blocks whose angular distance is smallest and reconnects the stream. The
checkpoint is copied as byte ranges; no model is built (`models/surgery.py`). Then the result is loaded and
proved to be the base without those blocks (`models/proof.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.errors import FactoryError
from factory.models.architectures import architecture_of
from factory.models.checkpoint import read_config
from factory.models.proof import Proof, prove
from factory.models.surgery import Dropped, drop_blocks
from factory.stages import Frozen, Progress
from factory.wording import blocks_of, counted

VERSION = 2
# They read the config that is rewritten, and the proof holds for what they do.
LIBRARIES = ("torch", "transformers")


class Settings(Frozen):
    """What a person chose: `drop`, the number of blocks to remove; `proof`, whether the result is proved."""

    drop: int = Field(ge=1)
    proof: bool = True


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/, a stock folder without the chosen blocks.

    Args:
        settings: see `Settings`.
        inputs: `base`, a stock model folder; `importance`, that stage's artifact.
        out: receives model/.
        progress: told the megabytes copied, then the steps of the proof.

    Returns:
        The removed blocks (half-open, and as a sentence), their distance, parameters before and after, and
        what the proof compared.

    Raises:
        FactoryError: a drop that leaves no block, a model whose blocks cannot be removed safely, or a result
            that is not the base without those blocks.
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

    sizes, proof = cut(inputs["base"], out / "model", range(start, stop), settings.proof, progress)
    return {
        "blocks": [start, stop],
        "of": blocks,
        "distance": table["distances"][settings.drop - 1][start],
        "parameters": {"base": sizes.base_parameters, "pruned": sizes.pruned_parameters},
        "proof": proof.facts(),
        "sentence": blocks_of(start, stop, blocks),
    }


def cut(
    base: Path, target: Path, drop: Iterable[int], proved: bool, progress: Progress
) -> tuple[Dropped, Proof]:
    """Writes `base` without the blocks in `drop` to `target` and proves it; on an error nothing stays.

    Args:
        base: a stock model folder.
        target: the new folder; what an interrupted step left there is removed first.
        drop: the blocks to remove, 0-based.
        proved: whether to compare the result with the base; a family that is not listed always is.
        progress: told the megabytes copied, then the steps of the proof.

    Raises:
        FactoryError: as `drop_blocks` and `prove`, or no proof is wanted of a family that needs one.
    """
    if not proved and not architecture_of(read_config(base), base).listed:
        raise FactoryError(
            "the proof cannot be switched off for a family that is not listed",
            where=str(base),
            mend="Leave it on: nothing else shows that removing blocks of this model is safe",
        )

    def copied(done: int, total: int) -> None:
        progress(done // 10**6, total // 10**6, "MB")

    steps: list[str] = []

    def told(note: str) -> None:
        steps.append(note)
        progress(len(steps) - 1, 2, "parts of the proof", note)

    shutil.rmtree(target, ignore_errors=True)
    try:
        dropped = drop_blocks(base, target, drop, copied=copied)
        return dropped, prove(base, target, dropped.kept, told) if proved else Proof("off")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def least_important(distances: Sequence[Sequence[float]], drop: int) -> tuple[int, int]:
    """The run [start, stop) of `drop` blocks with the smallest distance; the first one of equals.

    Args:
        distances: `distances[n - 1][start]`, as importance writes it.
        drop: number of blocks, at most `len(distances)`.
    """
    row = distances[drop - 1]
    start = min(range(len(row)), key=row.__getitem__)
    return start, start + drop
