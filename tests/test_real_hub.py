"""The real-rows recipes, as they are shipped: rows from a Hub here, both engines, to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from servers import running, serve_model

from factory import sandbox

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
NEEDED = ("openai__gsm8k", "databricks__databricks-dolly-15k", "allenai__ai2_arc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((DATA / name).is_dir() for name in NEEDED),
        reason="the real rows are not beside the repository (../shared/data)",
    ),
]
# The same steps in a fraction of the time.
SMALL = (
    "prune.calibration.rows=8", "datasets.math.rows=12", "datasets.chat.rows=12",
    "train.sft.max_steps=3", "evaluate.limit=4", "drift.rows=4",
)  # fmt: skip


def factory(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "factory.cli", *words], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real-hub")


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[dict[str, str]]:
    """The environment of a terminal that talks to a local Hub with the real rows."""
    (place / "data").mkdir()
    for name in NEEDED:
        (place / "data" / name).symlink_to(DATA / name)
    root = place / "hub"
    loaded = factory("hub", "load", str(place / "data"), "--root", str(root))
    assert loaded.returncode == 0, loaded.stderr
    serve = [sys.executable, "-m", "factory.cli", "hub", "serve", "--root", str(root), "--port", "{port}"]
    with running(serve, place / "hub.log", path="/") as url:
        yield {
            "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN_PATH": str(root / "token"),
            "HF_HUB_OFFLINE": "0", "HF_HOME": str(place / "home"),
        }  # fmt: skip


def made(name: str, place: Path, hub: dict[str, str], *overrides: str) -> tuple[Path, str]:
    """The run folder of a shipped recipe and what the terminal showed."""
    words = [word for override in (*SMALL, *overrides) for word in ("--set", override)]
    recipe = f"recipes/sandbox/{name}.yaml"
    done = factory("run", recipe, "--runs-dir", str(place / "runs"), *words, **hub)
    assert done.returncode == 0, done.stderr
    return place / "runs" / name, done.stderr


def rows(folder: Path, dataset: str) -> list[dict[str, Any]]:
    return pq.read_table(next((folder / "data" / dataset).rglob("*.parquet"))).to_pylist()


def test_both_recipes_go_from_the_hubs_rows_to_the_report_and_both_engines_write_the_same(
    place: Path, hub: dict[str, str]
) -> None:
    here, shown = made("gsm8k-dolly", place, hub)
    assert "Fetching" not in shown
    with running(serve_model(sandbox.model_folder()), place / "serve.log") as url:
        server = f"regenerate.server={{url: {url}/v1, model: {sandbox.model_folder()}}}"
        served, _ = made("gsm8k-dolly-served", place, hub, server)
    for folder in (here, served):
        report = json.loads((folder / "report.json").read_text())
        assert [m["name"] for m in report["models"]] == ["base", "pruned", "sft", "self", "merged"]
        assert [m["name"] for m in report["drift"]["models"]] == ["pruned", "sft", "self", "merged"]
        chat = report["drift"]["base"]["prompts"]["chat"]
        assert chat["split"] == "train" and chat["skipped"] and chat["rows"] == 4  # Dolly has one split
        assert "scored benchmark: 7 with 6 documents of gsm8k" in (folder / "report.md").read_text()
        assert (folder / "examples.md").read_text().count("| question |") >= 4
    for dataset in ("math", "chat"):
        assert rows(served, dataset) == rows(here, dataset)
    keys = [json.loads((f / "data" / "math" / "record.json").read_text())["key"] for f in (here, served)]
    assert keys[0] != keys[1]


def test_the_two_recipes_are_the_same_but_for_the_engine() -> None:
    from factory.recipe.recipe import load_recipe

    plain, served = (
        load_recipe(ROOT / "recipes" / "sandbox" / f"gsm8k-dolly{kind}.yaml").model_dump()
        for kind in ("", "-served")
    )
    assert (plain.pop("name"), served.pop("name")) == ("gsm8k-dolly", "gsm8k-dolly-served")
    for key in ("engine", "server"):
        assert plain["regenerate"].pop(key) != served["regenerate"].pop(key)
    assert plain == served
