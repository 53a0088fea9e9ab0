"""Importance: how much blocks matter, by one of the measures in factory/metrics. First stage; prune follows.

The texts are streamed through the base once (more often where the measure needs it); what is held does
not grow with their number. importance.json is what prune chooses by and what the report shows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.data.rows import TextSpec, iterate_texts
from factory.errors import FactoryError
from factory.metrics import METRICS, Name
from factory.models.architectures import architecture_of, block_count
from factory.models.checkpoint import read_config, stored_tensors
from factory.stages import Frozen, Progress

VERSION = 3
LIBRARIES = ("torch", "transformers", "tokenizers")
LOGITS = 2**27  # numbers in a batch's logits


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the calibration set; of its `rows` texts blank ones do not count.
        max_tokens: texts are cut behind this many tokens, and never longer than the model has positions.
        batch_tokens: bound on the tokens of a batch, padding included; None for the metric's own.
        metric: the measure.
        rounds: of a metric that removes block by block, how many it removes; None for the others.
        exclude: of such a metric, the blocks at the beginning and at the end that stay.
    """

    data: TextSpec
    max_tokens: int = Field(ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    metric: Name = "angular"
    rounds: int | None = Field(default=None, ge=1)
    exclude: tuple[int, int] = (0, 0)


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes importance.json: the metric's figures.

    Args:
        settings: see `Settings`.
        inputs: `base`, a stock model folder; `calibration`, a dataset folder.
        out: receives importance.json.
        progress: told the texts done.

    Returns:
        Rows and tokens read, blocks, and tokens a second.

    Raises:
        FactoryError: as `score`.
    """
    table, seconds = score(settings, inputs, progress)
    (out / "importance.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    facts = {key: table[key] for key in ("rows", "tokens", "blocks")}
    return {**facts, "tokens_per_second": round(table["tokens"] / seconds, 1)}


def score(settings: Settings, inputs: Mapping[str, Path], progress: Progress) -> tuple[dict[str, Any], float]:
    """importance.json's content, and the seconds that the metric took.

    Args:
        settings: see `Settings`.
        inputs: as `run`.
        progress: told the texts done.

    Raises:
        FactoryError: no calibration text, a model that cannot be read, a tokenizer of another model, a
            family that cannot be pruned, or figures that are no numbers.
    """
    from factory.metrics.batches import Texts
    from factory.models import load

    base, metric = inputs["base"], METRICS[settings.metric]
    config = read_config(base)
    row = architecture_of(config, base, [tensor.name for tensor in stored_tensors(base)])
    most = settings.batch_tokens or metric.batch_tokens
    if metric.head:
        most = max(1, min(most, LOGITS // int(config.get("vocab_size") or 1)))
    rounds = _rounds(settings, block_count(config, row, base), base)
    positions, vocabulary = load.limits(config, base)
    # Beyond them a model has no embedding to look up, or gives states that it was never trained for.
    max_tokens = min(settings.max_tokens, positions or settings.max_tokens)
    texts = Texts(
        source=lambda: iterate_texts(inputs["calibration"], settings.data),
        encode=load.tokenizer(base),
        max_tokens=max_tokens,
        batch_tokens=most,
        device=load.device(),
        expected=settings.data.rows,
        least=2 if metric.head else 1,  # a single token predicts nothing
        vocabulary=vocabulary,
    )
    if next(texts.batches(), None) is None:  # before a model is loaded
        least = "two tokens" if metric.head else "a token"
        raise FactoryError(
            f"the model's tokenizer makes {least} of no calibration text",
            where=str(inputs["calibration"]),
            mend="Name a set of texts in the model's language",
        )
    model = load.causal_lm(base) if metric.head else load.backbone(base)
    blocks = load.named_blocks(model, row)
    began = time.perf_counter()
    figures = metric.load()(model, blocks, texts, progress, **rounds)
    seconds = time.perf_counter() - began
    _check(figures, base)
    table = {"metric": settings.metric, "blocks": len(blocks), **figures}
    read = {"rows": texts.rows, "tokens": texts.tokens}
    if max_tokens < settings.max_tokens and texts.longest == max_tokens:
        read["cut_at"] = max_tokens
    return {**table, **read}, seconds


def _rounds(settings: Settings, blocks: int, base: Path) -> dict[str, Any]:
    """Further arguments of a metric that removes block by block."""
    if METRICS[settings.metric].shape != "order":
        return {}
    rounds, room = settings.rounds or 1, blocks - sum(settings.exclude)
    if rounds > min(room, blocks - 1):
        raise FactoryError(
            f"{rounds} of {room} blocks cannot be removed one by one",
            where=str(base),
            mend="Drop or exclude fewer",
        )
    return {"rounds": rounds, "exclude": settings.exclude}


def _check(figures: Mapping[str, Any], base: Path) -> None:
    rows = figures["distances"] if "distances" in figures else [figures["scores"]]
    if not all(math.isfinite(number) for row in rows for number in row):
        raise FactoryError(
            "the model's figures over the calibration texts are not all finite numbers",
            where=str(base),
            mend="Fetch the model again, or use another base",
        )
