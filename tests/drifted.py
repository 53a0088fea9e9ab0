"""Artifact folders of the stage drift as it leaves them, beside those of reported.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from reported import ROWS, record

from factory import parquet
from factory.drift.figures import Rows, figure, perplexity
from factory.stages.drift import FIGURES

DATASETS = ("math", "text")
EACH = 30  # prompts of a dataset
DRAWS = 200
# Nats a token, by model: the less, the more is recovered, but for one pair.
KL = {"pruned": 0.9, "math-sft": 1.3, "math-self": 0.15, "text-self": 0.4, "merged": 0.2}
SETTINGS: dict[str, Any] = {"max_new_tokens": 96, "bootstrap": DRAWS, "seed": 0}
EMBEDDING = {"name": "the base's own mean hidden state", "kind": "hidden state", "pooling": "mean"}


def measured(model: str) -> list[dict[str, Any]]:
    """The rows of a model's drift.parquet."""
    random = np.random.default_rng([len(model), ord(model[0]), ord(model[-1])])
    rows = []
    for number in range(2 * EACH):
        tokens = int(random.integers(5, 60))
        kl = KL[model] * float(random.gamma(4, 0.25))
        same = bool(random.random() < 0.5 / (1 + 4 * KL[model]))
        rows.append(
            {
                "id": number,
                "dataset": DATASETS[number // EACH],
                "row": number % EACH,
                "tokens": tokens,
                "kl": kl * tokens,
                "agreed": round(tokens * max(0.3, 1 - 0.3 * kl)),
                "nll_base": 0.1 * tokens,
                "nll": (0.1 + kl) * tokens,
                "similarity": 1.0 if same else 1 - 0.2 * min(1.0, kl),
                "identical": float(same),
                "response": "so",
                "finish": "stop",
            }
        )
    return rows


def artifacts(root: Path) -> dict[str, Path]:
    """By role, `drift.base` and one of every model but the base."""
    prompts = {
        name: {
            "split": "test" if name == "math" else "train", "skipped": 0 if name == "math" else 1000,
            "asked": 40, "rows": EACH, "held_out": 200, "overlapping": 3, "repeated": 0,
        }
        for name in DATASETS
    }  # fmt: skip

    def general(add: float) -> dict[str, Any]:
        nll = [2.0 * n + add * n for n in range(10, 50)]
        found = perplexity(nll, list(range(10, 50)), DRAWS, 0)
        assert found
        told: dict[str, Any] = {"dataset": "sandbox/corpus", "texts": 40, "tokens": sum(range(10, 50))}
        told["calibrated"] = True
        return {"text": {**told, "perplexity": found.estimate}}

    base = {
        "prompts": prompts, "responses": 2 * EACH, "truncated": 2, "tokens": 1800,
        "perplexity": _estimate(1.105), **general(0.0), "said": [],
        "embedding": {**EMBEDDING, "unrelated": _estimate(0.48)},
    }  # fmt: skip
    made = {"drift.base": record(root / "d" / "base", "drift/base", base, **SETTINGS)}
    for model in (row.name for row in ROWS if row.kind != "base"):
        rows = measured(model)
        table = Rows(
            [row["dataset"] for row in rows],
            {key: [row[key] for row in rows] for key in rows[0] if isinstance(rows[0][key], int | float)},
        )
        facts = {
            "responses": len(rows), "truncated": 1, "tokens": sum(row["tokens"] for row in rows),
            **_figures(table), **general(KL[model]),
            "datasets": {name: _figures(table.of(name)) for name in DATASETS}, "embedding": EMBEDDING,
        }  # fmt: skip
        folder = record(root / "d" / model, f"drift/{model}", facts, **SETTINGS)
        parquet.write(folder / "drift.parquet", rows)
        made[f"drift.{model}"] = folder
    return made


def _figures(table: Rows) -> dict[str, Any]:
    found = {name: figure(table, name, DRAWS, 0) for name in FIGURES}
    return {name: one.estimate if one else None for name, one in found.items()}


def _estimate(value: float) -> dict[str, Any]:
    return {"value": value, "stderr": 0.01, "low": value - 0.02, "high": value + 0.02, "n": 2 * EACH}
