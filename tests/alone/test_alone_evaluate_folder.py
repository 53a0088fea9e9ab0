"""`factory evaluate --out`: a folder is gone on with, never believed blindly, never another model's."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from evaluated import arc, artifact, result

from factory.cli import call
from factory.run.store import Lock

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    "damage",
    [
        cut_samples,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (lost_samples, altered_scores, lost_results)),
    ],
)
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
