"""A recipe whose base is on a Hub, planned: its headers are read as ranges, its weights stay there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from local_hub import Served
from tiny_run import Desk

pytestmark = pytest.mark.slow

RECIPE = """\
name: from-hub
base: {model: acme/tiny}
prune: {drop: 2, calibration: {dataset: sandbox/corpus, rows: 2, max_tokens: 16}}
datasets: {math: {id: sandbox/math, prompt: math, rows: 4}}
variants: {own: {data: [math], targets: self}}
evaluate: {suite: sandbox_v1, tasks: [arc], limit: 2}
"""


def factory(hub: Served, home: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    environment = hub.environment("ann", home) | {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "factory.cli", *arguments]
    done = subprocess.run(command, env=environment | more, cwd=home.parent, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_no_weights_are_fetched(hub: Served, tiny_model: Path, tmp_path: Path) -> None:
    upload = f"""
api.create_repo("acme/tiny")
api.upload_folder(repo_id="acme/tiny", folder_path={str(tiny_model)!r})
told["parameters"] = sum(api.get_safetensors_metadata("acme/tiny").parameter_count.values())
"""
    known = hub.client(upload, tmp_path / "uploader")["parameters"]
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    home = tmp_path / "home"
    code, out, err = factory(hub, home, "plan", "recipe.yaml", "--json")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    assert told["parameters"]["base"] == known > told["parameters"]["pruned"]
    [download] = told["costs"]["downloads"]
    weights = (tiny_model / "model.safetensors").stat().st_size
    assert download["repository"] == "acme/tiny" and download["to_fetch"] > weights
    assert not [path for path in home.rglob("*") if path.name.endswith(".safetensors")]

    code, out, err = factory(hub, home, "new", "mine", "--base", "acme/tiny", "--out", "mine.yaml")
    assert code == 0, err
    assert f"revision: {hub.head()}" in (tmp_path / "mine.yaml").read_text()


def test_a_miniature_is_published_on_this_machine_alone(desk: Desk) -> None:
    page = desk.run / "run.json"
    told = json.loads(page.read_text())
    told["recipe"]["miniature"] = True
    page.write_text(json.dumps(told))
    home = desk.folder / "home"
    command = ("publish", "tiny", "--namespace", "acme")
    code, _, err = factory(desk.hub, home, *command, HF_ENDPOINT="http://hub.invalid:1")
    assert code == 2 and "a miniature is not published on hub.invalid" in err
    code, _, err = factory(desk.hub, home, *command, HF_ENDPOINT=desk.hub.url.removeprefix("http://"))
    assert code == 2 and err.startswith("error: HF_ENDPOINT: ") and len(err.splitlines()) == 1
    assert [one["changed"] for one in desk.publish()] == [True, True]


def test_a_gated_base_is_told_where_there_is_no_token(hub: Served, tiny_model: Path, tmp_path: Path) -> None:
    upload = f"""
api.create_repo("acme/tiny")
api.upload_folder(repo_id="acme/tiny", folder_path={str(tiny_model)!r})
api.update_repo_settings("acme/tiny", gated="auto")
"""
    hub.client(upload, tmp_path / "uploader")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    # an empty token is none: what the checks of a pull request have
    factory_of = [hub, tmp_path / "home"]
    stranger = {"HF_TOKEN": "", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    refusal = (
        "recipe.yaml:2: the model 'acme/tiny' is gated. Accept its terms on the Hub and run `hf auth login`."
    )
    for command in ("validate", "plan"):
        code, out, err = factory(*factory_of, command, "recipe.yaml", **stranger)
        assert (code, out, err) == (2, "", f"error: {refusal}\n")
    code, out, err = factory(*factory_of, "validate", "recipe.yaml", "--pass-gated", **stranger)
    assert (code, err) == (0, "") and refusal in out and "no mistake found" in out
    code, out, _ = factory(*factory_of, "validate", "recipe.yaml", "--pass-gated", "--json", **stranger)
    assert (code, json.loads(out)) == (0, {"valid": None, "gated": refusal})
    code, out, _ = factory(*factory_of, "plan", "recipe.yaml", "--pass-gated", "--markdown", **stranger)
    assert code == 0 and out.startswith("## recipe\n\nNot planned here, where there is no token: the model")
    # a limit on costs is never passed unseen, and what can be seen without the base is
    limit = ("plan", "recipe.yaml", "--pass-gated", "--max-cost", "5")
    assert factory(*factory_of, *limit, **stranger)[0] == 2
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("rows: 4", "rows: 400000"))
    code, _, err = factory(*factory_of, "validate", "recipe.yaml", "--pass-gated", **stranger)
    assert code == 2 and err.startswith("error: recipe.yaml:4: dataset 'math' has only")
    # who may read it sees all of it
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, out, err = factory(*factory_of, "validate", "recipe.yaml", "--pass-gated")
    assert code == 0 and "is valid" in out, err
