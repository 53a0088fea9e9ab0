"""A recipe in miniature: the same steps from what needs no network, marked wherever its scores are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import SANDBOX_RECIPE, write

from factory.cli import call
from factory.errors import FactoryError
from factory.plan.sweep import plan_file
from factory.recipe.miniature import DROP, ROWS, TEXTS, TRIED, shrink_axes
from factory.recipe.recipe import Recipe
from factory.recipe.sweep import Sweep, load

# A stranger's recipe: everything in it is somewhere else, too large, or wants a GPU.
FAR = """\
name: far
base: {model: nobody/has-this-8B, revision: main}
prune:
  drop: 24
  exclude: {first: 2, last: 2}
  importance: block_influence
  calibration: {dataset: nobody/texts, config: en, rows: 5000, max_tokens: 4096}
datasets:
  math: {id: nobody/math, config: main, prompt: math, check: final_number, rows: 90000, overlap: 13}
  chat: {id: nobody/chat, prompt: chat, rows: 50000, deduplicate: rows, order: random}
regenerate:
  engine: openai
  server: {url: "http://localhost:1/v1", model: x}
  temperature: 0.7
  samples: 8
  select: best_of
train:
  method: qlora
  lora: {r: 64, target_modules: [c_attn]}
  sft: {num_train_epochs: 5, bf16: true, max_length: 8192, learning_rate: 3.0e-4, optim: paged_adamw_8bit}
variants:
  own:    {data: {math: 0.99, chat: 0.01}, rows: 40000, targets: self, train: {lora: {r: 128}}}
  plain:  {data: {math: 30000, chat: 5}, targets: original, train: {method: full, sft: {bf16: false}}}
  merged: {merge: ties, of: [own, someone/else, plain], weights: [1.0, 0.5, 1.0]}
evaluate: {suite: openllm_v1, tasks: [arc, gsm8k], shots: {gsm8k: 8}, batch_size: 512}
measure: {prompt: 2048, new: 512}
draft:
  target: {model: nobody/has-this-70B}
  prompts:
    seen: {of: math, rows: 5000}
    told: {id: nobody/chat, prompt: chat}
    open: {id: nobody/texts, prompt: text, prompt_tokens: 900}
publish: {push: [merged], namespace: somebody, license: llama3.1}
"""


def small(path: Path, *overrides: str) -> Recipe:
    found = load(path, overrides, miniature=True)
    assert isinstance(found, Recipe)
    return found


def test_it_has_the_steps_of_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, SANDBOX_RECIPE)
    steps = [step.name for step in plan_file(path).steps]
    assert [step.name for step in plan_file(path, miniature=True).steps] == steps


def test_a_part_that_is_all_as_usual_is_small_too(tmp_path: Path) -> None:
    recipe = small(write(tmp_path, f"{SANDBOX_RECIPE}drift: {{}}\nmeasure: {{}}\n"))
    assert recipe.drift and recipe.drift.rows == TRIED
    assert recipe.drift.text and recipe.drift.text.rows == TEXTS["rows"]
    assert recipe.measure and recipe.measure.rounds == 1


def test_what_is_far_or_large_is_near_and_small(tmp_path: Path) -> None:
    recipe = small(write(tmp_path, FAR))
    assert (recipe.name, recipe.base.model, recipe.miniature) == ("far-miniature", "sandbox/base", True)
    assert {dataset.id for dataset in recipe.datasets.values()} == {"sandbox/math", "sandbox/instruct"}
    assert max(dataset.rows or 0 for dataset in recipe.datasets.values()) == ROWS
    assert recipe.merged()["merged"].of == ("own", "pruned", "plain")
    names = [step.name for step in plan_file(tmp_path / "recipe.yaml", miniature=True).steps]
    assert names[:14] == [
        "importance", "prune", "curate/math", "curate/chat", "regenerate/math", "regenerate/chat",
        "train/own", "train/plain", "merge/merged", "evaluate/base", "evaluate/pruned", "evaluate/own",
        "evaluate/plain", "evaluate/merged",
    ]  # fmt: skip
    assert {"measure", "respond/seen", "respond/told", "respond/open", "report"} < set(names)


def test_it_is_published_to_nobody_by_name(tmp_path: Path) -> None:
    publish = small(write(tmp_path, FAR)).publish
    assert publish is not None and publish.push == ("merged",)
    assert (publish.namespace, publish.license) == (None, None)


def test_a_sweep_keeps_its_points(tmp_path: Path) -> None:
    text = FAR + "sweep: {prune.drop: [4, 12, 24], datasets.chat.rows: [1000, 50000]}\n"
    found = load(write(tmp_path, text), miniature=True)
    assert isinstance(found, Sweep)
    drops, rows = found.axes["prune.drop"], found.axes["datasets.chat.rows"]
    assert (len(set(drops)), len(set(rows)), len(found.points)) == (3, 2, 6)
    for point in found.points:
        assert point.recipe.prune.drop == point.values["prune.drop"]
        assert point.recipe.datasets["chat"].rows == point.values["datasets.chat.rows"]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=DROP, unique=True))
def test_numbers_stay_apart_and_in_order(drops: list[int]) -> None:
    found = shrink_axes({"prune.drop": tuple(drops)})["prune.drop"]
    assert max(found) <= DROP and min(found) >= 1
    assert [found.index(n) for n in sorted(found)] == [drops.index(n) for n in sorted(drops)]


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 79), min_size=1, max_size=60), st.integers(0, 3), st.integers(0, 3))
def test_named_blocks_are_blocks_of_the_sandbox(
    tmp_path_factory: pytest.TempPathFactory, blocks: set[int], first: int, last: int
) -> None:
    path = write(tmp_path_factory.mktemp("blocks"), SANDBOX_RECIPE)
    chosen = [f"prune.drop={sorted(blocks)}", f"prune.exclude.first={first}", f"prune.exclude.last={last}"]
    prune = small(path, *chosen).prune
    assert isinstance(prune.drop, tuple) and 1 <= len(prune.drop) <= len(blocks)
    assert all(prune.exclude.first <= block < 12 - prune.exclude.last for block in prune.drop)


def test_a_mistake_is_told_by_the_line_of_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, FAR.replace("samples: 8", "samples: 800"))
    with pytest.raises(FactoryError, match=r"recipe.yaml:15: .*at most 64"):
        small(path)


def test_no_recipe_says_so_of_itself(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=r"recipe.yaml:\d+: .*does not say of itself"):
        load(write(tmp_path, SANDBOX_RECIPE + "miniature: true\n"))


@pytest.mark.slow
def test_all_that_shows_its_scores_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = FAR.partition("measure:")[0]
    text = "\n".join(line for line in short.splitlines() if "plain" not in line)
    text += "\nsweep: {prune.drop: [4, 24]}\n"
    runs = tmp_path / "runs"
    alone = ["--set", "evaluate.tasks=[gsm8k]", "--runs-dir", str(runs)]
    assert call(["run", str(write(tmp_path, text)), "--miniature", *alone]) == 0
    assert "Miniature: " in capsys.readouterr().out
    folder = runs / "far-miniature"
    assert not (runs / "far").exists()
    for place in (folder, folder / "drop=10"):
        assert "Miniature: " in (place / "report.md").read_text()
        assert json.loads((place / "report.json").read_text())["miniature"] is True
        assert json.loads((place / "run.json").read_text())["recipe"]["miniature"] is True
    records = [json.loads(found.read_text()) for found in (runs / "store").glob("report/*/record.json")]
    assert records and all(record["settings"]["miniature"] for record in records)
