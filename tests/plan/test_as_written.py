"""A recipe is looked at as it is written before its miniature, and the Hub is not asked for that."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import SANDBOX_RECIPE, write

from factory.cli import call

HUB = SANDBOX_RECIPE.replace("base: {model: sandbox/base}", "base: {model: nobody/has-this}")
assert HUB != SANDBOX_RECIPE


def dry(path: Path, *more: str) -> int:
    return call(
        ["run", str(path), "--miniature", "--dry-run", "--runs-dir", str(path.parent / "runs"), *more]
    )


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("prune.drop=40", "drop removes 40 blocks, 'sandbox/base' has only 12"),
        ("datasets.math.id=sandbox/maths", "there is no dataset 'sandbox/maths'"),
        ("datasets.math.id=./nowhere", "there is no dataset folder './nowhere'"),
        ("datasets.math.columns.response=answr", "no column 'answr'"),
        ("sweep={prune.drop: [2, 40]}", "drop removes 40 blocks, 'sandbox/base' has only 12"),
    ],
)
def test_a_miniature_refuses_what_validate_refuses(
    mistake: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, SANDBOX_RECIPE)
    assert call(["validate", str(path), "--set", mistake]) == 2
    refused = capsys.readouterr().err
    assert said in refused
    assert dry(path, "--set", mistake) == 2
    assert capsys.readouterr().err == refused


def test_what_is_on_the_hub_is_not_asked_for_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("factory.hub_files._repository", lambda *names: asked.append(str(names)))
    path = write(tmp_path, HUB)
    assert dry(path) == 0
    told = f"note: what {path} names on the Hub is not looked at in miniature; `factory validate {path}` does"
    assert capsys.readouterr().err.splitlines() == [told]
    assert not asked


def test_what_is_here_is_looked_at_beside_a_base_on_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(write(tmp_path, HUB), "--set", "datasets.math.id=sandbox/maths") == 2
    assert "there is no dataset 'sandbox/maths'" in capsys.readouterr().err


def test_what_training_needs_may_be_on_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factory.plan.outside.missing_quantiser", lambda: ("it wants a GPU", "Find one"))
    path = write(tmp_path, SANDBOX_RECIPE)
    assert call(["validate", str(path), "--set", "train.method=qlora"]) == 2
    capsys.readouterr()
    assert dry(path, "--set", "train.method=qlora") == 0
    assert capsys.readouterr().err == ""
