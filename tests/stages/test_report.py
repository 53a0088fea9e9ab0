"""The report says what the artifacts say, and its intervals are of paired documents."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reported import ROWS, SETTINGS, TASKS, artifacts, edit_record, report_on, score_rows, task_value

from factory.errors import FactoryError
from factory.stages import report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The stage's folder, report.json and report.md."""
    root = tmp_path_factory.mktemp("report")
    content, page = report_on(artifacts(root), root / "out")
    return root / "out", content, page


def by_name(content: dict[str, Any]) -> dict[str, Any]:
    return {model["name"]: model for model in content["models"]}


def test_scores_are_those_of_the_evaluation(made: tuple[Path, dict, str]) -> None:
    models = by_name(made[1])
    assert list(models) == [row.name for row in ROWS]
    for name, model in models.items():
        for task in TASKS:
            assert model["scores"][task]["value"] == pytest.approx(task_value(score_rows(task, name)))
            assert set(model["scores"][task]) == {"value", "stderr", "low", "high", "n"}
        assert model["average"]["n"] == sum(TASKS.values())
    assert (models["base"]["blocks"], models["merged"]["blocks"]) == (12, 9)


def test_recovery_is_a_fraction_of_the_base(made: tuple[Path, dict, str]) -> None:
    models = by_name(made[1])
    whole = models["base"]["average"]["value"]
    assert models["base"]["recovery"] == {"value": 1.0, "stderr": 0.0, "low": 1.0, "high": 1.0, "n": 370}
    for model in models.values():
        recovery = model["recovery"]
        assert recovery["value"] == pytest.approx(model["average"]["value"] / whole)
        assert recovery["low"] <= recovery["value"] <= recovery["high"]


def test_differences_are_of_the_same_documents(made: tuple[Path, dict, str]) -> None:
    """The paired error is that of the per-document differences, well below that of two independent sets."""
    found = by_name(made[1])["math-self"]["minus_base"]["scores"]["arc"]
    ours, theirs = (np.array(score_rows("arc", name)["score"]) for name in ("math-self", "base"))
    paired = (ours - theirs).std() / math.sqrt(len(ours))
    independent = math.sqrt((ours.var() + theirs.var()) / len(ours))
    assert found["value"] == pytest.approx((ours - theirs).mean())
    assert found["stderr"] == pytest.approx(paired, rel=0.15)
    assert found["stderr"] < 0.8 * independent


def test_self_is_compared_with_its_sft_sibling_and_a_merge_with_its_best_part(
    made: tuple[Path, dict, str],
) -> None:
    content = made[1]
    models = by_name(content)
    pairs = [(row["kind"], row["model"], row["against"]) for row in content["comparisons"]]
    assert pairs == [
        ("self minus SFT", "math-self", "math-sft"),
        ("merged minus best part", "merged", "math-self"),
    ]
    for row in content["comparisons"]:
        expected = models[row["model"]]["recovery"]["value"] - models[row["against"]]["recovery"]["value"]
        assert row["recovery"]["value"] == pytest.approx(expected)


def test_a_base_without_a_score_has_no_recovery(tmp_path: Path) -> None:
    """Near chance on generation alone a base may score nothing: the report says so and still is made."""
    inputs = artifacts(tmp_path)
    for row in ROWS:
        folder = inputs[f"evaluate.{row.name}"]
        scores = json.loads((folder / "scores.json").read_text())
        nothing = {"value": 0.0, "stderr": 0.0, "low": 0.0, "high": 0.0}
        scores["tasks"] = {"gsm8k": {**scores["tasks"]["gsm8k"], **nothing}}
        scores["average"].update(nothing)
        (folder / "scores.json").write_text(json.dumps(scores))
        path = folder / "samples" / "gsm8k.parquet"
        rows = pq.read_table(path).to_pydict()
        pq.write_table(pa.table({**rows, "score": [0.0] * len(rows["score"])}), path)
    content, page = report_on(inputs, tmp_path)
    assert all(model["recovery"] is None for model in content["models"])
    assert "Recovery is not defined" in page


