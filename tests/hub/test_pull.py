"""What was published fetched again: compared with its manifest, shown, refused where it was changed."""

from __future__ import annotations

import json

import pytest
from local_hub import file
from tiny_run import Desk

pytestmark = pytest.mark.slow

MODEL, DATASET = "acme/tiny-own", "acme/tiny-math"


def test_pull_fetches_compares_shows_and_refuses(desk: Desk) -> None:
    desk.publish()
    code, said, _ = desk.factory("pull", MODEL, "--out", "a/model", who=None)
    assert code == 0
    assert "all as the manifest says; fetched" in said
    table = said[said.index("Only the first 2 documents") :]
    assert all(len(line) <= 80 for line in table.splitlines())
    assert [line.split()[0] for line in table.splitlines() if line.startswith(("base", "pruned", "own"))]
    got = desk.folder / "a" / "model"
    named = json.loads((got / "factory.json").read_text())["files"]
    there = {path.relative_to(got).as_posix() for path in got.rglob("*") if path.is_file()}
    assert there == {*named, "factory.json"}
    assert {"model.safetensors", "records/train/own.json", "report.json", "recipe.yaml"} <= there
    assert [path.name for path in (desk.folder / "a").iterdir()] == ["model"]

    code, said, _ = desk.factory("pull", MODEL, "--out", "a/model", who=None)
    assert code == 0 and "was here already" in said
    (got / "config.json").write_text("{}")
    assert "config.json is not what factory.json says" in desk.refused("pull", MODEL, "--out", "a/model")

    code, said, _ = desk.factory("pull", DATASET, "--json", who=None)
    told = json.loads(said.splitlines()[-1])
    assert (code, told["manifest"]["kind"], told["folder"]) == (0, "dataset", "tiny-math")

    tampered = desk.hub.commit(file("config.json", "{}"), name=MODEL)
    assert tampered.status_code == 200
    assert "config.json is not what factory.json says" in desk.refused("pull", MODEL, "--out", "other")
    assert not (desk.folder / "other").exists()
    code, _, _ = desk.factory("pull", MODEL, "--revision", "v1", "--out", "other", who=None)
    assert code == 0 and (desk.folder / "other" / "config.json").stat().st_size > 2


def test_what_the_factory_did_not_publish_is_told_in_one_line(desk: Desk) -> None:
    desk.hub.create("acme/plain")
    assert "it has no factory.json" in desk.refused("pull", "acme/plain")
    assert "no such model or dataset" in desk.refused("pull", "acme/none", who=None)
    assert "no revision 'v9'" in desk.refused("pull", "acme/plain", "--revision", "v9")
    assert "no name of a repository" in desk.refused("pull", "a b/c--d")
    assert not list(desk.folder.glob("*plain*"))
