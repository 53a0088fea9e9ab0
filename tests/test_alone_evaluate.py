"""`factory evaluate`: scores of a model alone, resumable, and never another model's."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_rows import arc_row, data_folder, mmlu_row, write

from factory.cli import call
from factory.store import Lock

ROOT = Path(__file__).parents[1]
TASKS = ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
FEW = "arc=2,hellaswag=1,mmlu=2,winogrande=2,gsm8k=1"
LIMITED = "Only the first 4 documents of each task or subject are scored: not comparable with the whole suite"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of all six tasks; read only."""
    return data_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def arc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many rows of one task; read only."""
    root = tmp_path_factory.mktemp("arc") / "data"
    folder = root / "allenai__ai2_arc" / "ARC-Challenge"
    write([arc_row(i) for i in range(160)], folder / "test.parquet")
    write([arc_row(i) for i in range(300, 330)], folder / "train.parquet")
    return root


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


@pytest.fixture(scope="module")
def limited(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All six tasks scored with a limit: the folder, and what the terminal showed."""
    out = tmp_path_factory.mktemp("limited") / "new" / "out"
    command = arguments(tiny_model, data, "--limit", "4", "--shots", FEW, "--out", str(out))
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
    assert {name: (out / name).stat().st_size for name in record["files"]} == record["files"]
    assert {f"samples/{task}.parquet" for task in TASKS} < set(record["files"])
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "log.txt", "record.json", "results", "samples", "scores.json",
    ]  # fmt: skip
    told = pq.read_schema(out / "samples" / "winogrande.parquet").metadata
    assert (told[b"factory.suite"], told[b"factory.limit"], told[b"factory.shots"]) == (
        b'"openllm_v1"', b"4", b"2",
    )  # fmt: skip
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


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in the middle of a task: what was scored is not scored again, and the result is the same."""
    out, marked = tmp_path / "out", tmp_path / "marked"
    command = arc(tiny_model, arc_data, "--batch-size", "3")
    assert call([*command, "--out", str(tmp_path / "undisturbed")]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "factory.cli", *command, "--out", str(out), "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if (event := json.loads(line))["kind"] == "progress" and event["done"] >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with (out / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the child that scores is gone too
    kept = (out / "samples" / "arc.jsonl").read_bytes()
    before = kept.count(b"\n")
    assert 17 <= before < 160, "at most one batch is lost, and it was killed in the middle"
    assert not (out / "record.json").exists()
    # A word in what was kept is still there at the end: that document was not scored again.
    shutil.copytree(out, marked)
    first = json.loads(kept.splitlines()[0])
    line = json.dumps({**first, "prediction": "marked"}).encode() + b"\n"
    rest = b"".join(kept.splitlines(keepends=True)[1:])
    (marked / "samples" / "arc.jsonl").write_bytes(line + rest + b'{"index": 3, "sco')
    capsys.readouterr()
    for folder in (out, marked):
        assert call([*command, "--out", str(folder), "--json"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert next(event["done"] for event in events if event["kind"] == "progress") > before
        assert json.loads((folder / "record.json").read_text())["resumed"] is True
    assert artifact(out) == artifact(tmp_path / "undisturbed")
    rows = pq.read_table(marked / "samples" / "arc.parquet").to_pylist()
    assert [row["index"] for row in rows if row["prediction"] == "marked"] == [first["index"]]
    assert not list(out.glob("**/*.jsonl")) and not (out / "begun.json").exists()


def test_a_finished_folder_is_read_and_not_made_again(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arc(tiny_model, arc_data, "--limit", "3", "--out", str(tmp_path / "out"), "--json")
    assert call(command) == 0
    first = result(capsys)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.name != ".lock"}
    assert call(command) == 0
    again = capsys.readouterr().out.splitlines()
    assert json.loads(again[-1]) == first
    assert not any(json.loads(line)["kind"] == "progress" for line in again)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def lost_samples(out: Path) -> None:
    (out / "samples" / "arc.parquet").unlink()


def cut_samples(out: Path) -> None:
    path = out / "samples" / "arc.parquet"
    path.write_bytes(path.read_bytes()[:-9])


def altered_scores(out: Path) -> None:
    text = (out / "scores.json").read_text()
    (out / "scores.json").write_text(text.replace('"n": 3', '"n": 4'))


def lost_results(out: Path) -> None:
    shutil.rmtree(out / "results")


@pytest.mark.parametrize("damage", [lost_samples, cut_samples, altered_scores, lost_results])
def test_a_damaged_folder_is_mended_and_not_believed(
    damage: Any, tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = arc(tiny_model, arc_data, "--limit", "3", "--out", str(out), "--json")
    assert call(command) == 0
    first, before = result(capsys), artifact(out)
    damage(out)
    assert call(command) == 0
    assert result(capsys) == first
    assert artifact(out) == before
    assert list(out.glob("results/**/*.json")) and not (out / "begun.json").exists()


def changed_weights(model: Path) -> str:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return "model"


def changed_tokenizer(model: Path) -> str:
    content = json.loads((model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (model / "tokenizer.json").write_text(json.dumps(content))
    return "model"


@pytest.mark.slow
@pytest.mark.parametrize("change", [changed_weights, changed_tokenizer])
def test_two_models_under_one_name_never_share_scores(
    change: Any, tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_model, model)
    command = arc(model, arc_data, "--limit", "12", "--json")
    assert call([*command, "--out", str(out)]) == 0
    first = result(capsys)
    differs = change(model)
    assert call([*command, "--out", str(out)]) == 2
    assert f"this folder holds another evaluation (other {differs})" in result(capsys)["message"]
    assert call([*command, "--out", str(tmp_path / "other")]) == 0
    assert result(capsys)["key"] != first["key"]
    logprobs = [
        pq.read_table(folder / "samples" / "arc.parquet")["logprobs"].to_pylist()
        for folder in (out, tmp_path / "other")
    ]
    assert logprobs[0] != logprobs[1]


def test_a_folder_goes_on_with_another_batch_size(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After running out of memory one asks for less of it."""
    command = arc(tiny_model, arc_data, "--limit", "3", "--out", str(tmp_path / "out"), "--json")
    assert call(command) == 0
    first = result(capsys)
    before = artifact(tmp_path / "out")
    assert call([*command, "--batch-size", "2"]) == 0
    assert result(capsys) == first
    assert artifact(tmp_path / "out") == before


