"""`factory new`: a recipe that is right as it stands, with the base's own figures; nothing is overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from factory import sandbox
from factory.cli import call
from factory.recipe.recipe import load_recipe
from factory.recipe.schema import text

ROOT = Path(__file__).parents[2]


def new(*arguments: str) -> int:
    return call(["new", *arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert new(*arguments) == 2
    return capsys.readouterr().err


def test_it_is_right_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    assert new("mine", "--base", "sandbox/base", "--out", str(out)) == 0
    assert call(["validate", str(out)]) == 0
    assert "is valid: 21 steps" in capsys.readouterr().out


def test_its_figures_are_the_bases(tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    shutil.copytree(sandbox.model_folder(), model)
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    out = tmp_path / "recipes" / "mine.yaml"
    assert new("mine", "--base", str(model), "--out", str(out)) == 0
    recipe = load_recipe(out)
    assert (recipe.base.model, recipe.prune.drop) == ("../models/tiny", 2)
    assert recipe.drift and recipe.drift.rows == 100 and recipe.drift.text
    assert recipe.publish is not None and recipe.publish.license == "mit"


def test_an_editor_finds_the_schema(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "first.yaml", tmp_path / "a" / "b" / "second.yaml"
    for out in (first, second):
        assert new("mine", "--base", "sandbox/base", "--out", str(out)) == 0
    assert (tmp_path / "a" / "recipe.schema.json").read_text() == text()
    assert first.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert second.read_text().startswith("# yaml-language-server: $schema=../recipe.schema.json\n")


def test_a_base_that_cannot_be_asked_for_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "far.yaml"
    assert new("far", "--base", "some/model", "--out", str(out)) == 0
    assert "note: 'some/model' is no folder, and the Hub cannot be asked" in capsys.readouterr().out
    assert load_recipe(out).prune.drop == 6


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    assert "there already" in refusal(capsys, "mine", "--base", "sandbox/base", "--out", str(out))
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "base", "said"),
    [
        ("../up", "sandbox/base", "does not do as a recipe's name"),
        ("..", "sandbox/base", "does not do as a recipe's name"),
        ("mine\n", "sandbox/base", "does not do as a recipe's name"),
        ("store", "sandbox/base", "'store' is the folder of all artifacts"),
        ("ends.", "sandbox/base", "'ends.' ends in a dot, which Windows leaves out"),
        ("Aux", "sandbox/base", "'Aux' is a device's name on Windows"),
        ("mine", "sandbox/bose", "Write 'sandbox/base', if that is meant"),
        ("mine", "./nowhere", "there is no model folder"),
        ("mine", "a/b}\nname: other", "is no model"),
        ("mine", "sandbox/corpus", "there is no model"),
    ],
)
def test_what_is_wrong_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, base: str, said: str
) -> None:
    assert said in refusal(capsys, name, "--base", base, "--out", str(tmp_path / "new" / "mine.yaml"))
    assert not list(tmp_path.iterdir())
