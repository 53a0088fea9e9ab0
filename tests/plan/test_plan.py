"""Steps and keys: what an edit of the recipe redoes and what it leaves; what is refused before a run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written import BLOCKS, RECIPE, jsonl, project

from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan, Ref
from factory.recipe.recipe import load_recipe
from factory.seeds import stream
from factory.tasks.suites import SUITES


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def plan(path: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(path, overrides))


def keys(path: Path, *overrides: str) -> dict[str, str]:
    return {step.name: step.key for step in plan(path, *overrides).steps}


cached_keys = lru_cache(keys)


def changed(path: Path, *overrides: str) -> set[str]:
    """The steps that an edit redoes, adds or takes away; for the recipe that no test writes to."""
    before, after = cached_keys(path), cached_keys(path, *overrides)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_the_steps_are_in_the_order_of_the_pipeline(recipe: Path) -> None:
    assert [step.name for step in plan(recipe).steps] == [
        "importance", "prune", "regenerate/math", "regenerate/chat", "train/plain", "train/own",
        "train/other", "merge/both", "evaluate/base", "evaluate/pruned", "evaluate/plain", "evaluate/own",
        "evaluate/other", "evaluate/both", "report",
    ]  # fmt: skip


def test_every_step_stands_behind_what_it_reads(recipe: Path) -> None:
    seen: set[str] = set()
    first = "variants.top={merge: linear, of: [both, pruned], weights: [1, 1]}"
    for step in plan(recipe, first).steps:
        assert {place.step for place in step.inputs.values() if isinstance(place, Ref)} <= seen
        seen.add(step.name)


def test_the_same_recipe_gives_the_same_keys(recipe: Path, tmp_path: Path) -> None:
    assert keys(recipe) == keys(recipe) == keys(project(tmp_path / "elsewhere"))


def test_what_is_to_be_published_is_in_no_key(recipe: Path) -> None:
    assert changed(recipe, "publish={push: [own], license: mit}") == set()


def test_a_measurement_is_planned_where_it_is_asked_for(recipe: Path) -> None:
    assert changed(recipe, "measure={prompt: 8, new: 4}") == {"measure", "report"}
    assert changed(recipe, "measure=null") == set()
    step = plan(recipe, "measure={prompt: 8, new: 4, rounds: 3}").step("measure")
    assert list(step.inputs) == ["base", "pruned"] and step.settings.rounds == 3


def test_parameters_are_read_from_the_headers(recipe: Path) -> None:
    block, embedding = 16 * 8, 11 * 8
    assert plan(recipe).parameters == {
        "base": embedding + BLOCKS * block, "pruned": embedding + (BLOCKS - 2) * block,
    }  # fmt: skip


def test_a_learning_rate_redoes_its_variant_its_merges_and_their_scores(recipe: Path) -> None:
    assert changed(recipe, "variants.other.train.sft.learning_rate=1e-4") == {
        "train/other", "merge/both", "evaluate/other", "evaluate/both", "report",
    }  # fmt: skip


def test_the_same_value_written_in_a_variant_changes_nothing(recipe: Path) -> None:
    assert changed(recipe, "variants.other.train.sft.learning_rate=0.001") == set()


def test_a_new_variant_leaves_the_others_alone(recipe: Path) -> None:
    new = "variants.more={data: [chat], targets: original}"
    assert changed(recipe, new) == {"train/more", "evaluate/more", "report"}


def test_a_check_is_nothing_to_training(recipe: Path) -> None:
    assert changed(recipe, "datasets.math.check=exact") == {
        "regenerate/math", "train/own", "merge/both", "evaluate/own", "evaluate/both", "report",
    }  # fmt: skip


def test_rows_of_one_dataset_are_nothing_to_another(recipe: Path) -> None:
    redone = changed(recipe, "datasets.chat.rows=2")
    assert redone == {
        "regenerate/chat", "train/other", "merge/both", "evaluate/other", "evaluate/both", "report",
    }  # fmt: skip


def test_calibration_redoes_importance_but_no_regeneration(recipe: Path) -> None:
    redone = changed(recipe, "prune.calibration.rows=2")
    assert {"importance", "prune", "train/own"} <= redone
    assert not redone & {"regenerate/math", "regenerate/chat", "evaluate/base"}


def test_another_seed_shares_all_that_draws_nothing(recipe: Path) -> None:
    shared = {"importance", "prune", "regenerate/math", "regenerate/chat", "evaluate/base", "evaluate/pruned"}
    assert changed(recipe, "seed=1") == set(keys(recipe)) - shared
    sampled = ("regenerate.temperature=0.7",)
    assert keys(recipe, *sampled)["regenerate/math"] != keys(recipe, *sampled, "seed=1")["regenerate/math"]


def test_the_same_merge_under_two_names_is_done_once_unless_it_draws(recipe: Path) -> None:
    again = keys(recipe, "variants.again={merge: slerp, of: [own, other], t: 0.5}")
    assert again["merge/both"] == again["merge/again"]
    dare = "{merge: dare_ties, of: [own, other], weights: [1, 1], density: [0.5, 0.5]}"
    drawn = keys(recipe, f"variants.both={dare}", f"variants.again={dare}")
    assert drawn["merge/both"] != drawn["merge/again"]


def test_a_dataset_no_variant_rewrites_is_not_regenerated(recipe: Path) -> None:
    names = keys(recipe, "variants.other.targets=original")
    assert "regenerate/chat" not in names and "regenerate/math" in names


EDITS = {
    "prune.drop=1": "evaluate/base",
    "prune.proof=false": "importance",
    "regenerate.max_new_tokens=9": "train/plain",
    "train.lora.r=8": "regenerate/math",
    "variants.both.t=0.25": "train/own",
    "evaluate.limit=2": "merge/both",
    "datasets.math.rows=3": "train/other",
    "prune.calibration.max_tokens=64": "regenerate/chat",
    "name=renamed": "evaluate/both",
    "variants.third={data: [chat, math], targets: self}": "train/own",
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.sets(st.sampled_from(sorted(EDITS)), min_size=1, max_size=4))
def test_edits_are_independent(edits: set[str], recipe: Path) -> None:
    """Several edits together redo just what they redo one by one, in whatever order they come."""
    together = changed(recipe, *sorted(edits))
    assert together == set().union(*(changed(recipe, edit) for edit in edits))
    assert keys(recipe, *sorted(edits)) == keys(recipe, *sorted(edits, reverse=True))


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_redoes_the_report_and_spares_what_cannot_see_it(edit: str, recipe: Path) -> None:
    redone = changed(recipe, edit)
    assert "report" in redone and EDITS[edit] not in redone


def test_content_decides_not_names(tmp_path: Path) -> None:
    path = project(tmp_path)
    before = keys(path)
    (tmp_path / "math").rename(tmp_path / "sums")
    path.write_text(RECIPE.replace("id: math", "id: sums"))
    assert keys(path) == before
    jsonl(tmp_path / "sums" / "train.jsonl", {"question": "2+2?", "answer": "#### 4"})
    after = keys(path)
    assert {name for name in before if before[name] != after[name]} == {
        "regenerate/math", "train/plain", "train/own", "merge/both", "evaluate/plain", "evaluate/own",
        "evaluate/both", "report",
    }  # fmt: skip


def test_scores_are_keyed_by_all_that_decides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, every tokenizer file, the chat template, a task's version and its shots."""
    path = project(tmp_path)
    seen = [keys(path)["evaluate/base"]]
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        file = tmp_path / "base" / name
        content = file.read_bytes() if file.exists() else b"{}"
        # The last byte of weights is a number; a blank behind JSON or a template changes no meaning.
        file.write_bytes(content[:-1] + b"\1" if name.endswith(".safetensors") else content + b" ")
        seen.append(keys(path)["evaluate/base"])
    task = next(iter(plan(path).step("evaluate/base").settings.shots))  # type: ignore[attr-defined]
    seen.append(keys(path, f"evaluate.shots.{task}=0")["evaluate/base"])
    suite = SUITES["sandbox_v1"]
    monkeypatch.setitem(suite, task, replace(suite[task], version=suite[task].version + 1))
    seen.append(keys(path)["evaluate/base"])
    assert len(set(seen)) == len(seen) == 7