def test_a_folder_of_other_settings_is_refused(
    tiny_model: Path,
    arc_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert call(arc(tiny_model, arc_data, "--limit", "3", *out)) == 0
    before = artifact(tmp_path / "out")
    assert call(arc(tiny_model, arc_data, "--limit", "2", *out)) == 2
    assert "(other limit)" in capsys.readouterr().err
    assert artifact(tmp_path / "out") == before


def test_two_commands_do_not_write_one_folder(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    lock = Lock(tmp_path / "out" / ".lock")
    assert lock.take()
    try:
        assert call(arc(tiny_model, arc_data, "--out", str(tmp_path / "out"))) == 2
    finally:
        lock.release()
    assert f"process {os.getpid()} is writing this folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_folder_of_something_else_is_left_alone(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert call(arc(tiny_model, arc_data, "--out", str(tmp_path))) == 2
    assert "there is something already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---------------------------------------------------------------- what cannot be scored


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--suite", "openllm_v2"), "--suite: there is no suite 'openllm_v2'. Write 'openllm_v1'"),
        (("--tasks", "arc,gsm8"), "--tasks: suite 'openllm_v1' has no task 'gsm8'. Write 'gsm8k'"),
        (("--tasks", "arc,,"), "--tasks: 'arc,,' names a task twice, or none"),
        (("--tasks", "arc,arc"), "--tasks: 'arc,arc' names a task twice, or none"),
        (("--shots", "arc"), "--shots: 'arc' is no task with its number of shots"),
        (("--shots", "arc=-1"), "--shots: 'arc=-1' is no task with its number of shots"),
        (("--shots", "truthfulqa=1"), "--shots: task 'truthfulqa' takes no shots"),
        (
            ("--tasks", "arc", "--shots", "hellaswag=2"),
            "--shots: task 'hellaswag' has shots, but is not among",
        ),
        (("--shots", "boolq=1"), "--shots: suite 'openllm_v1' has no task 'boolq'"),
        (("--tasks", "arc", "--shots", "arc=7"), "config 'ARC-Challenge' has only 6 rows for 7 shots"),
        (("--shots", FEW), "task 'mmlu': 55 of its 57 configs are missing: abstract_algebra, astronomy,"),
        (("--limit", "0"), "'--limit': Input should be greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_the_suite_is_one_line(
    more: tuple[str, ...],
    said: str,
    tiny_model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(arguments(tiny_model, data, *more, "--out", str(tmp_path / "out"))) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert call(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_rows_that_are_not_there_are_named(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    arc_folder = root / "allenai__ai2_arc" / "ARC-Challenge"
    write([{"question": "?", "answerKey": "A"}], arc_folder / "test.parquet")
    command = arguments(tiny_model, root, "--tasks", "arc", "--shots", "arc=1")
    assert "split 'test' of config 'ARC-Challenge' has no column 'choices'" in refused(command, capsys)
    (arc_folder / "test.parquet").unlink()
    assert "task 'arc': the dataset has no split 'test'" in refused(command, capsys)
    shutil.rmtree(root / "allenai__ai2_arc")
    assert "task 'arc': there is no folder 'allenai__ai2_arc' in it" in refused(command, capsys)
    assert "there is no such folder" in refused(arc(tiny_model, tmp_path / "none"), capsys)


def test_some_subjects_of_mmlu_are_scored_only_with_a_limit(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("test", "dev"):
        rows = [mmlu_row(i, "virology") for i in range(2)]
        write(rows, tmp_path / "cais__mmlu" / "virology" / f"{split}.parquet")
    command = arguments(tiny_model, tmp_path, "--tasks", "mmlu", "--shots", "mmlu=1")
    assert "56 of its 57 configs are missing" in refused(command, capsys)
    assert call([*command, "--limit", "9", "--json"]) == 0
    assert result(capsys)["comparable"] is False


def test_a_folder_that_is_no_subject_is_left_out_and_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmlu = tmp_path / "cais__mmlu"
    for subject in ("virology", "zz_mine"):
        for split in ("test", "dev"):
            write([mmlu_row(i, subject) for i in range(2)], mmlu / subject / f"{split}.parquet")
    command = arguments(tiny_model, tmp_path, "--tasks", "mmlu", "--shots", "mmlu=1", "--limit", "9")
    assert call([*command, "--json"]) == 0
    found = result(capsys)
    assert found["tasks"]["mmlu"]["n"] == 2
    assert "mmlu: no subjects of the suite, and left out: zz_mine" in found["notes"]
    assert any(line.startswith("mmlu lacks 56 of its 57 subjects") for line in found["why_not"])
    shutil.rmtree(mmlu / "virology")
    assert "mmlu has none of its subjects: zz_mine" in refused(command, capsys)


def test_a_part_of_the_rows_is_told_without_a_limit(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arc(tiny_model, arc_data, "--out", str(tmp_path / "out"))) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mmlu is" not in shown and "average mean" not in shown, "one task, which is not mmlu"
    (path,) = (tmp_path / "out").glob("results/**/results_*.json")
    told = [
        json.loads((tmp_path / "out" / "scores.json").read_text()),
        json.loads(path.read_text())["factory"],
    ]
    for line in (
        "arc: the rows are 160 of 1,172: not comparable",
        "arc: the rows for its shots are 30 of 1,119: not comparable",
    ):
        assert line in shown
        assert all(line in one["why_not"] and not one["comparable"] for one in told)


def test_a_model_without_a_tokenizer_is_refused(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*token*"))
    error = refused(arc(tmp_path / "model", arc_data), capsys)
    assert "the folder has no tokenizer. Save it beside the weights" in error


def test_a_tokenizer_that_cannot_be_loaded_is_refused(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer.json"))
    error = refused(arc(tmp_path / "model", arc_data), capsys)
    assert "there is no readable tokenizer" in error


def test_a_model_that_is_nowhere_is_told(
    arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(arc("some-org/some-model", arc_data), capsys)
    assert "MODEL: 'some-org/some-model' is no folder, and the Hub cannot be asked for a model" in error
    assert "go online once (HF_HUB_OFFLINE unset)" in error
    assert "there is no model folder './none'" in refused(arc("./none", arc_data), capsys)


def test_rows_that_only_the_hub_has_are_told_offline(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["evaluate", str(tiny_model), "--tasks", "arc"], capsys)
    assert "task 'arc': 'allenai/ai2_arc' is no folder, and the Hub cannot be asked for a dataset" in error


def test_numbers_that_are_none_name_task_and_row(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    error = refused(arc(model, arc_data, "--limit", "1", "--out", str(tmp_path / "out")), capsys)
    assert re.search(r"arc: the model's output for row \d+ is not finite", error)
    assert not (tmp_path / "out" / "record.json").exists()


def test_a_prompt_longer_than_the_model_is_cut_counted_and_told(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """29 shots of some 30 characters, a token each, in a model of 1,024 positions; 2 fit."""
    long = arguments(tiny_model, arc_data, "--tasks", "arc", "--shots", "arc=30", "--limit", "4")
    assert call([*long, "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "longer than the model's 1,024 positions: arc 4 of 4 documents" in said
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["tasks"]["arc"]["cut"] == 4
    rows = pq.read_table(tmp_path / "out" / "samples" / "arc.parquet").to_pylist()
    assert all(row["cut"] > 0 for row in rows)
    (theirs,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("results/**/*.json"))
    assert theirs["summary_general"]["truncated"] == 4
