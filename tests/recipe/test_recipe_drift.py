"""The part `drift` of a recipe: its steps, what they share, and every mistake with its line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from written import RECIPE, jsonl, project, refused

from factory.cli import call
from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan
from factory.plan.sweep import plan_file
from factory.recipe.recipe import Recipe, load_recipe
from factory.recipe.sweep import load

LINES = RECIPE.replace("id: math, ", "id: math, rows: 3, ").replace("id: chat, ", "id: chat, rows: 2, ")
DRIFT = (
    LINES
    + """\
drift:
  rows: 4
  splits: {math: train}
  domains: {chat: [arc]}
"""
)
SHIPPED = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
LAST = len(DRIFT.splitlines())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = project(tmp_path_factory.mktemp("project"), DRIFT)
    jsonl(
        path.parent / "chat" / "data" / "test.jsonl",
        *({"instruction": f"{i}", "response": "x"} for i in range(4)),
    )
    return path


def plan(path: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(path, overrides))


def key(found: Plan, name: str) -> str:
    return found.step(name).key


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_recipe_asks_a_few_prompts_in_miniature_too(path: Path) -> None:
    for miniature in (False, True):
        found = load(path, ["sweep={}"], miniature)
        assert isinstance(found, Recipe) and found.drift and found.drift.rows <= 200


def test_every_model_has_a_step_behind_that_of_the_base(recipe: Path) -> None:
    found = plan(recipe)
    names = [step.name for step in found.steps if step.stage == "drift"]
    assert names == [f"drift/{name}" for name in ("base", "pruned", "plain", "own", "other", "both")]
    assert found.step("drift/own").inputs["drift"].step == "drift/base"
    assert "drift/own" in {place.step for place in found.step("report").inputs.values()}
    assert not [step for step in plan(recipe, "drift=null").steps if step.stage == "drift"]


def test_prompts_are_another_split_or_what_training_leaves(recipe: Path) -> None:
    math, chat = plan(recipe).step("drift/base").settings.held_out
    assert (math.data.split, math.skip, math.seen.rows) == ("train", 3, 3)
    assert (chat.data.split, chat.skip, chat.seen.rows) == ("test", 0, 2)
    assert math.data.rows is None is chat.data.rows and math.rows == chat.rows == 4


def test_what_cannot_change_a_step_is_not_in_its_key(recipe: Path) -> None:
    before = plan(recipe)
    for override, stays, goes in (
        ("drift.batch_size=3", ["drift/base", "drift/own"], []),
        ("variants.plain.train={sft: {max_steps: 4}}", ["drift/base", "drift/own"], ["drift/plain"]),
        ("evaluate.limit=2", ["drift/base", "drift/own"], []),
        ("drift.domains={}", ["drift/base", "drift/own"], ["report"]),
        ("drift.rows=5", [], ["drift/base", "drift/own", "report"]),
        ("seed=5", [], ["drift/base"]),  # the rest of a training split is drawn under the seed
        ("prune.drop=1", ["drift/base"], ["drift/pruned", "drift/own"]),
    ):
        after = plan(recipe, override)
        assert [name for name in stays if key(before, name) != key(after, name)] == [], override
        assert [name for name in goes if key(before, name) == key(after, name)] == [], override


def test_a_draft_takes_over_what_the_base_was_asked_of_the_same_dataset(recipe: Path) -> None:
    asked = "draft={prompts: {a: {id: chat, split: test, prompt: instruct}, b: {of: math}}}"
    found = plan(recipe, asked)
    assert found.step("respond/a").inputs["held_out"].step == "drift/base"
    assert "held_out" not in found.step("respond/b").inputs
    # Both draw by one rule; and what only saves work is not recorded, for another run may not have it.
    held_out = {asked.data.name: asked for asked in found.step("drift/base").settings.held_out}
    assert found.step("respond/a").settings.draw == held_out["chat"].seed
    assert found.step("respond/a").saving == {"held_out"} and not found.step("respond/b").saving
    # What is taken over is what would be generated: drift decides nothing of it.
    for other in ("drift.rows=5", "drift=null"):
        assert key(plan(recipe, asked, other), "respond/a") == key(found, "respond/a")
    assert "held_out" not in plan(recipe, asked, "drift=null").step("respond/a").inputs


def test_seeds_share_the_prompts_of_another_split(recipe: Path) -> None:
    only = ("drift.splits={}", "variants={own: {data: [chat], targets: self}}", "drift.domains={}")
    assert key(plan(recipe, *only), "drift/base") == key(plan(recipe, *only, "seed=5"), "drift/base")


def test_a_sweep_measures_the_base_once(recipe: Path) -> None:
    found = plan_file(recipe, ["sweep={prune.drop: [1, 2]}"])
    names = [step.name for step in found.steps if step.stage == "drift"]
    assert names.count("drift/base") == 1 and "drop=1/drift/own" in names and "drop=2/drift/own" in names


def test_variants_are_taught_what_their_datasets_train(recipe: Path) -> None:
    taught = plan(recipe).step("report").settings.taught
    assert taught == {"plain": ("gsm8k",), "own": ("gsm8k",), "other": ("arc",), "both": ("gsm8k", "arc")}


def test_general_text_and_embeddings_are_inputs(recipe: Path, tiny_model: Path) -> None:
    folder = recipe.parent / "sentences"
    shutil.copytree(tiny_model, folder)
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling")]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    more = ("drift.embedding=./sentences", "drift.text={dataset: corpus, rows: 5}")
    step = plan(recipe, *more).step("drift/own")
    assert {"embedding", "text"} <= set(step.inputs)
    assert step.settings.text.called == "corpus" and step.settings.embedding == "./sentences"
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert plan(recipe, *more).step("drift/own").key != step.key
    assert plan(recipe).step("drift/own").settings.text_why == "the recipe names none (drift.text)"


def test_general_text_that_calibration_reads_is_known(recipe: Path) -> None:
    def calibrated(*more: str) -> bool:
        found: bool = plan(recipe, *more).step("drift/own").settings.text.calibrated
        return found

    own = "drift.text={dataset: corpus, rows: 5}"
    read = plan(recipe, own).recipe.prune.calibration.dataset
    assert calibrated(f"drift.text={{dataset: {read}, rows: 5}}")
    assert not calibrated(f"drift.text={{dataset: {read}, rows: 5}}", "prune.drop=[1]")


# What is laid over the recipe, and words of the refusal.
REFUSED = {
    "unknown key": ("drift.row=3", "unknown key 'row' in drift. Write 'rows'"),
    "too few rows": ("drift.rows=1", "drift.rows should be at least 2"),
    "no number": ("drift.rows=many", "drift.rows should be a whole number"),
    "splits of an unknown dataset": (
        "drift.splits.maths=test", "drift.splits names an unknown dataset 'maths'. Write 'math'"),
    "domain of an unknown dataset": (
        "drift.domains.maths=[arc]", "drift.domains names an unknown dataset 'maths'"),
    "a revision of nothing": (
        "drift.revision=main", "drift.revision is that of an embedding model, and none is named"),
}  # fmt: skip
REFUSED_OUTSIDE = {
    "unknown split": ("drift.splits.chat=tset", "no split 'tset'. Write 'test'"),
    "unknown task": ("drift.domains.chat=[ark]", "chat names 'ark', which this recipe does not score"),
    "no rows left": (
        "datasets.math.rows=null", "no held-out rows of 'math': training takes all of split 'train'"),
    "more tokens than positions": ("drift.max_new_tokens=64", "is 64, but 'base' has 64 positions"),
    "missing embedding model": ("drift.embedding=./none", "there is no model folder './none'"),
    "no embedding model": ("drift.embedding=./base", "'./base': this is no sentence-embedding model"),
    "missing text": ("drift.text={dataset: ./none}", "there is no dataset folder './none'"),
    "more texts than there are": ("drift.text={dataset: corpus, rows: 9}", "has only 5 rows"),
    "unknown text column": (
        "drift.text={dataset: corpus, columns: {text: txt}}", "no column 'txt' (asked for as text)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_in_the_recipe_is_refused(name: str, recipe: Path) -> None:
    override, said = REFUSED[name]
    assert said in refused(recipe, override)


@pytest.mark.parametrize("name", REFUSED_OUTSIDE)
def test_what_cannot_be_used_is_refused_before_a_run(name: str, recipe: Path) -> None:
    override, said = REFUSED_OUTSIDE[name]
    with pytest.raises(FactoryError) as caught:
        plan(recipe, override)
    assert said in str(caught.value)


def test_a_refusal_names_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, DRIFT.replace("domains: {chat: [arc]}", "domains: {chat: [ark]}"))
    assert call(["validate", str(path)]) == 2
    assert f"recipe.yaml:{LAST}: " in capsys.readouterr().err
