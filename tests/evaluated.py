"""`factory evaluate` as the tests call it, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FEW = "arc=2,hellaswag=1,mmlu=2,winogrande=2,gsm8k=1"  # shots; the rows of the tests are few


def arguments(model: Path | str, data: Path, *more: str) -> list[str]:
    return ["evaluate", str(model), "--data", str(data), *more]


def arc(model: Path | str, data: Path, *more: str) -> list[str]:
    return arguments(model, data, "--tasks", "arc", "--shots", "arc=2", *more)


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def artifact(out: Path) -> dict[str, bytes]:
    """What has to be the same whenever and wherever it is made."""
    paths = [out / "scores.json", *sorted((out / "samples").iterdir())]
    return {path.name: path.read_bytes() for path in paths}
