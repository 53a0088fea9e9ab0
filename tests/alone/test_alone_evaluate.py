"""`factory evaluate`: what it prints and keeps of a model's scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluated import FEW, arc, arguments

from factory.cli import call
from factory.models import load

ROOT = Path(__file__).parents[2]
TASKS = ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
LIMITED = "Only the first 4 documents of each task or subject are scored: not comparable with the whole suite"


@pytest.fixture(scope="module")
def limited(
    tiny_model: Path, benchmark_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """All six tasks scored with a limit: the folder, and what the terminal showed."""
    out = tmp_path_factory.mktemp("limited") / "new" / "out"
    command = arguments(tiny_model, benchmark_data, "--limit", "4", "--shots", FEW, "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[1/1] evaluate: done in" in done.stderr
    return out, done.stdout


def test_the_table_fits_eighty_columns(limited: tuple[Path, str]) -> None:
    lines = limited[1].splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last one names the folder
    rows = {line.split()[0]: line.split() for line in lines if line.endswith("]")}
    assert list(rows) == [*TASKS, "average"]
    scores = json.loads((limited[0] / "scores.json").read_text())
    for name, score in [*scores["tasks"].items(), ("average", scores["average"])]:
        figures = (score["value"], score["stderr"], score["low"], score["high"])
        shown = [figure.strip("[,]") for figure in rows[name][-4:]]
        assert shown == [f"{100 * figure:.1f}" for figure in figures]


def test_an_output_folder_holds_a_whole_artifact(limited: tuple[Path, str]) -> None:
    out = limited[0]
    record = json.loads((out / "record.json").read_text())
    assert (record["stage"], record["resumed"]) == ("evaluate", False)
    assert record["settings"]["chat_template"] is False
    assert record["facts"]["dtype"] == load.dtype().replace("auto", "bfloat16")
    assert {name: (out / name).stat().st_size for name in record["files"]} == record["files"]
    assert {f"samples/{task}.parquet" for task in TASKS} < set(record["files"])
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "log.txt", "record.json", "results", "samples", "scores.json",
    ]  # fmt: skip
    told = pq.read_schema(out / "samples" / "winogrande.parquet").metadata
    assert (told[b"factory.suite"], told[b"factory.limit"], told[b"factory.shots"]) == (
        b'"openllm_v1"', b"4", b"2",
    )  # fmt: skip
    assert json.loads(told[b"factory.key"]) == record["key"]
    for row in pq.read_table(out / "samples" / "truthfulqa.parquet").to_pylist():
        assert row["correct"] == (row["score"] > 0.5)
    rows = pq.read_table(out / "samples" / "winogrande.parquet").to_pylist()
    assert [len(row["logprobs"]) for row in rows] == [2] * 4
    assert len({row["prompt"] for row in rows}) == 4
    rows = pq.read_table(out / "samples" / "gsm8k.parquet").to_pylist()
    assert all(row["logprobs"] is None and isinstance(row["text"], str) for row in rows)


def test_a_limit_is_marked_in_every_output(limited: tuple[Path, str]) -> None:
    out, shown = limited
    assert LIMITED in " ".join(shown.split())
    assert "Cut from the left" not in shown
    scores = json.loads((out / "scores.json").read_text())
    record = json.loads((out / "record.json").read_text())["facts"]
    (theirs,) = (json.loads(path.read_text()) for path in out.glob("results/**/results_*.json"))
    assert theirs["config_general"]["max_samples"] == 4
    for told in (scores, record, theirs["factory"]):
        assert (told["comparable"], told["limit"], told["why_not"][0]) == (False, 4, LIMITED)


def test_lightevals_own_readers_take_the_results(limited: tuple[Path, str]) -> None:
    from datasets import Dataset
    from lighteval.utils.utils import make_results_table

    out = limited[0]
    (path,) = out.glob("results/**/results_*.json")
    assert path.relative_to(out).parts[:2] == ("results", "model")  # lighteval's place: by the model's name
    assert re.fullmatch(r"results_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+\.json", path.name)
    content = json.loads(path.read_text())
    assert list(content)[:6] == [
        "config_general", "results", "versions", "config_tasks", "summary_tasks", "summary_general",
    ]  # fmt: skip
    scores = json.loads((out / "scores.json").read_text())["tasks"]
    by_name = {name.split("|")[0].split("_")[-1]: row for name, row in content["results"].items()}
    for task in ("arc", "hellaswag", "truthfulqa", "winogrande", "gsm8k"):
        metric = scores[task]["metric"]
        assert by_name[task][metric] == pytest.approx(scores[task]["value"])
        assert by_name[task][f"{metric}_stderr"] == pytest.approx(scores[task]["stderr"])
    (mmlu,) = (row for name, row in content["results"].items() if "mmlu:_average|2" in name)
    assert (mmlu["acc"], mmlu["acc_stderr"]) == pytest.approx(
        (scores["mmlu"]["value"], scores["mmlu"]["stderr"])
    )
    table = make_results_table(content)
    assert all(f"{scores[task]['value']:.4f}" in table for task in scores)
    # How EvaluationTracker.push_to_hub makes the Hub's dataset of it.
    Dataset.from_dict({key: [json.dumps(value)] for key, value in content.items()})
    config = next(config for name, config in content["config_tasks"].items() if "arc" in name)
    assert all(config["hf_revision"] is None for config in content["config_tasks"].values())  # of no Hub
    record = json.loads((out / "record.json").read_text())
    assert {name: content["factory"][name] for name in ("key", "inputs")} == {
        name: record[name] for name in ("key", "inputs")
    }
    assert (config["original_num_docs"], config["effective_num_docs"], config["version"]) == (6, 4, 1)


def test_json_for_programs(tiny_model: Path, arc_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(arc(tiny_model, arc_data, "--limit", "4", "--json")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [lines[0]["kind"], lines[-1]["kind"]] == ["planned", "result"]
    assert {line["unit"] for line in lines if line["kind"] == "progress"} == {"documents"}
    assert (lines[-1]["limit"], lines[-1]["comparable"], lines[-1]["average"]["n"]) == (4, False, 4)
