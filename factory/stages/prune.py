"""Prune: the base without the blocks that matter least. Follows importance; train starts from it.

Removes the blocks that the metric chooses (`factory/metrics/choice.py`), or those that the recipe names, and
reconnects the stream. The checkpoint is copied as byte ranges; no model is built (`models/surgery.py`).
Then the result is loaded and proved to be the base without those blocks (`models/proof.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from factory.errors import FactoryError
from factory.metrics.choice import Chosen, choose
from factory.models.architectures import architecture_of
from factory.models.beyond import resolved
from factory.models.blocks import in_words
from factory.models.checkpoint import read_config
from factory.models.proof import Proof, prove
from factory.models.surgery import Dropped, drop_blocks
from factory.stages import Frozen, Progress

VERSION = 5
# They read the config that is rewritten, and the proof holds for what they do.
LIBRARIES = ("torch", "transformers")


class Settings(Frozen):
    """What a person chose.

    Attributes:
        drop: how many blocks to remove, or which ones (0-based).
        exclude: how many blocks at the beginning and at the end are not chosen.
        proof: whether the result is proved.
    """

    drop: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...]
    exclude: tuple[int, int] = (0, 0)
    proof: bool = True


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/, a stock folder without the chosen blocks.

    Args:
        settings: see `Settings`.
        inputs: `base`, a stock model folder; `importance`, that stage's artifact, where blocks are chosen.
        out: receives model/.
        progress: told the megabytes copied, then the steps of the proof.

    Returns:
        The removed blocks (as a list and in words), metric and figure by which they were chosen (None where
        the recipe names them), parameters before and after, keys of config.json that were left out, and
        what the proof compared.

    Raises:
        FactoryError: a drop that leaves no block, a model whose blocks cannot be removed safely, or a result
            that is not the base without those blocks.
    """
    metric, chosen = None, None
    if isinstance(settings.drop, int):
        table = json.loads((inputs["importance"] / "importance.json").read_text(encoding="utf-8"))
        metric, chosen = table["metric"], _chosen(table, settings, inputs["base"])
    gone = chosen.blocks if chosen else settings.drop
    assert isinstance(gone, tuple)
    sizes, proof = cut(inputs["base"], out / "model", gone, settings.proof, progress)
    blocks = len(sizes.blocks) + len(sizes.kept)
    return {
        "blocks": list(sizes.blocks),
        "of": blocks,
        "metric": metric,
        "score": chosen.score if chosen else None,
        "parameters": {"base": sizes.base_parameters, "pruned": sizes.pruned_parameters},
        "files": {"carried": list(sizes.carried), "left": list(sizes.left)},
        "left_out": list(sizes.left_out),
        "proof": proof.facts(),
        "sentence": in_words(sizes.blocks, blocks),
    }


def _chosen(table: Mapping[str, Any], settings: Settings, base: Path) -> Chosen:
    assert isinstance(settings.drop, int)
    try:
        return choose(table, settings.drop, settings.exclude)
    except FactoryError as error:
        raise FactoryError(error.what, where=str(base), mend=error.mend) from None


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
    config = read_config(base)
    row = architecture_of(config, base)
    if not proved and not row.listed:
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
        progress(len(steps) - 1, max(2, len(steps)), "parts of the proof", note)

    if proved:  # what transformers refuses it refuses before a byte is copied
        resolved(config, base)
    shutil.rmtree(target, ignore_errors=True)
    try:
        dropped = drop_blocks(base, target, drop, copied=copied)
        return dropped, prove(base, target, dropped.kept, told) if proved else Proof("off")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
