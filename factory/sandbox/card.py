"""Scores a freshly trained sandbox base and writes its record and its card into the model folder."""

from __future__ import annotations

import json
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory import sandbox
from factory.sandbox import corpus
from factory.tasks.suites import SUITES

if TYPE_CHECKING:
    from factory.stages import Progress

SUITE = "sandbox_v1"


def scores(model: Path, progress: Progress) -> dict[str, dict[str, Any]]:
    """The model's figures on every task of `sandbox_v1`, each with what chance would give."""
    from factory.stages import evaluate

    suite = SUITES[SUITE]
    with tempfile.TemporaryDirectory() as folder:
        inputs = {"model": model}
        for task in suite.values():
            name = task.dataset.removeprefix("sandbox/")
            sandbox.write_dataset(name, Path(folder) / name)
            inputs[f"data.{task.task}"] = Path(folder) / name
        shots = {task.task: task.shots for task in suite.values()}
        settings = evaluate.Settings(**evaluate.chosen(SUITE, shots, None, batch_size=32))
        out = Path(folder) / "scores"
        out.mkdir()
        found = evaluate.run(settings, inputs, out, progress)["tasks"]
    # The true answers of a sandbox question are two of five, whatever the benchmark's own share is.
    chance = {task.task: task.chance for task in suite.values()} | {"truthfulqa": 0.4}
    return {task: {**score, "chance": chance[task]} for task, score in found.items()}


def write(model: Path, record: dict[str, Any]) -> None:
    """Writes record.json and README.md."""
    import jinja2

    template = files("factory.model_cards").joinpath("sandbox_base.md.jinja").read_text(encoding="utf-8")
    total = sum(share for _, share in corpus.MIXTURE.values())
    shares = {kind: share / total for kind, (_, share) in corpus.MIXTURE.items()}
    card = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    text = card.from_string(template).render(record=record, shares=shares, asked=corpus.ASKED)
    (model / "README.md").write_text(text, encoding="utf-8")
    (model / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
