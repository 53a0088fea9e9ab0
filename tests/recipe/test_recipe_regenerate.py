"""What a recipe may say of `regenerate`: what does not go together is refused, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import RECIPE, project

from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.recipe.recipe import load_recipe

LINE = RECIPE[: RECIPE.index("train:")].count("\n") + 1
SERVER = "url: http://localhost:8000/v1, model: base"

MISTAKES = {
    "engine without server": ("engine: openai", ["goes with `engine: openai`", "url:"]),
    "server without engine": (f"server: {{{SERVER}}}", ["goes with `engine: openai`"]),
    "no address": ("engine: openai, server: {url: localhost, model: base}", ["url is no address", "http://"]),
    "key in the address": (
        "engine: openai, server: {url: http://me:it@localhost/v1, model: base}",
        ["more than an address", "environment variable"],
    ),
    "key in place of its name": (
        f"engine: openai, server: {{{SERVER}, api_key_env: sk-123}}",
        ["not the name of an environment variable", "OPENAI_API_KEY"],
    ),
    "no time": (f"engine: openai, server: {{{SERVER}, timeout: 0.0}}", ["timeout", "more than 0"]),
    "unknown engine": ("engine: vlm", ["regenerate.engine", "'vllm'"]),
    "unknown policy": ("select: best", ["regenerate.select", "'best_of'"]),
    "samples for nothing": ("samples: 2, temperature: 1.0", ["leaves `select` nothing to do", "best_of"]),
    "best of one": ("select: best_of, temperature: 1.0", ["needs several samples", "samples: 4"]),
    "samples all the same": ("select: best_of, samples: 2", ["all samples are the same", "temperature"]),
    "likeliest by server": (
        f"engine: openai, select: likeliest, server: {{{SERVER}}}",
        ["does not tell how likely", "transformers or vllm"],
    ),
}


def recipe(folder: Path, written: str) -> Path:
    return project(folder, RECIPE.replace("train:", f"regenerate: {{{written}}}\ntrain:", 1))


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    written, words = MISTAKES[case]
    path = recipe(tmp_path, written)
    with pytest.raises(FactoryError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{LINE}: ")
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert "sk-123" not in message and "me:it" not in message


@pytest.mark.parametrize(
    "written",
    [
        f"engine: openai, server: {{{SERVER}, api_key_env: OUR_KEY, timeout: 30.0}}",
        "engine: vllm, batch_size: 256",
        "select: always",
        "select: best_of, samples: 4, temperature: 0.7",
        "select: likeliest",
        "select: likeliest, samples: 4, temperature: 0.7",
    ],
)
def test_what_goes_together_reaches_the_stage(written: str, tmp_path: Path) -> None:
    plan = make_plan(load_recipe(recipe(tmp_path, written)))
    settings = plan.step("regenerate/math").settings
    said = plan.recipe.regenerate.model_dump()
    assert {key: settings.model_dump()[key] for key in said} == said


def key(folder: Path, written: str) -> str:
    return make_plan(load_recipe(recipe(folder, written))).step("regenerate/math").key


def test_how_fast_and_where_does_not_make_another_artifact(tmp_path: Path) -> None:
    assert key(tmp_path / "a", "batch_size: 8") == key(tmp_path / "b", "batch_size: 9")
    served = "engine: openai, server: {{url: http://{}/v1, model: {}, timeout: {}.0}}"
    here = key(tmp_path / "c", served.format("here", "base", 1))
    assert here == key(tmp_path / "d", served.format("there", "base", 2))
    assert here != key(tmp_path / "e", served.format("here", "other", 1))
