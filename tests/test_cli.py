"""The commands as a person meets them: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stand_in

from factory import __version__, hashing
from factory.cli import call
from factory.run.run import run

RECIPE = """\
name: tiny
base: {{model: {model}}}
prune: {{drop: 2, calibration: {{dataset: texts, rows: 4, max_tokens: 32}}}}
datasets:
  math: {{id: math, prompt: math, check: final_number}}
train: {{sft: {{max_steps: 1}}}}
variants:
  math-sft: {{data: [math], targets: original}}
evaluate: {{suite: sandbox_v1, limit: 2}}
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe on local folders, in a working folder of its own."""
    for folder, rows in {
        "texts": [{"text": f"Text number {i} is here to be read."} for i in range(8)],
        "math": [{"question": f"What is {i} and 1?", "answer": f"It is #### {i + 1}"} for i in range(8)],
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(model=tiny_model))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs folder of a finished stand-in run called r."""
    run(stand_in.plan("r"), tmp_path / "runs", load=stand_in.load)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def score(value: float) -> dict[str, Any]:
    return {"value": value, "stderr": 0.01, "low": value - 0.02, "high": value + 0.02, "n": 200}


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'pydantic', 'rich', 'datasets', 'numpy'}"
    code = f"from factory.cli import call; import sys; call(['--help']); print({heavy} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "set()"
    for command in ("run", "plan", "validate", "status", "show", "sizes", "measure", "prune", "sandbox"):
        assert f"\n  {command} " in output


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"factory {__version__}\n"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == 0
    assert capsys.readouterr().out.startswith("Usage: factory")
    assert call(["sandbox"]) == 0
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnu"], "error: No such command 'rnu'."),
        (["run"], "error: Missing argument 'RECIPE'."),
        (["run", "r.yaml", "--jobs", "0"], "error: Invalid value for '--jobs': "),
        (["run", "absent.yaml"], "error: absent.yaml"),
        (["status", "absent"], 'error: runs: there is no run "absent". Start one with factory run RECIPE.'),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(line)
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(tmp_path / "absent.yaml"), "--debug"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.splitlines()[-1].startswith("error: ")


