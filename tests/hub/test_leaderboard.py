"""What is collected for the leaderboard, and the dataset that it becomes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import boards
import card_runs
import pytest

from factory.cli import call
from factory.errors import FactoryError
from factory.hub import board_page, board_rows, board_sources


@pytest.fixture(scope="session")
def a_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with one run of six models."""
    runs = tmp_path_factory.mktemp("board") / "runs"
    card_runs.build(runs, tiny_model)
    return runs


@pytest.fixture
def runs(a_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return shutil.copytree(a_run, tmp_path / "runs", symlinks=True)


def records(runs: Path, stage: str) -> list[Path]:
    return sorted((runs / "store" / stage).glob("*/record.json"))


def report(runs: Path) -> Path:
    return next((runs / "store" / "report").glob("*/report.json"))


def rewrite(path: Path, *keys: object, to: object) -> None:
    """Changes a file of an artifact and what its record says of its size."""
    boards.change(path, *keys, to=to)
    boards.change(path.parent / "record.json", "files", path.name, to=path.stat().st_size)


def test_every_model_of_a_run_has_a_row_with_what_its_records_say(runs: Path, tmp_path: Path) -> None:
    built = boards.build(tmp_path / "out", runs)
    found = {row["name"]: row for row in boards.data(tmp_path / "out")["models"]}
    assert (built.models, built.doubles, built.skipped) == (6, 0, [])
    assert set(found) == {"sandbox/base", *(f"llama-drop3/{name}" for name in
                          ("pruned", "math-sft", "math-self", "text-self", "merged"))}  # fmt: skip
    told = json.loads(report(runs).read_text())
    model = next(model for model in told["models"] if model["name"] == "math-self")
    row = found["llama-drop3/math-self"]
    assert (row["method"], row["targets"], row["base"]) == ("self-distilled", "self", "sandbox/base")
    assert row["average"][0] == pytest.approx(model["average"]["value"], abs=1e-6)
    assert row["recovery"] == pytest.approx(
        [model["recovery"][part] for part in ("value", "low", "high")], abs=1e-6
    )
    assert row["removed"] == len(told["prune"]["blocks"]) and row["blocks"] == model["blocks"]
    assert row["flops"] > 0 and found["sandbox/base"]["removed"] == 0
    assert found["llama-drop3/merged"]["method"] == "merged"


def test_scores_that_are_no_benchmarks_are_shown_apart(tiny_model: Path, tmp_path: Path) -> None:
    real = "hub:meta-llama/Llama-3.1-8B@" + "d" * 40
    whole, limited = tmp_path / "whole", tmp_path / "limited"
    card_runs.build(whole, tiny_model, base=real, suite="openllm_v1")
    card_runs.build(limited, tiny_model, base=real, suite="openllm_v1", limit=12)
    sandbox = card_runs.build(tmp_path / "sandbox", tiny_model).parent
    # The same documents were scored three times here, under three suites and limits: different evaluations.
    for place, runs in enumerate((whole, limited, sandbox)):
        for path in records(runs, "evaluate"):
            boards.change(path, "key", to=f"{place}{json.loads(path.read_text())['key'][1:]}")
    built = boards.build(tmp_path / "out", whole, limited, sandbox)
    groups = {row["group"]: row["apart"] for row in boards.data(tmp_path / "out")["models"]}
    assert (built.models, built.apart) == (18, 12)
    assert groups["Open LLM Leaderboard v1"] == []
    assert "Only the first 12 documents" in groups["Open LLM Leaderboard v1: 12 documents a task"][0]
    assert "sandbox" in groups["sandbox_v1: sandbox"][0]


def test_the_same_models_met_twice_stand_there_once(runs: Path, tmp_path: Path) -> None:
    built = boards.build(tmp_path / "out", runs, runs)
    assert (built.models, built.doubles) == (6, 6)


def test_built_again_it_is_the_same_to_the_byte_and_in_any_order(runs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(runs, tmp_path / "other", symlinks=True)
    for path in records(other, "evaluate"):
        boards.change(path, "key", to="f" + json.loads(path.read_text())["key"][1:])
    first, second = tmp_path / "a", tmp_path / "b"
    boards.build(first, runs, other)
    boards.build(second, other, runs)
    boards.build(second, other, runs)  # over an earlier one
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("models", 2, "average", "value"), float("nan"), "finite"),
        (("models", 2, "scores", "arc", "value"), 1.5, "less than or equal to 1"),
        (("models", 2, "scores", "arc", "low"), 0.999, "ends before it begins"),
        (("models", 2, "blocks"), "many", "valid integer"),
        (("models", 2, "parameters"), 10**30, "less than or equal"),
        (("models",), [], "names no model"),
        (("suite",), "x" * 5000, "at most 200"),
        (("tasks",), {}, "another version"),
        (("models", 2, "scores"), {"| <b>": {"value": 0.5, "low": 0.4, "high": 0.6}}, "another version"),
    ],
)
def test_a_record_that_cannot_be_is_left_out_told_and_counted(
    keys: tuple[object, ...], value: object, said: str, runs: Path, a_run: Path, tmp_path: Path
) -> None:
    other = runs.rename(tmp_path / "broken")
    for path in records(other, "evaluate"):  # other evaluations than the whole run's
        boards.change(path, "key", to="e" + json.loads(path.read_text())["key"][1:])
    rewrite(report(other), *keys, to=value)
    built = boards.build(tmp_path / "out", a_run, other)
    assert built.models == 6 and len(built.skipped) == 1 and said in built.skipped[0][1]
    assert len(built.skipped[0][1]) < 400 and "\n" not in built.skipped[0][1]


