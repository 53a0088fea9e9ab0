"""A sweep as a person runs it: real stages on a tiny model, shared work done once, a folder a point."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from written import jsonl

from factory.cli import call

RECIPE = """\
name: tiny
base: {{model: {model}}}
prune:
  importance: perplexity_iterative
  calibration: {{dataset: texts, rows: 4, max_tokens: 32}}
datasets:
  math: {{id: math, prompt: math, check: final_number}}
train: {{sft: {{max_steps: 1}}}}
variants:
  math-sft: {{data: [math], targets: original}}
evaluate: {{suite: sandbox_v1, tasks: [arc, winogrande], limit: 2}}
sweep: {{prune.drop: [1, 3]}}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    jsonl(tmp_path / "texts" / "train.jsonl", *({"text": f"Text number {i} to be read."} for i in range(8)))
    jsonl(
        tmp_path / "math" / "train.jsonl",
        *({"question": f"What is {i} and 1?", "answer": f"It is #### {i + 1}"} for i in range(8)),
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(model=tiny_model))
    monkeypatch.chdir(tmp_path)
    return path


def artifacts(stage: str) -> list[Path]:
    return list(Path("runs/store", stage).glob("[!.]*"))


@pytest.mark.slow
def test_a_sweep_killed_in_its_second_point_keeps_the_first(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "factory.cli", "run", recipe.name, "--json", "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["kind"] == "progress" and event["step"] == "drop=3/train/math-sft":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    before = {path: path.read_bytes() for path in Path("runs/store").glob("*/*/record.json")}
    assert len(before) >= 4  # importance, a pruned model a point, the first point's training

    assert call(["run", recipe.name]) == 0
    assert f"made {13 - len(before)} of 13 steps" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    assert len(json.loads(Path("runs/tiny/report.json").read_text())["points"]) == 2


@pytest.mark.slow
def test_a_sweep_from_recipe_to_report(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", recipe.name]) == 0
    said = capsys.readouterr().out
    assert said.startswith("made 13 of 13 steps") and "tiny: a sweep over prune.drop" in said
    assert [len(artifacts(stage)) for stage in ("importance", "prune", "train", "evaluate")] == [1, 2, 2, 5]
    order = json.loads(Path("runs/tiny/drop=3/importance.json").read_text())["order"]
    for drop in (1, 3):
        page = Path(f"runs/tiny/drop={drop}")
        found = json.loads((page / "report.json").read_text())
        assert found["prune"]["blocks"] == sorted(order[:drop])
        assert json.loads((page / "models/math-sft/config.json").read_text())["num_hidden_layers"] == 6 - drop
        assert (page / "scores/base").is_dir()
    assert not Path("runs/tiny/models").exists()
    report = json.loads(Path("runs/tiny/report.json").read_text())
    assert [point["name"] for point in report["points"]] == ["drop=1", "drop=3"]
    assert Path("runs/tiny/recovery.png").read_bytes().startswith(b"\x89PNG")

    assert call(["status"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["tiny", "13", "13"], ["tiny/drop=1", "7", "7"], ["tiny/drop=3", "7", "7"]]
    for run in ("tiny/drop=1", "runs/tiny/drop=1"):
        assert call(["status", run, "--json"]) == 0
        steps = json.loads(capsys.readouterr().out)["steps"]
        assert {step["name"] for step in steps} >= {"importance", "prune", "evaluate/base", "report"}
        assert {step["state"] for step in steps} == {"done"}
        assert call(["show", run]) == 0
        assert "of 6, removed" in capsys.readouterr().out
    assert call(["show", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "drop=3" in shown and shown.endswith("runs/tiny/report.md\nruns/tiny/recovery.png\n")

    assert call(["run", recipe.name]) == 0
    assert "everything is up to date: 13 steps" in capsys.readouterr().out
    # A run of one of its points alone scores importance as far as it needs itself, and reports on that.
    alone = ["sweep={}", "prune.drop=1", "name=alone"]
    assert call(["run", recipe.name, *(word for value in alone for word in ("--set", value))]) == 0
    assert "made 2 of 7 steps" in capsys.readouterr().out
    assert json.loads(Path("runs/alone/importance.json").read_text())["order"] == order[:1]


def test_only_some_steps_of_a_smaller_sweep(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", recipe.name, "--only", "prune"]) == 0
    assert capsys.readouterr().out.startswith("made 3 of 3 steps")
    assert len(artifacts("importance")) == 1
    links = {path: path.readlink() for path in Path("runs/tiny").glob("*/models/pruned")}
    assert {path.parts[2] for path in links} == {"drop=1", "drop=3"}
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.json")}
    assert call(["run", recipe.name, "--only", "drop=3/*", "--dry-run"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.json")} == before
    Path("runs/tiny/drop=1/run.json").unlink()  # is written anew though nothing is left to make
    assert call(["run", recipe.name, "--only", "prune"]) == 0
    assert Path("runs/tiny/drop=1/run.json").is_file()
    # A point that is no longer one must not pass for a result.
    assert call(["run", recipe.name, "--only", "prune", "--set", "sweep.prune.drop=[3]"]) == 0
    assert not list(Path("runs/tiny/drop=1").rglob("run.json"))
    assert not list(Path("runs/tiny/drop=1").rglob("pruned"))
    assert Path("runs/tiny/drop=3/models/pruned/config.json").is_file()
    assert call(["run", recipe.name, "--only", "prune", "--set", "sweep={}", "--set", "prune.drop=3"]) == 0
    assert capsys.readouterr().out.endswith("everything is up to date: 2 steps, nothing to do\n")
    assert Path("runs/tiny/models/pruned/config.json").is_file()
    assert not list(Path("runs/tiny").glob("drop=*/run.json"))


def test_plan_and_validate_tell_the_points(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", recipe.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny.yaml is valid: a sweep of 2 points, 13 steps"
    assert lines[1] == "drop=1: 64,064 parameters become 54,784 (86%)"
    assert call(["plan", recipe.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(point["name"], point["values"]) for point in told["points"]] == [
        ("drop=1", {"prune.drop": 1}),
        ("drop=3", {"prune.drop": 3}),
    ]
    assert {step["name"] for step in told["steps"]} >= {
        "importance",
        "drop=1/prune",
        "drop=3/report",
        "sweep",
    }
    assert not Path("runs").exists()


ROWS = """\
name: sizes
base: {{model: {model}}}
prune: {{drop: 2, calibration: {{dataset: texts, rows: 4, max_tokens: 32}}}}
datasets:
  math: {{id: math, prompt: math, check: final_number, rows: [2, 6], deduplicate: questions, order: random}}
regenerate: {{max_new_tokens: 4}}
train: {{sft: {{max_steps: 1}}}}
variants:
  own: {{data: [math], targets: self}}
  few: {{data: {{math: 1}}, targets: self}}
evaluate: {{suite: sandbox_v1, tasks: [winogrande], limit: 2}}
"""


@pytest.mark.slow
def test_a_sweep_over_rows_regenerates_once(recipe: Path, tiny_model: Path) -> None:
    path = recipe.with_name("sizes.yaml")
    path.write_text(ROWS.format(model=tiny_model))
    assert call(["run", path.name]) == 0
    assert [len(artifacts(stage)) for stage in ("curate", "regenerate", "train", "sweep")] == [1, 1, 3, 1]
    for rows in (2, 6):
        folder = Path(f"runs/sizes/rows={rows}")
        found = json.loads((folder / "report.json").read_text())
        assert {row["name"]: row["facts"]["taken"] for row in found["train"]} == {
            "own": {"math": rows}, "few": {"math": 1},
        }  # fmt: skip
        assert found["regenerate"][0]["facts"]["rows"] == 6
        assert f"| {rows} of math |" in (folder / "report.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in Path("runs/store/train").rglob("record.json")}
    # A run of the smaller set alone regenerates its rows, and finds them trained on already.
    assert call(["run", path.name, "--set", "datasets.math.rows=2", "--set", "name=alone"]) == 0
    assert len(artifacts("regenerate")) == 2
    assert {path: path.stat().st_mtime_ns for path in Path("runs/store/train").rglob("record.json")} == before
    import pyarrow.parquet as pq

    sets = [pq.read_table(folder / "data").to_pylist() for folder in artifacts("regenerate")]
    few, many = sorted(sets, key=len)
    assert (len(few), many[: len(few)]) == (2, few)
