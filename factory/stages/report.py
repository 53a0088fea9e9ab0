"""Report: what a run gave, for people (report.md, pictures) and programs (report.json). Last stage.

Everything printed comes from the records and files of the artifacts it is given; nothing is measured
here but what follows from the scored documents: recoveries and paired differences with their intervals
(`factory/paired.py`). report_content.py puts them together; `factory/table.py` shows report.json in a
terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory.stages import (
    Frozen,
    Progress,
    draft_picture,
    drift_picture,
    learning_picture,
    pages,
    pictures,
)
from factory.stages.report_content import assemble, content_of
from factory.tasks import lighteval_results

VERSION = 11
LIBRARIES = ("jinja2", "matplotlib", "numpy")
Kind = Literal["base", "pruned", "trained", "merged"]


class ModelRow(Frozen):
    """A model of the run, in the order of the report.

    Attributes:
        name: `base`, `pruned` or the variant's name.
        kind: where it comes from.
        targets: of a trained model: what its responses were.
        data: of a trained model: the names of its datasets.
        of: of a merged model: the names of its parts.
        method: of a merged model: the merge method.
    """

    name: str
    kind: Kind
    targets: Literal["original", "self"] | None = None
    data: tuple[str, ...] = ()
    of: tuple[str, ...] = ()
    method: str | None = None


class Settings(Frozen):
    """What is reported.

    Attributes:
        recipe: its name.
        models: in the order of the report; one of kind `base`.
        suite: name of the suite that scored them.
        seed: the recipe's.
        bootstrap: replicates of the paired bootstrap.
        taught: by variant, the tasks that it was trained for: they tell nothing of forgetting.
        miniature: the run is a recipe's in miniature, which all that shows its figures has to say.
    """

    recipe: str
    models: tuple[ModelRow, ...]
    suite: str
    seed: int = 0
    bootstrap: int = Field(default=1000, ge=100)
    taught: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    miniature: bool = False


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes report.md, examples.md, report.json, pictures and every model's lighteval results.

    Args:
        settings: see `Settings`.
        inputs: artifact folders: `importance`, `prune`, `evaluate.<model>` for every model, and where the
            recipe has them `curate.<dataset>`, `regenerate.<dataset>`, `train.<variant>`, `merge.<variant>`,
            `drift.<model>`, `draft.<model>`, `measure`.
        out: receives the files; lighteval's in `lighteval/results/<recipe>/<model>/`.
        progress: told the steps done.

    Returns:
        The report's summary (its sentences), and each model's average and recovery.

    Raises:
        FactoryError: two models were scored on different documents.
    """
    progress(0, 3, "steps", "drawing documents")
    records = {role: content_of(folder / "record.json") for role, folder in inputs.items()}
    report = assemble(settings, inputs, records)
    progress(1, 3, "steps", "pictures")
    table = content_of(inputs["importance"] / "importance.json")
    mark = "miniature" if settings.miniature else None
    pictures.save(pictures.importance(table, report["prune"]["blocks"]), out / "importance.png", mark)
    said = next((f"{line}." for line in report["deviations"]), None)
    pictures.save(pictures.recovery(report["models"], report["confidence"], said), out / "recovery.png", mark)
    if curves := _curves(settings, report["train"]):
        pictures.save(learning_picture.learning_curves(curves), out / "learning_curves.png", mark)
    if drift := report["drift"]:
        pictures.save(drift_picture.similarities(drift), out / "similarity.png", mark)
        drawn = drift_picture.against_recovery(drift["models"], report["confidence"])
        pictures.save(drawn, out / "recovery_drift.png", mark)
    if report["draft"]:
        pictures.save(draft_picture.draw(report["draft"]), out / "draft.png", mark)
    progress(2, 3, "steps", "pages")
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    (out / "report.md").write_text(pages.markdown(report), encoding="utf-8")
    (out / "examples.md").write_text(pages.examples(report), encoding="utf-8")
    for row in settings.models:
        role = f"evaluate.{row.name}"
        started = datetime.fromisoformat(records[role]["started"])
        text = (inputs[role] / "lighteval.json").read_text(encoding="utf-8")
        called = f"{settings.recipe}/{row.name}"
        lighteval_results.named(
            text, called, records[role], started, records[role]["seconds"], out / "lighteval"
        )
    progress(3, 3, "steps")
    return {
        "summary": report["summary"],
        "models": {
            model["name"]: {"average": model["average"]["value"], "recovery": _value(model["recovery"])}
            for model in report["models"]
        },
    }


def _curves(settings: Settings, trained: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the picture of learning curves wants, in the order of the report."""
    found = {row["name"]: row for row in trained}
    return [
        {
            "name": row.name,
            "targets": row.targets,
            "loss": found[row.name]["settings"]["loss"],
            "losses": found[row.name]["facts"]["losses"],
        }
        for row in settings.models
        if row.name in found
    ]


def _value(estimate: Mapping[str, Any] | None) -> float | None:
    return estimate["value"] if estimate else None
