"""Curate: what goes goes with its reason, what is left is in the order asked for, whatever interrupts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import jsonl, load_rows

from factory.data.row_order import rank
from factory.data.rows import DataSpec
from factory.errors import FactoryError
from factory.stages import curate
from factory.stages.curate import Settings

QUESTION = "A farmer has 12 sheep and buys 30 more at the market. How many sheep has he got now"
GSM8K = [
    {"question": f"{QUESTION}?", "answer": "12 + 30 = 42 #### 42"},
    {"question": "2?", "answer": "#### 2"},
]
ROWS = [
    ("Where do bears live?", "In woods."),
    (f"Riddle: {QUESTION}, and why?", "42"),
    ("where do  BEARS live", "In dens."),
    ("Name a colour.", "Red."),
    (f"Riddle: {QUESTION}, and why?", "42"),
    ("Name a colour.", "Red."),
]
OVERLAP = {"overlap": 13, "suite": "openllm_v1", "tasks": ("gsm8k",), "versions": {"gsm8k": 1}}


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("curate")
    rows = [{"instruction": asked, "response": said} for asked, said in ROWS]
    jsonl(folder / "data" / "train.jsonl", *rows)
    jsonl(folder / "gsm8k" / "main" / "test.jsonl", *GSM8K)
    return {"data": folder / "data", "data.gsm8k": folder / "gsm8k"}


def run(
    inputs: dict[str, Path], out: Path, data: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    out.mkdir(exist_ok=True, parents=True)
    spec = DataSpec(name="set", **(data or {}))
    return curate.run(Settings(data=spec, **changes), inputs, out, quiet)


def left(out: Path) -> list[int]:
    """The places in the source of the rows that are left, in their order."""
    from datasets import load_dataset

    return load_dataset(str(out), split="train", cache_dir=str(out.parent / "cache"))["row"][:]


def removed(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]


def test_overlaps_go_and_of_duplicates_all_but_the_first(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts = run(inputs, tmp_path / "out", deduplicate="questions", **OVERLAP)
    assert left(tmp_path / "out") == [0, 3]
    gone = removed(tmp_path / "out")
    assert [(one["row"], one["why"], one.get("first")) for one in gone] == [
        (1, "overlap", None), (2, "duplicate", 0), (4, "overlap", None), (5, "duplicate", 3),
    ]  # fmt: skip
    assert (gone[0]["task"], gone[0]["document"]) == ("gsm8k", 0)
    assert gone[0]["words"] == QUESTION.lower().replace(".", "")
    assert facts == {
        "rows_read": 6, "rows": 2, "duplicates": 2, "overlaps": 2, "overlaps_by_task": {"gsm8k": 2},
        "documents": {"gsm8k": 2}, "documents_met": {"gsm8k": 1}, "examples": [gone[i] for i in (1, 3, 0, 2)],
    }  # fmt: skip


def test_rows_are_the_same_only_with_the_same_response_where_the_recipe_says_so(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path / "out", deduplicate="rows")
    assert left(tmp_path / "out") == [0, 1, 2, 3]


def test_a_row_whose_first_went_for_a_benchmark_may_stay(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"instruction": "Who?", "response": f"{QUESTION}!"}, {"instruction": "Who?", "response": "Ann."}]
    jsonl(tmp_path / "data" / "train.jsonl", *rows)
    run({**inputs, "data": tmp_path / "data"}, tmp_path / "out", deduplicate="questions", **OVERLAP)
    assert left(tmp_path / "out") == [1]


def test_the_turns_before_are_compared_without_the_signs_of_json(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    half = len(QUESTION.split()) // 2
    turns = [" ".join(QUESTION.split()[:half]), 'Go on, "please"', "x"]
    said = [
        {"role": r, "content": c}
        for r, c in zip(("user", "assistant", "user", "assistant"), [*turns, "y"], strict=True)
    ]
    broken = QUESTION.replace(" ", "\n")
    chats = [[{"role": "user", "content": broken}, *said[1:]], said]
    jsonl(tmp_path / "data" / "train.jsonl", *({"messages": chat} for chat in chats))
    run({**inputs, "data": tmp_path / "data"}, tmp_path / "out", {"prompt": "chat"}, **OVERLAP)
    assert [one["row"] for one in removed(tmp_path / "out")] == [0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), sizes=st.lists(st.integers(1, 40), min_size=2, max_size=2))
def test_the_rows_of_a_smaller_set_are_among_those_of_a_larger(
    seed: int, sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("nested")
    rows = [{"instruction": f"say {i % 50}", "response": f"{i}"} for i in range(60)]
    jsonl(folder / "data" / "train.jsonl", *rows)
    run({"data": folder / "data"}, folder / "out", deduplicate="questions", order="random", seed=seed)
    few, many = (
        load_rows(folder / "out", DataSpec(name="set", rows=size))["response"][:] for size in sorted(sizes)
    )
    assert many[: len(few)] == few
    expected = sorted(range(50), key=lambda row: rank(seed, row))
    assert many == [str(row) for row in expected[: len(many)]]


@pytest.mark.parametrize("order", ["file", "random"])
def test_rows_that_stream_past_are_those_that_fit_into_memory(
    order: str, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches, shards and buffers give what one batch gives."""
    run(inputs, tmp_path / "whole", deduplicate="questions", order=order, seed=5, **OVERLAP)
    monkeypatch.setattr(curate, "BATCH", 2)
    monkeypatch.setattr(curate, "SHARD", 1)
    monkeypatch.setattr("factory.data.row_order.ByRank.__init__.__defaults__", (1,))
    run(inputs, tmp_path / "pieces", deduplicate="questions", order=order, seed=5, **OVERLAP)
    assert left(tmp_path / "whole") == left(tmp_path / "pieces")
    assert removed(tmp_path / "whole") == removed(tmp_path / "pieces")
    names = sorted(path.name for path in (tmp_path / "pieces").iterdir())
    assert names == ["README.md", "curated.json", "data", "removed.jsonl"]
    assert len(list((tmp_path / "pieces" / "data").iterdir())) == 2


