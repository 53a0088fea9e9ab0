"""A stage's refusal names the recipe's line, the key and the step; what a machine lacks is told at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from factory.cli import call
from factory.errors import FactoryError
from factory.plan.places import placed
from factory.plan.sweep import plan_file

RECIPE = """\
name: tiny
base: {model: sandbox/base}
prune: {drop: 2, proof: false, calibration: {dataset: sandbox/corpus, rows: 4, max_tokens: 32}}
datasets:
  math: {id: sandbox/math, prompt: math, check: final_number, rows: 16}
regenerate:
  engine: transformers
train:
  sft:
    max_steps: 2
variants:
  math-self: {data: [math], targets: self}
  other:
    data: [math]
    targets: original
    train:
      sft: {learning_rate: 100}
evaluate: {suite: sandbox_v1, limit: 2}
"""
RATE = "train.sft.learning_rate"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def told(recipe: Path, step: str, where: str | None, *overrides: str) -> str:
    plan = plan_file(recipe, overrides)
    return str(placed(plan, plan.step(step), FactoryError("it broke", where=where, mend="Mend it")))


def test_a_key_is_found_where_the_variant_says_it(recipe: Path) -> None:
    assert told(recipe, "train/other", RATE) == f"{recipe}:17: {RATE} of train/other: it broke. Mend it."


def test_else_where_the_recipe_says_it_or_what_stands_around_it(recipe: Path) -> None:
    said = told(recipe, "train/math-self", "train.sft.max_steps")
    assert said.startswith(f"{recipe}:10: train.sft.max_steps of train/math-self: ")
    assert told(recipe, "train/math-self", RATE).startswith(f"{recipe}:9: {RATE} of ")
    assert told(recipe, "train/math-self", "train").startswith(f"{recipe}:8: train of ")


def test_a_command_lines_value_is_the_place(recipe: Path) -> None:
    said = told(recipe, "train/math-self", RATE, f"{RATE}=7")
    assert said.startswith(f"--set {RATE}=7: {RATE} of train/math-self: it broke")


def test_a_sweeps_steps_have_lines_too(recipe: Path) -> None:
    said = told(recipe, "drop=2/train/other", RATE, "sweep.prune.drop=[1, 2]")
    assert said.startswith(f"{recipe}:17: {RATE} of drop=2/train/other: ")


@pytest.mark.parametrize("where", [None, "rows.jsonl:7", "http://localhost:8000/v1", "/a/train.sft"])
def test_any_other_place_stays_as_it_is(recipe: Path, where: str | None) -> None:
    assert told(recipe, "train/other", where) == f"{where}: it broke. Mend it.".removeprefix("None: ")


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_told_with_the_line_of_the_learning_rate(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("learning_rate: 100", "learning_rate: 1.0e+9, max_steps: 9"))
    words = ["run", str(recipe), "--runs-dir", str(tmp_path / "runs"), "--only", "train/other"]
    assert call(words) == 2
    assert f"error: {recipe}:17: {RATE} of train/other: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        pytest.param(
            ["regenerate.engine=vllm"], "the engine 'vllm' cannot be loaded",
            marks=pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed"),
        ),
        (
            ["regenerate.engine=openai",
             "regenerate.server={url: http://localhost:1/v1, model: it, api_key_env: NO_SUCH_KEY}"],
            "the environment variable NO_SUCH_KEY, which should hold its key, is not set",
        ),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_work_is_refused_before_anything_is_made(
    recipe: Path, tmp_path: Path, overrides: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for override in overrides for word in ("--set", override)]
    assert call(["run", str(recipe), "--runs-dir", str(tmp_path / "runs"), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --set {overrides[-1]}: regenerate.") and line in said
    assert not (tmp_path / "runs").exists()
