"""Suites of one's own: a package on the path, with an entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import sandbox
from factory.errors import FactoryError
from factory.tasks.suites import SUITES

MINE = """
from factory.tasks.document import Document
from factory.tasks.suites import SUITES, Task

def parity(row):
    gold = row["number"] % 2
    context = f"Is {row['number']} odd?"
    return Document((context,), (" no", " yes"), (gold,), context + (" no", " yes")[gold])

PARITY = Task("parity", "me/parity", None, "test", "train", 2, "random", "acc", 0.5, ("number",), parity)
SUITE = {**SUITES["openllm_v1"], "parity": PARITY}
WRONG = {"even": PARITY}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with suites, as pip leaves it."""
    (tmp_path / "my_tasks.py").write_text(MINE)
    facts = tmp_path / "my_tasks-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 1.0\n")
    entries = {"mine": "SUITE", "wrong": "WRONG", "gone": "NOTHING", "openllm_v1": "WRONG"}
    lines = ["[factory.suites]", *(f"{name} = my_tasks:{what}" for name, what in entries.items()), ""]
    (facts / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_tasks", raising=False)
    return tmp_path


def test_an_installed_package_adds_a_suite(package: Path) -> None:
    assert list(SUITES["mine"]) == [*SUITES["openllm_v1"], "parity"]
    assert {"openllm_v1", "sandbox_v1", "mine"} < set(SUITES)
    assert len(SUITES) == len(list(SUITES))


def test_without_it_there_is_no_such_suite() -> None:
    assert "mine" not in SUITES
    assert set(SUITES) == {"openllm_v1", "sandbox_v1"}


def test_nobody_can_replace_the_leaderboards_suite(package: Path) -> None:
    assert "even" not in SUITES["openllm_v1"]
    assert SUITES["openllm_v1"]["arc"].shots == 25


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "wrong",
            "my_tasks:WRONG: suite 'wrong' is no suite. It must be a dictionary from the name of each task",
        ),
        ("gone", "my_tasks:NOTHING: suite 'gone' cannot be loaded (AttributeError: "),
    ],
)
def test_what_is_no_suite_is_said_in_one_line(name: str, said: str, package: Path) -> None:
    with pytest.raises(FactoryError) as error:
        SUITES[name]
    assert str(error.value).startswith(said)


def test_a_suite_of_ones_own_is_evaluated(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "me__parity" / "default"
    folder.mkdir(parents=True)
    for split, start in (("test", 0), ("train", 50)):
        pq.write_table(pa.table({"number": range(start, start + 6)}), folder / f"{split}.parquet")
    paths = os.pathsep.join([str(package), str(Path(__file__).parents[2])])
    ended = subprocess.run(
        [
            sys.executable, "-m", "factory.cli", "evaluate", str(sandbox.model_folder()), "--suite", "mine",
            "--tasks", "parity", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"),
        ],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["suite"], scores["tasks"]["parity"]["n"]) == ("mine", 6)