def test_too_few_rows_are_refused_with_what_became_of_the_others(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path / "out", deduplicate="questions", **OVERLAP)
    with pytest.raises(FactoryError) as caught:
        load_rows(tmp_path / "out", DataSpec(name="set", rows=3))
    assert str(caught.value).split(": ", 1)[1] == (
        "dataset 'set' has only 2 rows left of 6: 2 were removed as duplicates, 2 as overlapping the "
        "benchmarks. Say rows: 2, or leave rows out."
    )


def test_a_set_of_nothing_but_benchmark_rows_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    jsonl(tmp_path / "data" / "train.jsonl", *GSM8K)
    with pytest.raises(FactoryError, match="no row of dataset 'set' is left: 2 rows removed"):
        run({**inputs, "data": tmp_path / "data"}, tmp_path / "out", **OVERLAP)


KILLED = """
import os, signal, sys
from pathlib import Path
from factory.data.rows import DataSpec
from factory.stages import curate

def progress(done, total, unit, note=""):
    if done >= 30_000:
        os.kill(os.getpid(), signal.SIGKILL)

settings = curate.Settings(data=DataSpec(name="set"), deduplicate="questions", order="random", seed=1)
curate.run(settings, {"data": Path(sys.argv[1])}, Path(sys.argv[2]), progress)
"""


def test_a_killed_pass_leaves_nothing_that_the_next_one_takes_up(tmp_path: Path) -> None:
    rows = ({"instruction": f"say {i % 39_000}", "response": f"{i}"} for i in range(40_000))
    data, out = jsonl(tmp_path / "data" / "train.jsonl", *rows).parent, tmp_path / "killed"
    out.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(data), str(out)], cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((out / "order").iterdir()) and not (out / "curated.json").exists()
    changes: dict[str, Any] = {"deduplicate": "questions", "order": "random", "seed": 1}
    facts = run({"data": data}, tmp_path / "whole", **changes)
    assert run({"data": data}, out, **changes) == facts
    assert facts["rows"] == 39_000
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert len(list(out.rglob("*"))) == len(list((tmp_path / "whole").rglob("*")))
