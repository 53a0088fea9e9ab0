"""A recipe that sweeps over values: the points it stands for, and each mistake told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import SANDBOX_RECIPE, write

from factory.errors import FactoryError
from factory.recipe.recipe import Recipe, load_recipe
from factory.recipe.sweep import MAX_POINTS, Sweep, load


def swept(tmp_path: Path, sweep: str, *overrides: str, text: str = SANDBOX_RECIPE) -> Sweep:
    found = load(write(tmp_path, f"{text}sweep: {sweep}\n"), overrides)
    assert isinstance(found, Sweep)
    return found


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(FactoryError) as caught:
        load(path, overrides)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)


def test_a_value_is_a_point_and_all_else_stays(tmp_path: Path) -> None:
    sweep = swept(tmp_path, "{prune.drop: [2, 4, '7:9', [1, 5]]}")
    assert [point.name for point in sweep.points] == ["drop=2", "drop=4", "drop=7:9", "drop=1+5"]
    assert [point.recipe.prune.drop for point in sweep.points] == [2, 4, (7, 8), (1, 5)]
    alone = load_recipe(write(tmp_path, SANDBOX_RECIPE)).model_dump()
    assert sweep.points[0].recipe.model_dump() == alone


def test_several_keys_are_combined_and_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    lora = "variants.{}.train.lora.r: [4, 8]"
    sweep = swept(tmp_path, f"{{prune.drop: [1, 2], {lora.format('own')}, {lora.format('other')}}}")
    assert len(sweep.points) == 8
    assert sweep.points[1].name == "drop=1,own.train.lora.r=4,other.train.lora.r=8"
    assert sweep.points[1].recipe.trained()["other"].train.lora == {"r": 8}
    assert sweep.points[6].values == {
        "prune.drop": 2, "variants.own.train.lora.r": 8, "variants.other.train.lora.r": 4,
    }  # fmt: skip


def test_what_is_swept_need_not_be_written_besides(tmp_path: Path) -> None:
    text = SANDBOX_RECIPE.replace("  drop: 2\n", "")
    assert len(swept(tmp_path, "{prune.drop: [2, 3]}", text=text).points) == 2


def test_set_changes_the_sweep_or_leaves_it_out(tmp_path: Path) -> None:
    sweep = swept(tmp_path, "{prune.drop: [2, 3]}", "sweep.prune.drop=[5]", "sweep.seed=[0, 1]")
    assert [point.name for point in sweep.points] == ["drop=5,seed=0", "drop=5,seed=1"]
    path = write(tmp_path, SANDBOX_RECIPE + "sweep: {prune.drop: [2, 3]}\n")
    assert isinstance(load(path, ["sweep={}", "prune.drop=4"]), Recipe)
    assert "takes its values from the recipe's sweep" in refusal(path, "prune.drop=4")


def test_values_that_are_spelt_alike_have_names_of_their_own(tmp_path: Path) -> None:
    sweep = swept(tmp_path, "{evaluate.datasets.arc: [a/b, a-b, A b]}")
    names = [point.name for point in sweep.points]
    assert names == ["arc=a-b", "arc=a-b~2", "arc=A-b~3"]


# What stands under `sweep:`, which of its lines is blamed, and words of the message.
MISTAKES = {
    "no mapping": ("[2]", 0, "sweep should be a mapping"),
    "no list": ("\n  prune.drop: 3", 1, "sweep.prune.drop should be a list, not 3"),
    "nested": ("\n  prune: {drop: [2]}", 1, "sweep.prune should be a list"),
    "no value": ("\n  prune.drop: []", 1, "sweep.prune.drop is empty"),
    "twice": ("\n  prune.drop:\n    - 2\n    - 2", 3, "'2' stands twice in sweep.prune.drop"),
    "unknown part": ("\n  prnue.drop: [2]", 1, "unknown key 'prnue.drop' in sweep. Write 'prune'"),
    "unknown key": ("\n  prune.dorp: [2]", 1, "unknown key 'dorp' in prune. Write 'drop'"),
    "unknown variant": ("\n  variants.onw.targets: [self]", 1, "there is no 'onw' in variants. Write 'own'"),
    "through a value": ("\n  prune.drop.x: [2]", 1, "'prune.drop' is a value"),
    "no key": ("\n  prune..drop: [2]", 1, "'prune..drop' is no key"),
    "name": ("\n  name: [a, b]", 1, "a sweep cannot change name"),
    "one in another": ("\n  train.lora: [{r: 2}]\n  train.lora.r: [4]", 2, "and inside it train.lora.r"),
    "impossible value": ("\n  prune.drop:\n    - 2\n    - 0", 3, "prune.drop should be at least 1, not 0"),
    "library field": ("\n  train.lora.rank: [4]", 1, "has no field 'rank'. Write 'r'"),
    "unknown dataset": ("\n  variants.own.data: [[math], [maths]]", 1, "unknown dataset 'maths'"),
    "too many": (f"\n  seed: {list(range(MAX_POINTS + 1))}", 0, f"more than {MAX_POINTS}"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_line(case: str, tmp_path: Path) -> None:
    written, line, words = MISTAKES[case]
    path = write(tmp_path, f"{SANDBOX_RECIPE}sweep: {written}\n")
    message = refusal(path)
    assert message.startswith(f"{path}:{SANDBOX_RECIPE.count(chr(10)) + 1 + line}: "), message
    assert words in message


def test_a_sweep_is_not_taken_for_one_recipe(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=r"recipe.yaml:18: this recipe sweeps over values"):
        load_recipe(write(tmp_path, SANDBOX_RECIPE + "sweep: {prune.drop: [2]}\n"))


@settings(max_examples=40, deadline=None)
@given(
    drops=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    rates=st.lists(st.sampled_from(["1e-5", "0.001", "2", "0.5"]), min_size=1, max_size=4, unique=True),
)
def test_points_are_what_set_would_make_of_the_recipe(
    drops: list[int], rates: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    keys = ("prune.drop", "train.sft.learning_rate")
    sweep = swept(folder, f"{{{keys[0]}: {drops}, {keys[1]}: [{', '.join(rates)}]}}")
    pairs = [(drop, rate) for drop in drops for rate in rates]
    assert len({point.name for point in sweep.points}) == len(pairs) == len(sweep.points)
    path = write(folder, SANDBOX_RECIPE)
    for (drop, rate), point in zip(pairs, sweep.points, strict=True):
        alone = load_recipe(path, [f"{keys[0]}={drop}", f"{keys[1]}={rate}"])
        assert point.recipe.model_dump() == alone.model_dump()


SHORT = SANDBOX_RECIPE.replace("{id: sandbox/math,", "{id: sandbox/math, rows: [10, 40],")


def test_a_list_of_rows_sweeps_beside_the_sweep(tmp_path: Path) -> None:
    sweep = swept(tmp_path, "{prune.drop: [1, 2]}", text=SHORT)
    assert [point.name for point in sweep.points] == [
        "drop=1,rows=10", "drop=1,rows=40", "drop=2,rows=10", "drop=2,rows=40",
    ]  # fmt: skip
    assert [point.recipe.datasets["math"].rows for point in sweep.points] == [10, 40, 10, 40]


def test_set_changes_a_list_of_rows_or_makes_it_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT)
    recipe = load(path, ["datasets.math.rows=7"])
    assert isinstance(recipe, Recipe) and recipe.datasets["math"].rows == 7
    sweep = load(path, ["datasets.math.rows=[3, 5]", "datasets.chat.rows=[2]"])
    assert isinstance(sweep, Sweep)
    assert [point.name for point in sweep.points] == ["math.rows=3,chat.rows=2", "math.rows=5,chat.rows=2"]
    with pytest.raises(FactoryError, match=r"so it is several\. Leave the sweep out"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("rows", "sweep", "words"),
    [
        ("[]", "", "datasets.math.rows is empty"),
        ("[10, 10]", "", "'10' stands twice"),
        ("[10, many]", "", "datasets.math.rows should be a whole number, not 'many'"),
        ("[10, 0]", "", "datasets.math.rows should be at least 1, not 0"),
        ("[10, # few\n      many]", "", "datasets.math.rows should be a whole number, not 'many'"),
        ("[10]", "sweep: {datasets.math.rows: [20]}", "and the recipe's `sweep` sets it too"),
        ("[10]", "sweep: [20]", "and the recipe's `sweep` is no mapping"),
    ],
)
def test_a_wrong_list_of_rows_is_told_with_its_line(
    rows: str, sweep: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, SHORT.replace("rows: [10, 40]", f"\n    rows: {rows}") + sweep)
    message = refusal(path)
    line = 8 + rows.count("\n")
    assert message.startswith(f"{path}:{line}: ") and words in message, message
