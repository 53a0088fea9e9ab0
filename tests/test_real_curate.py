"""Real GSM8K, Dolly and Alpaca rows against real benchmarks: what is removed, and whether a leak is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from written import jsonl

from factory.data.duplicates import normalised
from factory.data.overlap import words
from factory.data.rows import DataSpec, iterate_rows, numbered_rows
from factory.stages import curate
from factory.tasks import rows
from factory.tasks.suites import SUITES

DATA = Path(__file__).parents[2] / "shared" / "data"
TASKS = {
    "arc": "allenai__ai2_arc", "mmlu": "cais__mmlu", "truthfulqa": "truthfulqa__truthful_qa",
    "winogrande": "allenai__winogrande", "gsm8k": "openai__gsm8k",
}  # fmt: skip
SETS = {
    "gsm8k": ("openai__gsm8k", {"config": "main", "prompt": "math"}),
    "dolly": ("databricks__databricks-dolly-15k", {"skip_empty": True}),
    "alpaca": ("tatsu-lab__alpaca", {"skip_empty": True}),
}

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real rows are not beside the repository (../shared/data)"
)


def of(name: str, config: str, split: str) -> list[dict[str, Any]]:
    """The rows of a file as they are."""
    return pq.read_table(DATA / name / config / f"{split}.parquet").to_pylist()


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


def run(folder: Path, out: Path, spec: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts, and what was removed."""
    settings = curate.Settings(
        data=DataSpec(name="set", **spec),
        deduplicate="questions",
        overlap=13,
        suite="openllm_v1",
        tasks=tuple(TASKS),
        versions=dict.fromkeys(TASKS, 1),
    )
    inputs = {"data": folder, **{f"data.{task}": DATA / name for task, name in TASKS.items()}}
    out.mkdir()
    facts = curate.run(settings, inputs, out, quiet)
    return facts, [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "expected"), {"gsm8k": (0, 7), "dolly": (12, 4), "alpaca": (0, 2)}.items())
def test_what_goes_shares_the_words_that_are_told(
    name: str, expected: tuple[int, int], tmp_path: Path
) -> None:
    folder, spec = SETS[name]
    facts, gone = run(DATA / folder, tmp_path / "out", spec)
    source = dict(numbered_rows(DATA / folder, DataSpec(name="set", **spec)))
    assert (facts["duplicates"], facts["overlaps"]) == expected
    assert facts["rows_read"] == len(source) == facts["rows"] + len(gone)
    documents = {
        (task, found.group): found.scored
        for task, path in TASKS.items()
        for found in rows.read(SUITES["openllm_v1"][task], DATA / path, 0, 1)
    }
    for one in gone:
        row = source[one["row"]]
        if one["why"] == "duplicate":
            assert normalised(row["instruction"]) == normalised(source[one["first"]]["instruction"])
            continue
        shared = one["words"].removesuffix(" …")
        document = documents[one["task"], one["group"]][one["document"]]
        asks = document.contexts[0].split("\nA")[0]
        wholes = [f" {' '.join(words(asks + document.choices[gold]))} " for gold in document.gold]
        assert f" {shared} " in f" {' '.join(words(' '.join(row.values())))} "
        assert any(f" {shared} " in whole for whole in wholes)
        asked = " ".join(words(row["instruction"] + " " + row["context"]))
        assert len(shared.split()) >= 8 or shared == asked


def test_of_gsm8k_exactly_the_rows_go_that_a_plain_search_finds(tmp_path: Path) -> None:
    def grams(row: dict[str, Any]) -> set[str]:
        said = words(f"{row['question']} {row['answer']}")
        return {" ".join(said[i : i + 13]) for i in range(len(said) - 12)}

    scored = set().union(*map(grams, of("openai__gsm8k", "main", "test")))
    expected = [i for i, row in enumerate(of("openai__gsm8k", "main", "train")) if grams(row) & scored]
    folder, spec = SETS["gsm8k"]
    _, gone = run(DATA / folder, tmp_path / "out", spec)
    assert [one["row"] for one in gone] == expected


def test_a_benchmark_row_among_the_training_rows_is_found_however_it_is_dressed(tmp_path: Path) -> None:
    tests = of("openai__gsm8k", "main", "test")
    dolly = of("databricks__databricks-dolly-15k", "default", "train")[:200]
    mmlu = of("cais__mmlu", "astronomy", "test")[0]
    arc = of("allenai__ai2_arc", "ARC-Challenge", "test")[5]
    planted = {
        20: {"instruction": tests[0]["question"], "context": "", "response": tests[0]["answer"]},
        50: {"instruction": "Explain.", "context": tests[1]["question"].upper(), "response": "No."},
        90: {
            "instruction": "Make up a problem.",
            "context": "",
            "response": f"“{tests[2]['question']}” Good luck!",
        },
        120: {"instruction": mmlu["question"], "context": "", "response": "I think so."},
        160: {"instruction": f"Question: {arc['question']}", "context": "", "response": "Yes."},
    }
    found = list(dolly)
    for place, row in planted.items():
        found.insert(place, row)
    jsonl(tmp_path / "data" / "train.jsonl", *found)
    _, gone = run(tmp_path / "data", tmp_path / "out", {})
    told = {
        one["row"]: (one["task"], one["group"], one["document"]) for one in gone if one["why"] == "overlap"
    }
    assert told == {
        20: ("gsm8k", "gsm8k", 0), 50: ("gsm8k", "gsm8k", 1), 90: ("gsm8k", "gsm8k", 2),
        120: ("mmlu", "astronomy", 0), 160: ("arc", "arc", 5),
    }  # fmt: skip


def test_the_same_dolly_rows_again_are_all_duplicates(tmp_path: Path) -> None:
    folder, spec = SETS["dolly"]
    source = list(iterate_rows(DATA / folder, DataSpec(name="set", **spec)))
    again = [{**row, "instruction": f"  {row['instruction'].upper()}"} for row in source]
    (tmp_path / "data").mkdir()
    jsonl(tmp_path / "data" / "train.jsonl", *source, *again)
    facts, gone = run(tmp_path / "data", tmp_path / "out", {})
    once, _ = run(DATA / folder, tmp_path / "once", spec)
    assert facts["rows"] == once["rows"]
    firsts = {one["row"]: one["first"] for one in gone if one["why"] == "duplicate"}
    assert sum(row == first + len(source) for row, first in firsts.items()) == once["rows"]
