"""The schema of a recipe: it refuses nothing that the factory takes, and what is built wrongly it refuses."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from written import RECIPE, write

from factory.cli import call
from factory.errors import FactoryError
from factory.recipe.file import read
from factory.recipe.schema import schema, text
from factory.recipe.sweep import load

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))
VALIDATOR = Draft202012Validator(schema())

# A recipe that uses most of what there is.
FULL = """\
name: full
base: {model: some/model, revision: main}
prune:
  drop: "22:28"
  exclude: {first: 1}
  calibration: {dataset: some/texts, columns: {text: body}}
datasets:
  math: {id: some/math, prompt: math, check: "regex:= (.*)", rows: 10, overlap: 13, order: random}
  chat: {id: some/chat, prompt: chat, deduplicate: rows}
regenerate:
  {engine: openai, server: {url: "http://localhost:1/v1", model: x}, samples: 4, select: best_of,
   temperature: 0.7}
train:
  {method: lora, lora: {r: 4, init_lora_weights: pissa_niter_4}, sft: {max_steps: 2, report_to: [trackio]}}
variants:
  own:  {data: {math: 0.7, chat: 0.3}, rows: 9, targets: self, train: {loss: distill, beta: 0.5}}
  all:  {data: [math], targets: original}
  both: {merge: ties, of: [own, all], weights: [1, 0.5], density: [0.5, 0.5], lambda: 0.9}
evaluate: {suite: openllm_v1, tasks: [arc], limit: 3, shots: {arc: 1}, datasets: {arc: some/arc}}
publish: {push: [both], namespace: me, license: mit, datasets: [math]}
"""


def plain(recipe: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(recipe)


def complaints(data: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


def taken(folder: Path, data: Any) -> bool:
    """Whether the factory takes these values as a recipe, as far as the file itself goes."""
    try:
        load(write(folder, json.dumps(data)))
    except FactoryError:
        return False
    return True


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_shipped_recipe_is_right_and_names_its_schema(path: Path) -> None:
    load(path)
    assert complaints(read(path).data) == []
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == ROOT / "recipes" / "recipe.schema.json"


def test_the_file_beside_the_recipes_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["schema"]) == 0
    assert capsys.readouterr().out == (ROOT / "recipes" / "recipe.schema.json").read_text() == text()


def test_all_that_a_recipe_may_have(tmp_path: Path) -> None:
    assert taken(tmp_path, plain(FULL)) and complaints(plain(FULL)) == []


def test_a_sweep_stands_for_what_it_sets(tmp_path: Path) -> None:
    data = plain(FULL)
    del data["prune"]["drop"]
    assert not taken(tmp_path, data) and complaints(data)
    data["sweep"] = {"prune.drop": [2, 4]}
    data["datasets"]["chat"]["rows"] = [100, 200]
    assert taken(tmp_path, data) and complaints(data) == []


WRONG = {
    "an unknown key": lambda r: r.update(prunes=1),
    "an unknown key inside": lambda r: r["prune"].update(drops=1),
    "an unknown field of PEFT": lambda r: r["train"]["lora"].update(rank=4),
    "a field that is not the recipe's": lambda r: r["train"]["sft"].update(output_dir="x"),
    "a missing part": lambda r: r.pop("evaluate"),
    "a missing key": lambda r: r["prune"].pop("calibration"),
    "text for a number": lambda r: r.update(seed="one"),
    "a number too small": lambda r: r["datasets"]["math"].update(rows=0),
    "an unknown word": lambda r: r["variants"]["all"].update(targets="selves"),
    "an unknown merge": lambda r: r["variants"]["both"].update(merge="melt"),
    "a parameter of another merge": lambda r: r["variants"]["both"].update(t=0.5),
    "a merge without its parameter": lambda r: r["variants"]["both"].pop("weights"),
    "an engine without its server": lambda r: r["regenerate"].pop("server"),
    "a server without its engine": lambda r: r["regenerate"].update(engine="vllm"),
    "a name that is none": lambda r: r["datasets"].update({"../up": r["datasets"]["chat"]}),
    "an unknown prompt": lambda r: r["datasets"]["chat"].update(prompt="talk"),
    "blocks twice": lambda r: r["prune"].update(drop=[3, 3]),
    "a number in quotation marks": lambda r: r["prune"].update(drop="3"),
    "a list for a mapping": lambda r: r.update(train=[1]),
    "no variants": lambda r: r.update(variants={}),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_built_wrongly_both_refuse(tmp_path: Path, mistake: str) -> None:
    data = plain(FULL)
    WRONG[mistake](data)
    assert not taken(tmp_path, data)
    assert complaints(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, inner in entries for place in _places(inner, (*path, key)))]


values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 40), st.floats(-1, 2).map(lambda x: round(x, 2)),
    st.sampled_from(["math", "own", "4", "22:28", "self", "none", "slerp", "all-linear", "x y", ""]),
    st.lists(st.sampled_from([0, 1, 5, "math", "own", "all", 0.5]), max_size=3),
    st.dictionaries(st.sampled_from(["r", "math", "t", "rows"]), st.integers(0, 3), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([FULL, RECIPE]), st.data())
def test_it_refuses_nothing_that_the_factory_takes(
    tmp_path_factory: pytest.TempPathFactory, recipe: str, drawn: st.DataObject
) -> None:
    data = deepcopy(plain(recipe))
    for _ in range(drawn.draw(st.integers(1, 2))):
        *above, last = drawn.draw(st.sampled_from(_places(data)[1:]))
        inside = data
        for key in above:
            inside = inside[key]
        if drawn.draw(st.booleans()):
            inside[last] = drawn.draw(values)
        else:
            del inside[last]
    if found := complaints(data):
        assert not taken(tmp_path_factory.mktemp("drawn"), data), found
