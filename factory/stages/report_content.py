"""What report.json holds: the run's records and what follows from its scored documents. Under report.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.drafts import paying
from factory.errors import FactoryError
from factory.metrics import METRICS
from factory.metrics.choice import Chosen, ranking, sentence, texts_read
from factory.recipe.training import FOLLOWING
from factory.stages import draft_words, pages, report_drift
from factory.wording import MINIATURE, limited

if TYPE_CHECKING:
    from factory.paired import Paired
    from factory.stages.report import ModelRow, Settings
    from factory.tasks.bootstrap import Estimate


def content_of(path: Path) -> dict[str, Any]:
    """A JSON file's object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def assemble(
    settings: Settings, inputs: Mapping[str, Path], records: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """report.json's content, from artifact folders and their records, both by role.

    Raises:
        FactoryError: two models were scored on different documents.
    """
    from factory.paired import Paired, TaskSamples
    from factory.tasks.bootstrap import CONFIDENCE

    scores = {row.name: content_of(inputs[f"evaluate.{row.name}"] / "scores.json") for row in settings.models}
    base = next(row.name for row in settings.models if row.kind == "base")
    tasks = list(scores[base]["tasks"])
    samples = {
        row.name: {
            task: TaskSamples.read(inputs[f"evaluate.{row.name}"] / "samples" / f"{task}.parquet")
            for task in tasks
        }
        for row in settings.models
    }
    paired = Paired(samples, replicates=settings.bootstrap, seed=settings.seed)
    _check_values(paired, scores)
    models = [_model(row, base, scores[row.name], records, paired) for row in settings.models]
    comparisons = _comparisons(settings.models, base, records, paired)
    limit = records[f"evaluate.{base}"]["settings"]["limit"]
    first = [*([MINIATURE] if settings.miniature else []), *([limited(limit)] if limit else [])]
    report: dict[str, Any] = {
        "recipe": settings.recipe,
        "suite": settings.suite,
        "seed": settings.seed,
        "confidence": CONFIDENCE,
        "bootstrap": settings.bootstrap,
        "limit": limit,
        "miniature": settings.miniature,
        "base": records["importance"]["inputs"]["base"],
        "deviations": list(dict.fromkeys([*first, *scores[base]["why_not"]])),
        "tasks": {
            task: {
                **{key: found[key] for key in ("metric", "shots", "n")},
                "cut": max(one["tasks"][task]["cut"] for one in scores.values()),
            }
            for task, found in scores[base]["tasks"].items()
        },
        "models": models,
        "comparisons": comparisons,
        "importance": _importance(inputs["importance"], records),
        "prune": records["prune"]["facts"],
        "curate": _of_stage("curate", records),
        "regenerate": _of_stage("regenerate", records),
        "train": _of_stage("train", records),
        "merge": _of_stage("merge", records),
        "drift": report_drift.assemble(settings, inputs, records, paired, models, comparisons),
        "draft": paying.pooled(_of_stage("draft", records)),
        "measure": records["measure"]["facts"] if "measure" in records else None,
        **_origins(records),
    }
    report["summary"] = [*pages.summary(report), *draft_words.summary(report["draft"])]
    return report


def _model(
    row: ModelRow, base: str, scores: dict[str, Any], records: Mapping[str, dict[str, Any]], paired: Paired
) -> dict[str, Any]:
    facts = records[f"evaluate.{row.name}"]["facts"]
    return {
        **row.model_dump(mode="json"),
        "blocks": facts["blocks"],
        "parameters": facts["parameters"],
        "scores": {task: _estimate(found) for task, found in scores["tasks"].items()},
        "average": _estimate(scores["average"]),
        "recovery": _dict(paired.recovery(row.name, base)),
        "minus_base": _differences(paired, row.name, base),
    }


def _estimate(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("value", "stderr", "low", "high", "n")}


def _dict(estimate: Estimate | None) -> dict[str, Any] | None:
    return asdict(estimate) if estimate else None


def _differences(paired: Paired, model: str, against: str) -> dict[str, Any]:
    def both(task: str | None = None) -> dict[str, Any]:
        counts = asdict(paired.counts(model, against, task))
        return {**asdict(paired.difference(model, against, task)), **counts}

    return {"scores": {task: both(task) for task in paired.tasks}, "average": both()}


