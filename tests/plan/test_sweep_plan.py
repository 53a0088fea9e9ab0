"""A sweep as one plan: what its points share is there once, under keys that a run of its own would have."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import project

from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan, Ref
from factory.plan.select import select
from factory.plan.sweep import plan_file
from factory.recipe.recipe import load_recipe

DROPS = "sweep.prune.drop=[1, 2, 3]"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def keys(plan: Plan) -> dict[str, str]:
    return {step.name: step.key for step in plan.steps}


def stages(plan: Plan) -> dict[str, int]:
    found = [step.stage for step in plan.steps]
    return {stage: found.count(stage) for stage in dict.fromkeys(found)}


@pytest.mark.parametrize("metric", ["angular", "block_influence", "perplexity_iterative"])
def test_points_share_all_but_what_the_drop_decides(recipe: Path, metric: str) -> None:
    plan = plan_file(recipe, [DROPS, f"prune.importance={metric}"])
    assert stages(plan) == {
        "importance": 1, "prune": 3, "regenerate": 2, "train": 9, "merge": 3, "evaluate": 1 + 3 * 5,
        "report": 3, "sweep": 1,
    }  # fmt: skip
    assert (
        len({step.key for step in plan.steps}) == len({step.name for step in plan.steps}) == len(plan.steps)
    )
    assert {"importance", "evaluate/base", "drop=2/prune", "drop=3/train/own"} <= keys(plan).keys()
    assert plan.steps[-1].inputs == {f"drop={n}": Ref(f"drop={n}/report") for n in (1, 2, 3)}


def test_every_step_stands_behind_what_it_reads(recipe: Path) -> None:
    seen: set[str] = set()
    for step in plan_file(recipe, [DROPS, "sweep.seed=[0, 1]"]).steps:
        assert {place.step for place in step.inputs.values() if isinstance(place, Ref)} <= seen
        seen.add(step.name)


def test_a_point_is_the_run_that_it_would_be_alone(recipe: Path) -> None:
    plan = plan_file(recipe, [DROPS])
    for point, drop in zip(plan.points, (1, 2, 3), strict=True):
        alone = make_plan(load_recipe(recipe, [f"prune.drop={drop}"]))
        assert keys(point.plan) == keys(alone)
        assert point.plan.parameters == alone.parameters
        assert set(keys(alone).values()) <= set(keys(plan).values())


def test_an_order_is_made_once_for_the_largest_drop_and_redoes_nothing_else(recipe: Path) -> None:
    iterative = "prune.importance=perplexity_iterative"
    few, more = (plan_file(recipe, [f"sweep.prune.drop={drops}", iterative]) for drops in ([1, 2], [1, 2, 3]))
    assert [plan.step("importance").settings.rounds for plan in (few, more)] == [2, 3]  # type: ignore[attr-defined]
    alone = keys(make_plan(load_recipe(recipe, ["prune.drop=1", iterative])))
    for plan in (few, more):
        mine = {step.local: step.key for step in plan.steps if step.point in ("", "drop=1")}
        # The report shows the order as far as it was made; the pruned model does not see it.
        assert {name for name in alone if alone[name] != mine[name]} == {"importance", "report"}


def test_what_some_points_share_is_called_by_what_they_have_in_common(recipe: Path) -> None:
    plan = plan_file(recipe, ["sweep.prune.drop=[1, 2]", "sweep.variants.own.train.lora.r=[2, 4]"])
    names = keys(plan).keys()
    assert {"importance", "drop=1/prune", "drop=1/train/plain", "drop=1,r=2/train/own"} <= names
    assert stages(plan)["train"] == 2 * (2 + 2)


def test_sweeps_over_what_importance_sees_have_a_pass_each(recipe: Path) -> None:
    plan = plan_file(recipe, ["sweep.prune.importance=[angular, taylor]"])
    assert stages(plan)["importance"] == 2
    both = ["prune.importance=perplexity_iterative", "prune.drop=1", "sweep.prune.exclude.first=[0, 1]"]
    assert stages(plan_file(recipe, both))["importance"] == 2


def test_only_takes_names_with_and_without_a_point(recipe: Path) -> None:
    plan = plan_file(recipe, [DROPS])
    assert [step.name for step in select(plan, ["drop=2/prune"])] == ["importance", "drop=2/prune"]
    assert [step.name for step in select(plan, ["prune"])] == [
        "importance", "drop=1/prune", "drop=2/prune", "drop=3/prune",
    ]  # fmt: skip
    trained = [step.name for step in select(plan, ["train/plain"]) if step.stage == "train"]
    assert trained == [f"drop={n}/train/plain" for n in (1, 2, 3)]


def test_a_sweep_of_one_point_has_names_as_any_other(recipe: Path) -> None:
    plan = plan_file(recipe, ["sweep.prune.drop=[2]"])
    assert {step.point for step in plan.steps} == {"drop=2", ""}
    assert select(plan, ["drop=2/*"]) == plan.steps[:-1]


def test_every_point_is_checked_before_anything_runs(recipe: Path) -> None:
    for drops, words in (([1, 4], "drop removes all 4 blocks"), ([2, [1, 7]], "drop names block 7")):
        override = f"sweep.prune.drop={drops}"
        with pytest.raises(FactoryError, match=words) as caught:
            plan_file(recipe, [override])
        assert str(caught.value).startswith(f"--set {override}: ")
    text = recipe.read_text() + "sweep:\n  prune.drop:\n    - 3\n    - 9\n"
    path = recipe.with_name("swept.yaml")
    path.write_text(text)
    with pytest.raises(FactoryError, match=rf"swept.yaml:{text.count(chr(10))}: drop removes 9 blocks"):
        plan_file(path)


ROWS = "sweep.datasets.math.rows=[2, 4, 5]"


@pytest.mark.parametrize("how", ["as it is", "curated", "sampled"])
def test_points_that_differ_in_rows_share_the_regeneration_of_the_largest(recipe: Path, how: str) -> None:
    more = {
        "as it is": [],
        "curated": ["datasets.math.order=random"],
        "sampled": ["regenerate.temperature=1"],
    }
    plan = plan_file(recipe, [ROWS, *more[how]])
    assert stages(plan)["regenerate"] == 2 and stages(plan)["train"] == 1 + 3 * 2
    assert stages(plan).get("curate", 0) == (how == "curated")
    for point, rows in zip(plan.points, (2, 4, 5), strict=True):
        alone = keys(make_plan(load_recipe(recipe, [f"datasets.math.rows={rows}", *more[how]])))
        mine = keys(point.plan)
        # The report tells of all rows that were regenerated; training does not see them.
        longer = set() if rows == 5 else {"regenerate/math", "report"}
        assert {name for name in alone if alone[name] != mine[name]} == longer
        trained = point.plan.step("train/own").settings.data[0].rows  # type: ignore[attr-defined]
        assert trained == (None if rows == 5 else rows)


def test_all_rows_are_more_than_any_number(recipe: Path) -> None:
    plan = plan_file(recipe, ["sweep.datasets.math.rows=[2, null]"])
    assert plan.step("regenerate/math").settings.data.rows is None  # type: ignore[attr-defined]


def test_rows_of_other_kinds_are_regenerated_by_themselves(recipe: Path) -> None:
    checked = [ROWS, "sweep.datasets.math.check=[final_number, none]"]
    assert stages(plan_file(recipe, checked))["regenerate"] == 2 + 1
    drawn = [ROWS, "datasets.math.order=random", "sweep.seed=[0, 1]"]
    assert stages(plan_file(recipe, drawn))["regenerate"] == 2 + 1


def test_rows_and_drops_are_shared_at_once(recipe: Path) -> None:
    plan = plan_file(recipe, [ROWS, DROPS, "prune.importance=perplexity_iterative"])
    assert (stages(plan)["importance"], stages(plan)["prune"], stages(plan)["regenerate"]) == (1, 3, 2)


def test_a_list_of_rows_is_a_sweep(recipe: Path) -> None:
    text = recipe.read_text().replace("{id: math, prompt", "{id: math, rows: [2, 4, 5], prompt")
    path = recipe.with_name("short.yaml")
    path.write_text(text)
    assert keys(plan_file(path)) == keys(plan_file(recipe, [ROWS]))
    line = 1 + text[: text.index("rows: [2")].count("\n")
    path.write_text(text.replace("[2, 4, 5]", "[2, 9]"))
    with pytest.raises(FactoryError, match=rf"short.yaml:{line}: dataset 'math' has only 5 rows"):
        plan_file(path)
