"""What `factory compare` takes for a model, and how it answers."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import boards
import card_runs
import pytest

from factory.cli import call
from factory.errors import FactoryError
from factory.hub import documents


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("compared") / "runs"
    card_runs.build(runs, tiny_model)
    return runs


def test_variants_of_a_run_are_compared_as_its_report_compares_them(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = "llama-drop3/math-self", "llama-drop3/math-sft"
    assert call(["compare", a, b, "--runs-dir", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    report = json.loads(next((runs / "store" / "report").glob("*/report.json")).read_text())
    same = next(row for row in report["comparisons"] if row["model"] == "math-self")
    for task, line in told["tasks"].items():
        theirs = same["scores"][task]
        assert (line["won"], line["lost"]) == (theirs["won"], theirs["lost"])
        assert line["difference"]["value"] == pytest.approx(theirs["value"])
    assert call(["compare", a, b, "--runs-dir", str(runs)]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 tasks differ beyond chance: arc, mmlu, gsm8k." in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_run_and_the_folder_of_an_evaluation_are_names_too(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = next(
        path.parent
        for path in (runs / "store" / "evaluate").glob("*/record.json")
        if json.loads(path.read_text())["name"] == "evaluate/base"
    )
    assert call(["compare", str(base), f"{runs}/llama-drop3/base", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not any(line["beyond_chance"] or line["won"] for line in told["tasks"].values())


def test_scores_that_are_no_benchmarks_say_so(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs, tmp_path / "runs", symlinks=True)
    page = tmp_path / "runs" / "llama-drop3" / "run.json"
    told = json.loads(page.read_text())
    told["recipe"]["miniature"] = True
    page.write_text(json.dumps(told))
    names = ("llama-drop3/math-self", "llama-drop3/math-sft", "--runs-dir", str(tmp_path / "runs"))
    assert call(["compare", *names]) == 0
    assert "Miniature: " in capsys.readouterr().out
    assert call(["compare", *names, "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    evaluated = next((runs / "store" / "evaluate").glob("*/scores.json"))
    assert notes[0].startswith("Miniature: ") and notes[1:] == json.loads(evaluated.read_text())["why_not"]


def test_a_base_is_told_and_found_by_its_own_name(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on the leaderboard: it is one model, whatever runs began with it."""

    def compared(base: str, place: Path) -> list[str]:
        assert call(["compare", base, "llama-drop3/pruned", "--runs-dir", str(place), "--json"]) == 0
        return json.loads(capsys.readouterr().out)["models"]

    assert compared("llama-drop3/base", runs) == ["sandbox/base", "llama-drop3/pruned"]
    assert compared("sandbox/base", runs) == ["sandbox/base", "llama-drop3/pruned"]
    boards.build(tmp_path / "board", runs)
    assert "sandbox/base" in {row["name"] for row in boards.data(tmp_path / "board")["models"]}


@pytest.mark.parametrize("other", ["llama-drop3/base", "sandbox/base"])
def test_a_model_is_not_compared_with_itself(
    other: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["compare", "llama-drop3/base", other, "--runs-dir", str(runs)]) == 2
    assert capsys.readouterr().err == (
        "error: 'sandbox/base' is one and the same model twice. Name two models.\n"
    )


def test_a_base_that_runs_evaluated_differently_is_named_by_a_run(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = tmp_path / "runs"
    shutil.copytree(runs, two, symlinks=True)
    shutil.copytree(runs / "llama-drop3", two / "other", symlinks=True)
    page = two / "other" / "run.json"
    told = json.loads(page.read_text())
    step = next(step for step in told["steps"] if step["name"] == "evaluate/base")
    shutil.copytree(two / "store" / "evaluate" / step["key"], two / "store" / "evaluate" / ("0" * 16))
    page.write_text(page.read_text().replace(step["key"], "0" * 16))
    assert call(["compare", "sandbox/base", "llama-drop3/pruned", "--runs-dir", str(two)]) == 2
    err = capsys.readouterr().err
    assert "runs here evaluated 'sandbox/base' in 2 ways" in err
    assert "llama-drop3/base, other/base" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama-drop3/math-selv", "Write 'math-self', if that is meant"),
        ("llama-drop/math-self", "llama-drop3/math-self"),
        ("nothing of the kind", "there is no model 'nothing of the kind'"),
        ("", "there is no model ''"),
        ("..", "there is no model '..'"),
        ("a/b", "no run here has a model 'a/b', and HF_HUB_OFFLINE keeps the Hub from being asked"),
        ("a/b/c/d", "there is no model 'a/b/c/d'"),
    ],
)
def test_a_name_that_nobody_knows_is_one_line_with_a_suggestion(
    name: str, said: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert call(["compare", name, "llama-drop3/base", "--runs-dir", str(runs)]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err and "\n" not in err


def test_scored_documents_come_back_from_their_file(runs: Path, tmp_path: Path) -> None:
    folders = sorted(path.parent for path in (runs / "store" / "evaluate").glob("*/record.json"))
    one, other = (documents.read_samples(folder) for folder in folders[:2])
    path = tmp_path / documents.FILE
    path.write_bytes(documents.packed({"model": one, "base": other}))
    back = documents.unpacked(path, "base")
    assert back is not None and documents.unpacked(path, "pruned") is None
    for task, samples in other.items():
        for part in ("index", "group", "prompt", "score"):
            assert list(getattr(back[task], part)) == list(getattr(samples, part))


def _file(score: object = 1.0, prompt: tuple[str, ...] = ("p",)) -> bytes:
    task = {"group": ["g"], "index": [0], "prompt": list(prompt), "models": {"model": {"score": [score]}}}
    return gzip.compress(json.dumps({"tasks": {"t": task}}).encode())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_file()[:-4], "it is cut short"),
        (b"PAR1", "incorrect header"),
        (gzip.compress(b" " * (33 << 20)), "it is larger than any suite's"),
        (gzip.compress(b"[" * 100_000), "Invalid JSON"),
        (_file(score=1.5), "less than or equal to 1"),
        (_file(score="yes"), "a valid number"),
        (_file(prompt=("p", "q")), "a part has more documents than another"),
    ],
    ids=["cut", "parquet", "huge", "deep", "above one", "a word", "uneven"],
)
def test_a_strangers_file_that_cannot_be_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / documents.FILE
    path.write_bytes(_file())
    found = documents.unpacked(path, "model")
    assert found is not None and found["t"].score == [1.0]
    path.write_bytes(content)
    with pytest.raises(FactoryError, match=said):
        documents.unpacked(path, "model")
