"""Sweep: the reports of a sweep's points side by side, for people (report.md, a picture) and programs.

Last stage of a sweep. Its points are runs with reports of their own; what those found is laid out here by
point and model, and drawn over the swept values. Nothing is measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.stages import Frozen, Progress, drift_picture, pages, pictures, report_drift, sweep_picture
from factory.sweep_table import models_shown
from factory.wording import MINIATURE

VERSION = 4
LIBRARIES = ("jinja2", "matplotlib")

TEMPLATE = "sweep.md.jinja"
# Of a model in a point's report, what is told of it here.
TOLD = ("name", "kind", "targets", "blocks", "parameters", "average", "recovery")

# And of a model that was tried as a draft.
DRAFT_TOLD = ("target", "blocks", "greedy", "best", "measured")


class Point(Frozen):
    """A point of the sweep: its name, and its values by the swept key."""

    name: str
    values: dict[str, Any]


class Settings(Frozen):
    """What is laid side by side.

    Attributes:
        recipe: its name.
        keys: the swept keys.
        points: in the order of the report.
        miniature: see report.py.
    """

    recipe: str
    keys: tuple[str, ...] = Field(min_length=1)
    points: tuple[Point, ...] = Field(min_length=1)
    miniature: bool = False


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes report.md, report.json, recovery.png and, of points with drift, recovery_drift.png.

    Args:
        settings: see `Settings`.
        inputs: for each point, by its name, the artifact of its report.
        out: receives the three files.
        progress: told the steps done.

    Returns:
        The summary, and each model's recovery by point.
    """
    progress(0, 2, "steps", "reading reports")
    reports = {
        point.name: json.loads((inputs[point.name] / "report.json").read_text(encoding="utf-8"))
        for point in settings.points
    }
    report = assemble(settings, reports)
    progress(1, 2, "steps", "picture and page")
    mark = "miniature" if settings.miniature else None
    pictures.save(sweep_picture.draw(report), out / "recovery.png", mark)
    if drift := report["drift"]:
        drawn = drift_picture.against_recovery(drift["models"], report["confidence"])
        pictures.save(drawn, out / "recovery_drift.png", mark)
    shown = [models_shown(report, point) for point in report["points"]]
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    (out / "report.md").write_text(pages.render(TEMPLATE, {**report, "shown": shown}), encoding="utf-8")
    progress(2, 2, "steps")
    return {
        "summary": report["summary"],
        "recovery": {
            point["name"]: {
                model["name"]: model["recovery"] and model["recovery"]["value"] for model in point["models"]
            }
            for point in report["points"]
        },
    }


def assemble(settings: Settings, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """report.json's content, from the points' own by name."""
    points = [
        {
            "name": point.name,
            "values": point.values,
            **{key: reports[point.name][key] for key in ("suite", "limit", "prune")},
            "models": [{key: model[key] for key in TOLD} for model in reports[point.name]["models"]],
            "draft": [
                {"name": row["name"], "facts": {key: row["facts"][key] for key in DRAFT_TOLD}}
                for row in reports[point.name]["draft"]
            ],
        }
        for point in settings.points
    ]
    first = reports[settings.points[0].name]
    report: dict[str, Any] = {
        "recipe": settings.recipe,
        "keys": list(settings.keys),
        "confidence": first["confidence"],
        "points": points,
    }
    report["miniature"] = settings.miniature
    report["drift"] = report_drift.swept({point.name: reports[point.name] for point in settings.points})
    report["summary"] = [_sentence(point) for point in points]
    if settings.miniature:
        report["summary"].insert(0, f"{MINIATURE}.")
    return report


def _sentence(point: Mapping[str, Any]) -> str:
    """A point in a sentence: what went, and what came back most."""
    gone = "is" if len(point["prune"]["blocks"]) == 1 else "are"
    said = f"{point['name']}: {point['prune']['sentence']}, {gone} removed"
    made = [m for m in point["models"] if m["kind"] in ("trained", "merged") and m["recovery"]]
    if not made:
        return f"{said}."
    best = max(made, key=lambda model: model["recovery"]["value"])
    return f"{said}; highest recovery: {best['name']}, {pages.interval(best['recovery'])} %."