def test_an_interruption_says_how_to_go_on(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("factory.plan.sweep.plan_file", interrupted)
    assert call(["run", "r.yaml"]) == 130
    assert capsys.readouterr().err == "error: interrupted. Run the same command again to resume.\n"
    monkeypatch.setattr("factory.alone.evaluate.evaluate", interrupted)
    assert call(["evaluate", "sandbox/base"]) == 130
    assert "interrupted. With --out the same command goes on where it was.\n" in capsys.readouterr().err


def test_with_json_an_error_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", str(tmp_path / "absent.yaml"), "--json"]) == 2
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert (told["kind"], told["exit_code"]) == ("error", 2)
    assert output.err == f"error: {told['message']}\n"


def test_a_valid_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", recipe.name]) == 0
    assert capsys.readouterr().out.startswith("tiny.yaml is valid: ")


def test_a_mistake_in_a_recipe_names_its_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(recipe.read_text().replace("drop: 2", "drop: 6"))
    for command in ("validate", "plan", "run"):
        assert call([command, recipe.name]) == 2
        assert capsys.readouterr().err.startswith("error: tiny.yaml:3: ")
    assert not Path("runs").exists()


def test_set_lays_a_value_over_the_recipe(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", recipe.name, "--set", "prune.drop=3", "--json"]) == 0
    steps = {step["name"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["prune"]["settings"]["drop"] == 3
    assert steps["prune"]["needs"] == ["importance"]
    assert steps["prune"]["state"] == "missing"


def test_a_dry_run_shows_the_chosen_steps_and_writes_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", recipe.name, "--dry-run", "--only", "train/*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["importance", "prune", "train/math-sft"]
    assert lines[-1] == "3 steps, 0 done; 64,064 parameters become 45,504 (71%)"
    assert not Path("runs").exists()


def test_weights_are_read_only_where_a_key_can_be_met(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To check and to estimate takes no key; to find what is made already does."""
    monkeypatch.setattr(hashing, "REMEMBERED_FROM", 100_000)  # the weights alone are larger
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))

    def keys() -> set[str | None]:
        assert call(["plan", recipe.name, "--json"]) == 0
        return {step["key"] for step in json.loads(capsys.readouterr().out)["steps"]}

    with monkeypatch.context() as unreadable:
        unreadable.setattr(hashing, "_digest", _small_alone)
        for command in (["validate"], ["parts"], ["plan"], ["plan", "--markdown"], ["run", "--dry-run"]):
            assert call([command[0], recipe.name, *command[1:]]) == 0
        assert "keys: `factory run` reads 1 large file (0.0 GB) for them, once" in capsys.readouterr().out
        assert keys() == {None}
        assert call(["plan", recipe.name, "--json"]) == 0
        (unread,) = json.loads(capsys.readouterr().out)["unread"].items()
        assert unread[0].endswith("model.safetensors") and unread[1] == Path(unread[0]).stat().st_size
    (Path("runs") / "store" / "prune" / "0123456789abcdef").mkdir(parents=True)
    known = keys()
    assert None not in known
    shutil.rmtree("runs")
    assert keys() == known  # for it is remembered


def test_a_plan_has_one_form(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", recipe.name, "--json", "--markdown"]) == 2
    assert capsys.readouterr().err == "error: --json and --markdown are two forms. Give one of them.\n"


def _small_alone(file: Path) -> str:
    assert file.suffix != ".safetensors"
    return file.name


def test_a_runs_folder_that_cannot_be_written(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file")
    assert call(["run", recipe.name, "--runs-dir", "taken"]) == 2
    errors = capsys.readouterr().err
    assert "the folder for runs cannot be written: " in errors
    assert errors.count("\n") == 1


def test_run_makes_real_artifacts_and_says_when_nothing_is_left(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", recipe.name, "--only", "prune"]) == 0
    output = capsys.readouterr()
    assert [line.partition(":")[0] for line in output.err.splitlines()] == ["[1/2] importance", "[2/2] prune"]
    assert output.out.startswith("made 2 of 2 steps in ")
    assert json.loads(Path("runs/tiny/models/pruned/config.json").read_text())["num_hidden_layers"] == 4
    assert call(["run", recipe.name, "--only", "prune"]) == 0
    assert capsys.readouterr().out == "everything is up to date: 2 steps, nothing to do\n"


def test_the_parent_never_loads_torch(recipe: Path) -> None:
    code = (
        "import sys; from factory.cli import call; "
        f"assert call(['run', {recipe.name!r}, '--only', 'prune']) == 0; assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=recipe.parent, env=environment)


def test_status_lists_runs_and_their_steps(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["r", "4", "4"]
    artifact = next((done / "store" / "report").glob("[!.]*"))
    artifact.rename(artifact.with_name(f".{artifact.name}.partial"))
    assert call(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["r", "3", "4"]
    for name in ("r", str(done / "r")):
        assert call(["status", name]) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [row[:2] for row in rows[1:]] == [
            ["regenerate/left", "done"],
            ["regenerate/right", "done"],
            ["train/join", "done"],
            ["report", "partial"],
        ]
    assert call(["status", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][3]["state"] == "partial"


def test_a_misspelt_run_is_answered_with_the_one_meant(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (done / "r").rename(done / "quickstart")
    for command in ("status", "show"):
        assert call([command, "quikstart"]) == 2
        assert capsys.readouterr().err == (
            "error: runs: there is no run \"quikstart\". Write 'quickstart', if that is meant.\n"
        )


def test_a_damaged_run_page_is_not_taken_for_an_absent_run(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (done / "r" / "run.json").write_text("{")
    assert call(["status", "r"]) == 2
    assert "run.json: cannot read run.json" in capsys.readouterr().err
    assert call(["status"]) == 0
    assert "warning: " in capsys.readouterr().err


def test_show_prints_the_scores_and_where_the_pictures_are(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["show", "r"]) == 2
    assert "has no report yet" in capsys.readouterr().err
    model = {
        "name": "math-self", "kind": "trained", "blocks": 10, "parameters": 1_100_000,
        "scores": {"arc": score(0.5), "gsm8k": score(0.25)}, "average": score(0.375), "recovery": score(0.91),
    }  # fmt: skip
    report = {
        "recipe": "r", "suite": "s", "confidence": 0.95, "models": [model],
        "prune": {"sentence": "blocks 4..5, 0-based, of 12"},
    }  # fmt: skip
    (done / "r" / "report.json").unlink(missing_ok=True)
    (done / "r" / "report.json").write_text(json.dumps(report))
    (done / "r" / "importance.png").unlink(missing_ok=True)
    (done / "r" / "importance.png").write_bytes(b"")
    assert call(["show", "r"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "r: blocks 4..5, 0-based, of 12, removed"
    assert " ".join(lines[1].split()) == "model blocks, size arc gsm8k average recovery"
    assert " ".join(lines[3].split()) == "math-self 10, 1.10M 50.0 25.0 37.5 [35.5, 39.5] 91.0 [89.0, 93.0]"
    assert lines[-1] == "runs/r/importance.png"
    assert call(["show", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == "math-self"


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_base_is_not_trained_over_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str
) -> None:
    out = tmp_path / "out"
    if there == "folder":
        out.mkdir()
    (out / "README.md" if there == "folder" else out).write_text("mine")
    assert call(["sandbox", "train", str(out), "--steps", "1"]) == 2
    assert f"error: {out}: there is something already. Name a new folder" in capsys.readouterr().err
