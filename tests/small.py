"""The quickstart with few rows and documents: what `--set` makes of it, for tests that run it whole."""

from __future__ import annotations

SMALL = (
    "datasets.math.rows=24",
    "datasets.math.overlap=13",
    "datasets.math.order=random",
    "datasets.instruct.rows=24",
    "prune.calibration.rows=16",
    "train.sft.max_steps=8",
    "evaluate.tasks=[arc, gsm8k]",
    "evaluate.limit=8",
    "drift.rows=6",
    "measure=null",
    "draft=null",
)