def test_a_library_version_changes_the_keys_it_decides(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from factory.plan.keys import libraries

    before, real = keys(recipe), metadata.version
    libraries.cache_clear()
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == "mergekit" else real(name))
    after = keys(recipe)
    libraries.cache_clear()
    assert {name for name in before if before[name] != after[name]} == {
        "merge/both",
        "evaluate/both",
        "report",
    }


def test_an_unknown_step_is_told_with_the_nearest(recipe: Path) -> None:
    with pytest.raises(FactoryError, match="Write 'train/own'"):
        plan(recipe).step("train/onw")


def test_planning_loads_no_heavy_library(recipe: Path) -> None:
    code = (
        "import sys; from factory.plan.make import make_plan; from factory.recipe.recipe import load_recipe;"
        "make_plan(load_recipe(sys.argv[1]));"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'mergekit', 'lighteval', 'matplotlib'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(recipe)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@given(seed=st.integers(0, 2**40), names=st.lists(st.text(max_size=5), max_size=4))
def test_a_stream_is_a_number_every_library_takes(seed: int, names: list[str]) -> None:
    assert 0 <= stream(seed, *names) < 2**31
    assert stream(seed, *names) == stream(seed, *names)
    assert stream(seed, *names) != stream(seed, *names, "another")


def test_streams_are_apart_and_stay_as_they_are() -> None:
    assert stream(0, "a", "bc") != stream(0, "ab", "c") != stream(1, "ab", "c")
    assert stream(0, "train", "math-self") == 2131313903  # recorded runs depend on it


@pytest.mark.parametrize("override", ["prune.drop=[3, 1]", "prune.drop=1:2,3"])
def test_named_blocks_need_no_figures(recipe: Path, override: str) -> None:
    plan = make_plan(load_recipe(recipe, [override]))
    assert plan.step("prune").settings.drop == (1, 3)  # type: ignore[attr-defined]
    assert set(plan.step("prune").inputs) == {"base"}
    found = keys(recipe, override)
    for metric in ("angular_tokens", "taylor"):
        again = keys(recipe, override, f"prune.importance={metric}")
        assert again["prune"] == found["prune"] and again["importance"] != found["importance"]
    assert plan.parameters["pruned"] == make_plan(load_recipe(recipe, ["prune.drop=2"])).parameters["pruned"]


def test_figures_are_shared_unless_the_metric_removes_block_by_block(recipe: Path) -> None:
    for metric, shared in (("angular", True), ("perplexity", True), ("perplexity_iterative", False)):
        set_to = f"prune.importance={metric}"
        one = keys(recipe, set_to)
        for other in ("prune.drop=1", "prune.exclude={first: 1}"):
            again = keys(recipe, set_to, other)
            assert (again["importance"] == one["importance"]) is shared, (metric, other)
            assert again["prune"] != one["prune"]


CURATED = "datasets.math={id: math, prompt: math, check: final_number, overlap: 13, order: random}"


def test_rows_are_curated_where_a_recipe_asks_for_it(recipe: Path) -> None:
    steps = {step.name: step for step in plan(recipe, CURATED).steps}
    assert list(steps)[1:5] == ["prune", "curate/math", "regenerate/math", "regenerate/chat"]
    assert set(steps["curate/math"].inputs) == {"data", "data.arc"}
    assert steps["regenerate/math"].inputs["data"] == Ref("curate/math")
    assert steps["train/plain"].inputs["data.math"] == Ref("curate/math")
    assert steps["train/own"].inputs["data.math"] == Ref("regenerate/math")


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("datasets.math.rows=3", False),  # are taken later
        ("datasets.math.check=none", False),
        ("datasets.math.prompt=instruct", False),
        ("seed=1", True),
        ("datasets.math.overlap=8", True),
        ("datasets.math.deduplicate=questions", True),
        ("datasets.math.skip_empty=true", True),
        ("datasets.math.order=file", True),
        ("evaluate.shots.arc=2", False),
        ("evaluate.tasks=[arc, winogrande]", True),
    ],
)
def test_what_decides_which_rows_are_left_redoes_them(override: str, redone: bool, recipe: Path) -> None:
    before, after = keys(recipe, CURATED), keys(recipe, CURATED, override)
    assert (before["curate/math"] != after["curate/math"]) == redone


