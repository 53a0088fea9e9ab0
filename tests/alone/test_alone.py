"""`factory prune` on a folder: without a recipe, whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from factory.alone.stage import new_folder
from factory.cli import call
from factory.errors import FactoryError
from factory.models import surgery
from factory.stages import prune as stage


def test_it_prunes_proves_and_says_so(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "pruned"
    assert call(["prune", str(tiny_model), "--drop", "1:3,4", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("blocks 1..2 and 4, 0-based, of 6, are gone; ")
    assert said[1].startswith("proved: over 64 tokens, 8 of them generated, the same logits bit for bit")
    assert said[2].startswith(f"the model is in {out} (0 MB)")
    assert AutoModelForCausalLM.from_pretrained(out).config.num_hidden_layers == 3
    record = json.loads((out / "record.json").read_text())
    assert record["facts"]["blocks"] == [1, 2, 4]
    assert (record["facts"]["proof"]["mode"], record["facts"]["proof"]["max_difference"]) == ("whole", 0.0)
    assert record["base"] == str(tiny_model) and record["machine"]["cores"] >= 1
    assert [path.name for path in out.parent.iterdir()] == ["pruned"]


def test_json_and_no_proof(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out"), "--no-proof", "--json"]
    assert call(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [lines[0]["kind"], lines[-1]["kind"]] == ["planned", "result"]
    assert lines[-1]["proof"]["mode"] == "off"


def test_without_proof_it_loads_nothing_heavy(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out"), "--no-proof"]
    code = (
        f"from factory.cli import call; import sys; call({arguments}); print({{'torch'}} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "set()"


def test_an_empty_folder_may_be_filled_a_full_one_not(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "empty"), "--no-proof"]) == 0
    before = sorted((tmp_path / "empty").iterdir())
    assert call(["prune", str(tiny_model), "--drop", "4", str(tmp_path / "empty")]) == 2
    assert "there is something already" in capsys.readouterr().err
    assert sorted((tmp_path / "empty").iterdir()) == before


def test_a_link_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    assert call(["prune", str(tiny_model), "--drop", "4", str(tmp_path / "link"), "--no-proof"]) == 2
    assert (tmp_path / "link").is_symlink() and not any((tmp_path / "there").iterdir())


def test_a_failed_proof_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = surgery.kept_tensors

    def shifted(base: object, kept: tuple[int, ...]) -> object:
        return real(base, (kept[1], kept[0], *kept[2:]))  # type: ignore[arg-type]

    monkeypatch.setattr(surgery, "kept_tensors", shifted)
    assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out")]) == 2
    assert "is not the base without these blocks: logits differ" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_folder_that_was_asked_for(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
        assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out")]) == 2
    assert f"error: {tmp_path / 'out'}: the pruned model needs" in capsys.readouterr().err
    real = surgery.pruned_config

    def spoilt(*arguments: object) -> dict[str, object]:
        return {**real(*arguments), "rms_norm_eps": 0.5}  # type: ignore[arg-type]

    monkeypatch.setattr(surgery, "pruned_config", spoilt)
    assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path / 'out'}: the pruned checkpoint is not the base")
    assert list(tmp_path.iterdir()) == []


def test_errors_speak_of_no_hidden_folder(tmp_path: Path) -> None:
    hidden = ".out.partial"
    for where in (None, str(tmp_path / "base")):
        with pytest.raises(FactoryError) as told, new_folder(tmp_path / "out") as beside:
            raise FactoryError(f"{beside} has no room for {beside / 'model'}", where=where)
        assert hidden not in str(told.value) and told.value.where == where
        assert told.value.what == f"{tmp_path} has no room for {tmp_path / 'out'}"


def test_an_interruption_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "prove", interrupted)
    assert call(["prune", str(tiny_model), "--drop", "5", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_is_taken_over(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from factory.alone import stage as alone\nfrom factory.stages import prune\n"
        "prune.prove = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"alone.prune(Path({str(tiny_model)!r}), '5', Path({str(out)!r}), True, lambda *a, **k: None)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / ".out.partial" / "model").exists()
    assert call(["prune", str(tiny_model), "--drop", "5", str(out), "--no-proof"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_commands_do_not_write_one_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as beside:
        (beside / "model").mkdir()
        with (
            pytest.raises(FactoryError, match="another command is writing this folder"),
            new_folder(tmp_path / "out"),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_cannot_be_written(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["prune", str(tiny_model), "--drop", "5", "/proc/nowhere/out"]) == 2
    assert "the folder cannot be made" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["prune", "some-org/some-model", "--drop", "5", str(tmp_path / "out")]) == 2
    assert "there is no such folder. Name a folder with config.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sizes", "measure", "importance", "prune"])
def test_a_file_is_no_model(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("not a model")
    more = ["--drop", "5", str(tmp_path / "out")] if command == "prune" else []
    assert call([command, str(tmp_path / "notes.txt"), *more]) == 2
    errors = capsys.readouterr().err
    assert "notes.txt: this is a file, not a model folder. Name a folder with config.json" in errors
    assert errors.count("\n") == 1
