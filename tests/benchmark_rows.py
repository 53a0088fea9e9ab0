"""Rows of the six benchmarks, made up, and a folder of them laid out as `--data` wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ANIMALS = ("ape", "bee", "cow", "elk", "fox", "gnu")


def arc_row(i: int) -> dict[str, Any]:
    choices = {"text": [ANIMALS[i % 6], f"no {i}", "a stone"], "label": ["A", "B", "C"]}
    return {"question": f"Which is {i}?", "choices": choices, "answerKey": "ABC"[i % 3]}


def hellaswag_row(i: int) -> dict[str, Any]:
    endings = [f"{animal} {i}" for animal in ANIMALS[:4]]
    return {
        "activity_label": "Walking",
        "ctx_a": f"An {i}.",
        "ctx_b": "it",
        "endings": endings,
        "label": str(i % 4),
    }


def mmlu_row(i: int, subject: str) -> dict[str, Any]:
    return {"question": f"Is it {i}?", "subject": subject, "choices": list(ANIMALS[:4]), "answer": i % 4}


def truthfulqa_row(i: int) -> dict[str, Any]:
    targets = {"choices": ["yes", f"sure {i}", "no"], "labels": [1, 1, 0]}
    return {"question": f"Really {i}?", "mc1_targets": targets, "mc2_targets": targets}


def winogrande_row(i: int) -> dict[str, Any]:
    return {
        "sentence": f"Ann hit Bea {i} times so _ cried.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": "12"[i % 2],
    }


def gsm8k_row(i: int) -> dict[str, Any]:
    return {"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"}


def write(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def data_folder(root: Path, scored: int = 6) -> Path:
    """`<org>__<name>/<config>/<split>.parquet` for all six tasks of openllm_v1, MMLU with two subjects."""
    for place, make in (
        ("allenai__ai2_arc/ARC-Challenge/test", arc_row),
        ("allenai__ai2_arc/ARC-Challenge/train", arc_row),
        ("Rowan__hellaswag/default/validation", hellaswag_row),
        ("Rowan__hellaswag/default/train", hellaswag_row),
        ("truthfulqa__truthful_qa/multiple_choice/validation", truthfulqa_row),
        ("allenai__winogrande/winogrande_xl/validation", winogrande_row),
        ("allenai__winogrande/winogrande_xl/train", winogrande_row),
        ("openai__gsm8k/main/test", gsm8k_row),
        ("openai__gsm8k/main/train", gsm8k_row),
    ):
        first = 1000 if place.endswith("train") else 0
        write([make(first + i) for i in range(scored)], root / f"{place}.parquet")
    for subject in ("anatomy", "virology"):
        for split, first in (("test", 0), ("dev", 1000)):
            rows = [mmlu_row(first + i, subject) for i in range(scored)]
            write(rows, root / "cais__mmlu" / subject / f"{split}.parquet")
    return root