def _check_values(paired: Paired, scores: Mapping[str, dict[str, Any]]) -> None:
    """The intervals here and the scores there must speak of the same figures."""
    for model, found in scores.items():
        for task, score in found["tasks"].items():
            again = paired.value(model, task)
            if abs(again - score["value"]) > 1e-4:
                raise FactoryError(
                    f"{model} has {score['value']:.4f} on {task}, but its scored documents give {again:.4f}",
                    mend="Score it again",
                )


def _comparisons(
    rows: tuple[ModelRow, ...], base: str, records: Mapping[str, dict[str, Any]], paired: Paired
) -> list[dict[str, Any]]:
    """Self minus SFT for variants trained on the same data; merged minus its best part."""

    def compared(kind: str, model: str, against: str, **more: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            "model": model,
            "against": against,
            **_differences(paired, model, against),
            "recovery": _dict(paired.recovery_difference(model, against, base)),
            **more,
        }

    def training(name: str) -> Any:
        settings = records.get(f"train.{name}", {}).get("settings", {})
        told = ("method", "freeze", "loss", "beta", "long_rows", "lora")
        sft = {key: value for key, value in settings.get("sft", {}).items() if key not in FOLLOWING}
        return sft, [settings.get(key) for key in told]

    def taken(name: str) -> Any:
        return records.get(f"train.{name}", {}).get("facts", {}).get("taken")

    trained = [row for row in rows if row.kind == "trained"]
    found = [
        compared("self minus SFT", ours.name, theirs.name, same=training(ours.name) == training(theirs.name))
        for ours in trained
        for theirs in trained
        if (ours.targets, theirs.targets) == ("self", "original")
        and (set(ours.data), taken(ours.name)) == (set(theirs.data), taken(theirs.name))
    ]
    names = {row.name for row in rows}
    for row in rows:
        parts = [part for part in row.of if part in names]
        if row.kind == "merged" and parts:
            best = max(parts, key=paired.value)
            found.append(compared("merged minus best part", row.name, best, same=True))
    return found


def _importance(folder: Path, records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What was read, the ten best by the metric, and why the removed blocks were chosen."""
    table, pruned = content_of(folder / "importance.json"), records["prune"]
    removed, exclude = pruned["facts"]["blocks"], tuple(pruned["settings"].get("exclude", (0, 0)))
    metric, chosen = METRICS[table["metric"]], pruned["facts"]["metric"] is not None
    found = Chosen(tuple(removed), pruned["facts"]["score"]) if chosen else None
    return {
        "metric": table["metric"],
        "shape": metric.shape,
        "title": metric.title,
        "unit": metric.unit,
        "blocks": table["blocks"],
        "rows": table["rows"],
        "tokens": table["tokens"],
        "over": texts_read(table),
        "exclude": list(exclude),
        "why": sentence(table, found, exclude) if found else None,
        "ranking": ranking(table, len(removed), exclude, removed),
    }


def _of_stage(stage: str, records: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "name": role.split(".", 1)[1],
            "settings": record["settings"],
            "facts": record["facts"],
        }
        for role, record in records.items()
        if role.split(".", 1)[0] == stage
    ]


def _origins(records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Steps with their time, the machines they ran on, and the versions of what ran."""
    machines: list[Any] = []
    steps = []
    for record in records.values():
        if record["machine"] not in machines:
            machines.append(record["machine"])
        told = ("name", "key", "started", "seconds", "resumed", "threads", "peak_memory")
        step = {key: record.get(key) for key in told}
        steps.append({**step, "machine": machines.index(record["machine"]) + 1})
    libraries: dict[str, set[str]] = {}
    for record in records.values():
        for name, version in record["libraries"].items():
            libraries.setdefault(name, set()).add(version)
    return {
        "steps": sorted(steps, key=lambda step: step["started"]),
        "seconds": {"sum": sum(step["seconds"] for step in steps), "wall": _wall_seconds(steps)},
        "machines": machines,
        "libraries": {name: ", ".join(sorted(versions)) for name, versions in sorted(libraries.items())},
        "factory": ", ".join(sorted({record["factory"] for record in records.values()})),
    }


def _wall_seconds(steps: Sequence[Mapping[str, Any]]) -> float:
    """For how long at least one step ran: steps side by side count once, pauses between them not at all."""
    total = end = 0.0
    for step in sorted(steps, key=lambda step: step["started"]):
        began = datetime.fromisoformat(step["started"]).timestamp()
        stopped = began + step["seconds"]
        total += max(0.0, stopped - max(began, end))
        end = max(end, stopped)
    return round(total, 2)
