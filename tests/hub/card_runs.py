"""A finished run on disk in a moment: artifacts as the stages leave them, a real model, a real report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import drifted
import reported

from factory.run.folder import RunPage, StepLine
from factory.stages import report
from factory.tasks.suites import SUITES

COMMIT = "a" * 40
GSM8K = f"hub:openai/gsm8k@{COMMIT}"
CHAT = f"hub:tatsu-lab/alpaca@{'c' * 40}"
SANDBOX = "sandbox:sandbox/base@30ba"
NAME = "llama-drop3"  # of the recipe


def build(
    runs: Path,
    model: Path,
    *,
    base: str = SANDBOX,
    suite: str = "sandbox_v1",
    limit: int | None = None,
    texts: Mapping[str, str] = {},
    drift: bool = False,
) -> Path:
    """A run folder below `runs`.

    Args:
        runs: the folder of runs.
        model: a model folder, that of every variant.
        base: the base as records name it.
        suite: that scored the models; its rows are the suite's own.
        limit: documents a task; None for all.
        texts: files beside the weights, as the base carries them.
        drift: whether its recipe has drift measured.
    """
    roles = reported.artifacts(runs / "made")
    roles |= drifted.artifacts(runs / "made") if drift else {}
    why = [f"Only the first {limit} documents of each task are scored"] if limit else []
    for role, folder in roles.items():
        stage, _, name = role.partition(".")
        if stage in ("prune", "train", "merge"):
            shutil.copytree(model, folder / "model")
            for file, text in texts.items():
                (folder / "model" / file).write_text(text)
        if stage == "evaluate":
            _scored(folder, suite, limit, why)
        _change(folder, inputs=_inputs(role, name, base, suite))
        if stage == "regenerate":
            more = {"config": None, "split": "train", "rows": 100}
            data = {**_record(folder)["settings"]["data"], **more}
            own = {"data": data, "samples": 1, "max_new_tokens": 64, "engine": "transformers"}
            _change(folder, settings=own)
    out = runs / "made" / "report"
    out.mkdir()
    settings = reported.SETTINGS.model_copy(update={"suite": suite, "recipe": NAME})
    report.run(settings, roles, out, lambda *a, **k: None)
    (out / "record.json").write_text(
        json.dumps({**_record(roles["prune"]), "name": "report", "stage": "report"})
    )
    return _stored(runs, {**roles, "report": out})


def _inputs(role: str, name: str, base: str, suite: str) -> dict[str, str]:
    own = {"math": GSM8K, "text": CHAT}

    def key(step: str) -> str:
        return f"{abs(hash(step)):016x}"[:16]

    if role.startswith("train."):
        row = next(row for row in reported.ROWS if row.name == name)
        regenerated = row.targets == "self"
        data = {f"data.{d}": key(f"regenerate/{d}") if regenerated else own[d] for d in row.data}
        return {"model": f"{key('prune')}/model", **data}
    if role.startswith("regenerate."):
        return {"base": base, "data": own[name]}
    if role.startswith("merge."):
        return {f"of.{part}": f"{key(f'train/{part}')}/model" for part in ("math-self", "text-self")}
    if role.startswith("drift."):
        base_only = {"held_out.math": GSM8K, "held_out.text": CHAT, "text": "sandbox:sandbox/corpus@ab"}
        kind = "merge" if name == "merged" else "train"
        model = {"model": f"{key('prune' if name == 'pruned' else f'{kind}/{name}')}/model"}
        return {"base": base} | (
            base_only if name == "base" else {**model, "drift": f"{key('drift/base')}/."}
        )
    if role.startswith("evaluate."):
        tasks = {task: SUITES[suite][task].dataset for task in reported.TASKS}
        kinds = {task: "sandbox" if place.startswith("sandbox/") else "hub" for task, place in tasks.items()}
        model = base if name == "base" else key("merge/merged" if name == "merged" else f"train/{name}")
        rows = {f"data.{task}": f"{kinds[task]}:{place}@{COMMIT}" for task, place in tasks.items()}
        return {"model": model, **rows}
    return {"base": base, "calibration": f"hub:Salesforce/wikitext@{'b' * 40}"}


def _scored(folder: Path, suite: str, limit: int | None, why: list[str]) -> None:
    """Shots as in the suite, and the limit where a step writes it."""
    scores = json.loads((folder / "scores.json").read_text())
    scores |= {"suite": suite, "why_not": why}
    for task, score in scores["tasks"].items():
        score["shots"] = SUITES[suite][task].shots
        score["metric"] = SUITES[suite][task].metric
    (folder / "scores.json").write_text(json.dumps(scores))
    _change(folder, facts=scores, settings={"limit": limit})


def _record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def _change(folder: Path, **parts: Mapping[str, Any]) -> None:
    record = _record(folder)
    record |= {k: {**record[k], **v} if k != "inputs" else dict(v) for k, v in parts.items()}
    (folder / "record.json").write_text(json.dumps(record))


def _stored(runs: Path, roles: Mapping[str, Path]) -> Path:
    """Puts the artifacts where a run has them, and writes run.json."""
    steps = []
    for folder in roles.values():
        record = _record(folder)
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != "record.json")
        record["resumed"] = False
        record["files"] = {str(path.relative_to(folder)): path.stat().st_size for path in files}
        (folder / "record.json").write_text(json.dumps(record))
        place = runs / "store" / record["stage"] / record["key"]
        shutil.copytree(folder, place)
        steps.append(
            StepLine(name=record["name"], stage=record["stage"], key=record["key"], done=True, seconds=1.0)
        )
    folders = {"model": "/home/somebody/models/tiny"}
    recipe = {
        "name": NAME, "seed": 7, "base": folders, "prune": {"drop": 3, "calibration": {"dataset": "x/y"}},
        "datasets": {"math": {"id": "openai/gsm8k"}, "text": {"id": "tatsu-lab/alpaca"}},
    }  # fmt: skip
    page = RunPage(
        name=NAME, factory="0.1.0", recipe=recipe, steps=tuple(steps), jobs=1, machine=reported.MACHINE,
        started="2026-01-01T00:00:00+00:00", finished="2026-01-01T01:00:00+00:00", seconds=3600.0,
    )  # fmt: skip
    run = runs / NAME
    run.mkdir()
    (run / "run.json").write_text(page.model_dump_json())
    return run