def test_models_scored_on_different_documents_are_refused(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.merged"] / "samples" / "arc.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(FactoryError, match="base and merged were scored on different documents of arc"):
        report.run(SETTINGS, inputs, tmp_path, lambda *a, **k: None)


def test_scores_that_their_documents_do_not_bear_out_are_refused(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.pruned"] / "scores.json"
    scores = json.loads(path.read_text())
    scores["tasks"]["mmlu"]["value"] += 0.01
    path.write_text(json.dumps(scores))
    with pytest.raises(FactoryError, match=r"pruned has .* on mmlu, but its scored documents give"):
        report.run(SETTINGS, inputs, tmp_path, lambda *a, **k: None)


def test_won_and_lost_documents_are_told_by_task(made: tuple[Path, dict, str]) -> None:
    _, content, page = made
    found = by_name(content)["math-self"]["minus_base"]["scores"]
    for task in TASKS:
        ours, theirs = (score_rows(task, model)["score"] for model in ("math-self", "base"))
        won = sum(a > b for a, b in zip(ours, theirs, strict=True))
        lost = sum(a < b for a, b in zip(ours, theirs, strict=True))
        assert (found[task]["won"], found[task]["lost"]) == (won, lost)
    cells = " | ".join(f"{found[task]['won']} / {found[task]['lost']}" for task in TASKS)
    assert f"| math-self | {cells} | " in page


def test_every_model_has_results_in_lightevals_form(tmp_path: Path) -> None:
    report_on(artifacts(tmp_path), tmp_path / "out")
    for row in ROWS:
        folder = tmp_path / "out" / "lighteval" / "results" / "quickstart" / row.name
        (path,) = folder.glob("results_*.json")
        general = json.loads(path.read_text())["config_general"]
        assert general["model_name"] == f"quickstart/{row.name}"
        assert general["end_time"] - general["start_time"] == 72.5


def test_cut_prompts_are_told(tmp_path: Path, made: tuple[Path, dict, str]) -> None:
    assert "*cut*" not in made[2]
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.pruned"] / "scores.json"
    scores = json.loads(path.read_text())
    scores["tasks"]["mmlu"]["cut"] = 7
    path.write_text(json.dumps(scores))
    assert "| *cut* | 0 | 7 | 0 | – |" in report_on(inputs, tmp_path / "out")[1]  # noqa: RUF001


def test_steps_side_by_side_count_once_in_wall_time_and_pauses_not_at_all(tmp_path: Path) -> None:
    """72.5 s each: all at once but one, which begins half a minute later, and one a day later."""
    inputs = artifacts(tmp_path)
    for role, began in (
        ("prune", "2026-01-01T00:00:30+00:00"),
        ("merge.merged", "2026-01-02T01:00:00+01:00"),
    ):
        path = inputs[role] / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "started": began}))
    content, page = report_on(inputs, tmp_path / "out")
    assert content["seconds"] == {"sum": 72.5 * len(inputs), "wall": 30 + 72.5 + 72.5}
    assert "| *wall time* | – | 2 min 55 s |" in page  # noqa: RUF001


def test_what_keeps_the_scores_from_comparing_is_told_as_scores_json_has_it(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.base"] / "scores.json"
    said = "arc: the rows are 12 of 1,172: not comparable"
    path.write_text(json.dumps({**json.loads(path.read_text()), "why_not": [said]}))
    content, page = report_on(inputs, tmp_path / "out")
    assert content["deviations"] == [said] and f"{said}." in content["summary"]
    assert page.count(said) == 2, "in the summary and beside the scores"


def test_the_limit_of_the_evaluation_is_told(tmp_path: Path, made: tuple[Path, dict, str]) -> None:
    inputs = artifacts(tmp_path)
    for row in ROWS:
        edit_record(inputs[f"evaluate.{row.name}"], "settings", limit=60)
    content, page = report_on(inputs, tmp_path / "out")
    assert (made[1]["limit"], content["limit"]) == (None, 60)
    assert content["deviations"][0].startswith("Only the first 60 documents")
    said = "Only the first 60 documents of each task or subject are scored"
    assert sum(said in line for line in content["summary"]) == 1
    assert page.count(said) == 2, "in the summary and beside the scores"
    assert "Only the first" not in made[2]
