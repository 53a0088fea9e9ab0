"""Cards of a real small run: snippets run, data loads, the Hub accepts them, a browser shows them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from local_hub import Served

from factory.hub.card import Card, dataset_card, model_card

ROOT = Path(__file__).parents[2]
SMALL = (
    "datasets.math.rows=16", "datasets.instruct.rows=16", "prune.calibration.rows=8",
    "train.sft.max_steps=4", "evaluate.limit=4", "evaluate.tasks=[arc, gsm8k]",
    "variants={math-sft: {data: [math], targets: original}, math-self: {data: [math], targets: self}}",
)  # fmt: skip
SIBLINGS = {"math": "acme/quickstart-math", "math-self": "acme/quickstart-math-self"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart, in small."""
    runs = tmp_path_factory.mktemp("live") / "runs"
    overrides = [part for setting in SMALL for part in ("--set", setting)]
    command = ["run", "recipes/quickstart.yaml", "--runs-dir", str(runs), *overrides]
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return runs / "quickstart"


def publish(hub: Served, kind: str, name: str, card: Card, contents: Path, home: Path) -> None:
    """One commit with the card, its files and what it speaks of; the card passes the Hub's validation."""
    hub.create(name, kind)
    folder = home / name
    shutil.copytree(contents, folder)
    (folder / "README.md").write_text(card.text)
    for path, content in card.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    told = hub.client(
        f"""
from huggingface_hub import DatasetCard, ModelCard
folder = Path({str(folder)!r})
files = [path for path in folder.rglob("*") if path.is_file()]
operations = [Add(str(path.relative_to(folder)), path) for path in files]
api.create_commit({name!r}, operations, commit_message="card", repo_type={kind!r})
card = ({kind.capitalize()}Card).load({name!r}, repo_type={kind!r})
card.validate()
info = api.repo_info({name!r}, repo_type={kind!r})
told = {{"tags": info.tags, "same": card.content == (folder / "README.md").read_text()}}
""",
        home / "cache",
    )
    assert told["same"] and "license:apache-2.0" in told["tags"] and "arxiv:2410.09982" in told["tags"]


def snippets(card: Card) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)


def execute(hub: Served, code: str, home: Path) -> str:
    """Runs a snippet as it stands, in a fresh process with an empty cache."""
    told = {**hub.environment(None, home), "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_snippets_of_a_model_card_run(run: Path, hub: Served, tmp_path: Path) -> None:
    name = SIBLINGS["math-self"]
    card = model_card(run, "math-self", name, SIBLINGS)
    publish(hub, "model", name, card, run / "models" / "math-self", tmp_path)
    alone, draft = snippets(card)
    assert execute(hub, alone, tmp_path / "a").strip()
    # A draft changes how fast the base answers, not what it says.
    told = execute(hub, draft, tmp_path / "b")
    without = draft.replace("assistant_model=draft, ", "")
    assert without != draft and execute(hub, without, tmp_path / "b") == told


def test_the_snippet_of_a_dataset_card_loads_the_set(run: Path, hub: Served, tmp_path: Path) -> None:
    name = SIBLINGS["math"]
    card = dataset_card(run, "math", name, SIBLINGS)
    contents = tmp_path / "contents"
    (contents / "data").mkdir(parents=True)
    for shard in (run / "data" / "math" / "data").iterdir():
        shutil.copyfile(shard, contents / "data" / shard.name)
    publish(hub, "dataset", name, card, contents, tmp_path)
    (code,) = snippets(card)
    told = execute(hub, f"{code}\nprint(rows.num_rows, rows.column_names)", tmp_path / "c").splitlines()
    assert told[-1].startswith("16 ['instruction', 'context', 'original', 'regenerated', 'response'")
    assert told[0]


def test_a_browser_shows_the_card(run: Path, hub: Served, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    name = SIBLINGS["math-self"]
    card = model_card(run, "math-self", name, SIBLINGS)
    publish(hub, "model", name, card, run / "models" / "math-self", tmp_path)
    options = ["--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    command = [chromium, *options, f"{hub.url}/{name}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert "<td>gsm8k, 2-shot, exact_match" in shown.stdout.replace("&nbsp;", " ")
    assert shown.stdout.count("<img") == 2 and "&lt;br&gt;" not in shown.stdout