def test_a_set_nobody_is_trained_on_is_not_curated(recipe: Path) -> None:
    extra = "datasets.more={id: chat, prompt: instruct, order: random}"
    assert not any(step.stage == "curate" for step in plan(recipe, extra).steps)


def test_no_more_is_regenerated_than_a_variant_takes(recipe: Path) -> None:
    def rows(*overrides: str) -> int | None:
        return plan(recipe, *overrides).step("regenerate/math").settings.data.rows  # type: ignore[attr-defined]

    assert rows() is None
    assert rows("datasets.math.rows=4") == 4
    assert rows("variants.own.data={math: 2, chat: 1}") == 2
    assert rows("variants.own.data={math: 2, chat: 1}", "variants.other.data={math: 3}") == 3
    assert rows("variants.own.data={math: 2, chat: 1}", "variants.other.data=[math]") is None
    assert rows("variants.own.data={math: 0.5, chat: 0.5}") is None
    assert rows("variants.own={data: {math: 0.5, chat: 0.5}, rows: 6, targets: self}") == 3


def test_a_mix_trains_on_its_rows_and_redoes_no_other_variant(recipe: Path) -> None:
    def trained(*overrides: str) -> tuple[dict[str, int | None], dict[str, float]]:
        settings = plan(recipe, *overrides).step("train/own").settings
        return {spec.name: spec.rows for spec in settings.data}, settings.shares  # type: ignore[attr-defined]

    assert trained() == ({"math": None}, {})
    assert trained("variants.own.data={chat: 0.25, math: 0.75}") == (
        {"chat": None, "math": None}, {"chat": 0.25, "math": 0.75},
    )  # fmt: skip
    more = "variants.more={data: {math: 4}, targets: self}"
    assert trained("variants.own.data={chat: 1, math: 3}", more) == ({"chat": 1, "math": 3}, {})
    assert {"train/own", "train/other", "train/plain"}.isdisjoint(changed(recipe, more))


def test_training_on_the_first_rows_is_training_on_so_many_alone(recipe: Path) -> None:
    """Whatever else is regenerated of the dataset for others."""
    few = "variants.own.data={math: 2}"
    beside = keys(recipe, few, "variants.more={data: [math], targets: self}")
    alone = keys(recipe, few)
    assert beside["regenerate/math"] == keys(recipe)["regenerate/math"] != alone["regenerate/math"]
    assert beside["train/own"] == alone["train/own"] != keys(recipe)["train/own"]