def test_damage_is_told_in_one_line_each(runs: Path, a_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "many"
    spoilt = {"cut": "{", "list": "[]", "null": "null", "binary": "\udcff"}
    for name, text in spoilt.items():
        (broken / name).mkdir(parents=True)
        (broken / name / "run.json").write_text(text, errors="surrogateescape")
    built = boards.build(tmp_path / "out", broken, a_run)
    assert built.models == 6 and len(built.skipped) == len(spoilt)


def test_documents_that_cannot_be_read_cost_the_comparison_and_not_the_row(
    runs: Path, tmp_path: Path
) -> None:
    sample = sorted((runs / "store" / "evaluate").glob("*/samples/arc.parquet"))[0]
    sample.write_bytes(b"x" * sample.stat().st_size)
    built = boards.build(tmp_path / "out", runs)
    assert built.models == 6 and "samples are damaged" in built.lacking[0][1]
    assert sum(row["answers"] is None for row in boards.data(tmp_path / "out")["models"]) == 1


def test_the_dataset_loads_and_says_what_the_page_says(runs: Path, tmp_path: Path) -> None:
    import datasets

    boards.build(tmp_path / "out", runs)
    place, cache = str(tmp_path / "out" / "dataset"), str(tmp_path / "cache")
    models, answers, sets = (
        datasets.load_dataset(place, name, split="train", cache_dir=cache)
        for name in ("models", "answers", "documents")
    )
    assert datasets.load_dataset(place, split="train", cache_dir=cache).column_names == models.column_names
    shown = {row["name"]: row for row in boards.data(tmp_path / "out")["models"]}
    for row in models:
        assert [row["arc"], row["arc_low"], row["arc_high"]] == pytest.approx(
            shown[row["name"]]["scores"]["arc"], abs=1e-6
        )
    card = (tmp_path / "out" / "dataset" / "README.md").read_text()
    assert all(f"| `{name}` |" in card for one in (models, answers, sets) for name in one.column_names)
    for name in ("latency", "tokens_per_second", "speed_up"):
        assert f"| `{name}_low` | `double` | lowest and highest round |" in card, name
    assert "| `kl_low` | `double` | ends of the 95 % interval |" in card
    assert {row["documents"] for row in answers} == set(sets["documents"])
    lengths = {row["documents"]: len(row["prompt"]) for row in sets}
    assert all(len(row["scores"]) == lengths[row["documents"]] for row in answers)


def test_what_is_no_source_and_what_is_no_place_are_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FactoryError, match="no model to show"):
        boards.build(tmp_path / "out", tmp_path / "empty")
    with pytest.raises(FactoryError, match="there is no folder"):
        boards.build(tmp_path / "out", "./nowhere")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    with pytest.raises(FactoryError, match="something else here"):
        boards.build(tmp_path / "taken", runs)
    assert (tmp_path / "taken" / "thesis.tex").read_text() == "mine" and not (tmp_path / "out").exists()


