"""Runs of the train stage on rows of a few words, for its tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from factory.data.rows import DataSpec
from factory.stages import train
from factory.stages.train import Settings

ROWS = [(f"What comes after {i}?", f"After {i} comes {i + 1}{' of course' * (i % 3)}.") for i in range(8)]
LORA = {"r": 4, "lora_alpha": 8}
SFT = {"max_steps": 3, "learning_rate": 1e-3, "per_device_train_batch_size": 4}


def dataset(folder: Path, rows: list[tuple[str, str]]) -> Path:
    folder.mkdir(parents=True)
    lines = (json.dumps({"instruction": question, "response": answer}) + "\n" for question, answer in rows)
    (folder / "train.jsonl").write_text("".join(lines))
    return folder


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


def run(
    model: Path,
    data: dict[str, Path],
    out: Path,
    progress: Any = quiet,
    *,
    lora: dict[str, Any] | None = None,
    sft: dict[str, Any] | None = None,
    teacher: Path | None = None,
    **changes: Any,
) -> dict[str, Any]:
    method = changes.get("method", "lora")
    settings = Settings(
        **{
            "data": tuple(DataSpec(name=name) for name in sorted(data)),
            "targets": "original",
            "lora": {} if method == "full" else {**LORA, **(lora or {})},
            "sft": {**SFT, **(sft or {})},
            **changes,
        }
    )
    out.mkdir(exist_ok=True, parents=True)
    inputs = {"model": model, **{f"data.{name}": path for name, path in data.items()}}
    return train.run(settings, inputs | ({"teacher": teacher} if teacher else {}), out, progress)


def unmeasured(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without what it cost, which is never the same."""
    return {key: value for key, value in facts.items() if key != "measured"}


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


class Stop(Exception):  # noqa: N818
    """Breaks a run from inside."""


def stopping_at(step: int) -> Any:
    """Progress that breaks a run once a step is done."""

    def stop(done: int, *_: Any) -> None:
        if done == step:
            raise Stop

    return stop
