"""Which files a publication holds, under which names, and what is refused before the Hub is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import validate_repo_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.hub.contents import Finished, _as_written, drafts, finished, repository_names
from factory.hub.manifest import Manifest, read_manifest, sha256_of
from factory.recipe.parts import NAME
from factory.recipe.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # they need a finished run


@pytest.fixture(scope="module")
def done(finished_recipe: Path) -> Finished:
    return finished("tiny", finished_recipe.parent / "runs")


def renamed(done: Finished, name: str, **wanted: Any) -> Finished:
    page = done.page.model_copy(update={"name": name})
    return replace(done, page=page, wanted=done.wanted.model_copy(update=wanted))


def test_the_manifest_names_every_file_and_nothing_else(done: Finished) -> None:
    for draft in drafts(done, "acme"):
        content = draft.files["factory.json"]
        assert isinstance(content, bytes)
        manifest = read_manifest(content, draft.id)
        assert {*manifest.files, "factory.json"} == draft.files.keys()
        for path, named in manifest.files.items():
            assert (named.sha256, named.size) == (sha256_of(draft.files[path]), draft.sizes()[path])


def test_two_drafts_of_one_run_are_the_same(done: Finished) -> None:
    first, second = (
        [{path: sha256_of(source) for path, source in draft.files.items()} for draft in drafts(done, "acme")]
        for _ in range(2)
    )
    assert first == second


def test_no_folder_of_this_machine_is_told(done: Finished, finished_recipe: Path, tiny_model: Path) -> None:
    here = [str(finished_recipe.parent).encode(), str(tiny_model.parent).encode()]
    for draft in drafts(done, "acme"):
        for path, source in draft.files.items():
            content = source if isinstance(source, bytes) else source.read_bytes()
            assert not any(folder in content for folder in here), path
    model = next(draft for draft in drafts(done, "acme") if draft.kind == "model")
    prune = model.files["records/prune.json"]
    assert isinstance(prune, bytes)
    assert json.loads(prune)["inputs"]["base"].startswith("folder:model@")


def test_the_published_recipe_can_be_run(done: Finished, tmp_path: Path) -> None:
    model = next(draft for draft in drafts(done, "acme") if draft.kind == "model")
    path, content = tmp_path / "recipe.yaml", model.files["recipe.yaml"]
    assert isinstance(content, bytes)
    path.write_bytes(content)
    read = load_recipe(path).model_dump()
    assert read["base"] == {"model": "model", "revision": None}
    assert {**read, "base": None} == {**done.recipe.model_dump(), "base": None}


def test_a_recipe_of_run_json_is_read_back() -> None:
    merge = {"merge": "ties", "of": ["own_", "b"], "lambda_": 0.5, "t": None}
    page = {"variants": {"own_": {"data": ["math"], "train": {"lora": {}}}, "lambda_": merge}}
    assert _as_written(page) == {
        "variants": {
            "own_": {"data": ["math"]},
            "lambda_": {"merge": "ties", "of": ["own_", "b"], "lambda": 0.5},
        }
    }


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_can_be_published_from_its_run(path: Path) -> None:
    written = load_recipe(path, ["sweep={}"])
    read = Recipe.model_validate(_as_written(written.model_dump(mode="json")))
    assert read.model_dump() == written.model_dump()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.from_regex(NAME, fullmatch=True), license=st.sampled_from(["mit", "llama3.1", "llama2"]))
def test_names_are_the_hubs_and_keep_the_llama_rule(done: Finished, name: str, license: str) -> None:
    for repo in repository_names(renamed(done, name, license=license), "acme").values():
        validate_repo_id(repo)
        assert license != "llama3.1" or repo.startswith("acme/Llama")


@pytest.mark.parametrize(
    ("name", "license", "repository"),
    [
        ("tiny", "mit", "acme/tiny-own"),
        ("tiny", "llama3.1", "acme/Llama-tiny-own"),
        ("llama-3.1-8b-drop6", "llama3.1", "acme/Llama-3.1-8b-drop6-own"),
        ("tiny/drop=2", "mit", "acme/tiny-drop-2-own"),
    ],
)
def test_names(done: Finished, name: str, license: str, repository: str) -> None:
    assert repository_names(renamed(done, name, license=license), "acme")["model", "own"] == repository


def test_datasets_can_be_left_out(done: Finished) -> None:
    kinds = [kind for kind, _ in repository_names(renamed(done, "tiny", datasets=False), "acme")]
    assert kinds == ["model"]


def changed_page(source: Path, runs: Path, **changes: Any) -> None:
    import shutil

    shutil.copytree(source, runs, symlinks=True)
    page = runs / "tiny" / "run.json"
    page.write_text(json.dumps({**json.loads(page.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finished": None}, "is not finished. Run its recipe to the end"),
        ({"points": ["drop=2"]}, "is a sweep, which is several runs. Name one of its points: tiny/drop=2"),
    ],
)
def test_what_is_no_finished_run_is_refused(
    finished_recipe: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    runs = tmp_path / "runs"
    changed_page(finished_recipe.parent / "runs", runs, **changes)
    for point in changes.get("points") or ():
        (runs / "tiny" / point).mkdir()
        (runs / "tiny" / point / "run.json").write_text((runs / "tiny" / "run.json").read_text())
    with pytest.raises(FactoryError) as caught:
        finished("tiny", runs)
    assert said in str(caught.value)


def test_a_run_with_a_damaged_artifact_is_refused(finished_recipe: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    changed_page(finished_recipe.parent / "runs", runs)
    (runs / "tiny" / "models" / "own" / "config.json").unlink()
    with pytest.raises(FactoryError, match="train/own is missing"):
        finished("tiny", runs)


def test_a_recipe_that_says_nothing_of_publishing(finished_recipe: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    page = json.loads((finished_recipe.parent / "runs" / "tiny" / "run.json").read_text())
    changed_page(finished_recipe.parent / "runs", runs, recipe={**page["recipe"], "publish": None})
    with pytest.raises(FactoryError, match="does not say what to publish"):
        finished("tiny", runs)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "a//b", ".git/config", "a\\b", ""])
def test_a_manifest_that_leads_out_of_its_folder_is_none(path: str) -> None:
    whole = Manifest(
        factory="1", kind="model", repository="a/b", recipe="r", name="n", run="k", base={}, files={}
    ).model_dump()
    named = {"sha256": "0" * 64, "size": 1}
    with pytest.raises(FactoryError, match=r"a/b: its factory\.json is not one of the factory's"):
        read_manifest(json.dumps({**whole, "files": {path: named}}).encode(), "a/b")