def test_a_misspelt_folder_is_told_before_the_hub_is_asked(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(board_sources, "_of_namespace", lambda name, *_: asked.append(name) or iter(()))
    monkeypatch.chdir(runs.parent)
    (runs.parent / "rusm").mkdir()  # likest, but no source of models
    build = ["leaderboard", "build", "--out", str(tmp_path / "out"), "--from"]
    assert call([*build, "rusn"]) == 2
    assert capsys.readouterr().err == (
        "error: --from: there is no folder 'rusn'. Write 'runs', if that is meant, or 'hf://rusn' for a user "
        "or an organisation of the Hub.\n"
    )
    assert call([*build, "./rusn"]) == 2
    assert "Write 'runs', if that is meant.\n" in capsys.readouterr().err
    assert asked == []
    call([*build, "hf://rusn"])
    call([*build, "acme"])
    assert asked == ["rusn", "acme"]


def test_the_command_counts_and_warns(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "cut").mkdir()
    (runs / "cut" / "run.json").write_text("{")
    assert call(["leaderboard", "build", "--from", str(runs), "--out", str(tmp_path / "out"), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["models"], told["apart"], len(told["skipped"])) == (6, 6, 1)
    assert len(err.strip().splitlines()) == 1 and ": left out: " in err


def test_what_only_some_recipes_measure_has_columns_where_a_record_has_it(runs: Path, tmp_path: Path) -> None:
    (one,) = board_sources.found(str(runs), lambda where, why: None, boards.PATIENCE)
    spread = {"median": 0.004, "low": 0.003, "high": 0.005}
    model = {"device": "cpu", "dtype": "float32", "decode_seconds": spread, "tokens_per_second": spread}
    work = {"batch": 1, "prompt": 256, "new": 64}
    facts = {
        "workload": work,
        "models": {"base": model, "pruned": {**model, "decode_seconds": {"median": 0.002}}},
    }
    rate = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 9}
    more = {
        "measure": {"facts": facts, "machine": {"cpu": "A CPU"}},
        "draft/merged": {"facts": {"greedy": {"all": {"rate": rate}}, "measured": {"speed_up": rate}}},
        "drift/merged": {"facts": {"kl": {**rate, "stderr": 0.1}, "similarity": None}},
    }
    run = dataclasses.replace(one.run, records={**one.run.records, **more})
    found = {row.variant: row for row, _ in board_rows.rows(dataclasses.replace(one, run=run), print)}
    assert found["base"].more["latency"].value == pytest.approx(4) and found["base"].more["latency"].low
    assert found["merged"].more["latency"].value == pytest.approx(2)  # of its shape, the pruned model's
    assert found["merged"].more["acceptance"].value == 0.7 and found["merged"].more["kl"].low == 0.6
    assert "similarity" not in found["merged"].more and "kl" not in found["pruned"].more
    assert found["merged"].tokens_per_second is not None and "A CPU" in found["merged"].measured_on
    page = tmp_path / "page"
    board_page.write([(row, None) for row in found.values()], page)
    assert json.loads((page / "models.js").read_text().split(" = ", 1)[1][:-2])["models"][0]["speed"]


@pytest.mark.parametrize("value", ["fast", [1], float("inf")])
def test_a_measured_figure_that_cannot_be_costs_its_run_and_is_told(value: object, runs: Path) -> None:
    (one,) = board_sources.found(str(runs), lambda where, why: None, boards.PATIENCE)
    records = {**one.run.records, "drift/merged": {"facts": {"kl": {"value": value}}}}
    found = dataclasses.replace(one, run=dataclasses.replace(one.run, records=records))
    with pytest.raises(FactoryError, match="kl"):
        list(board_rows.rows(found, print))
