"""scores.json: how sure a score is, and what keeps it from being the suite's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.tasks import results
from factory.tasks.bootstrap import standard_error
from factory.tasks.document import Document
from factory.tasks.rows import Rows
from factory.tasks.samples import Sample
from factory.tasks.suites import SUITES


def samples(scores: dict[str, list[float]], cut: int = 0) -> list[Sample]:
    return [
        Sample(i, score, group, "p", "g", None, None, "t", "h", cut if i == 0 else 0)
        for group, values in scores.items()
        for i, score in enumerate(values)
    ]


def rows_of(
    name: str, scored: int | None = None, examples: int | None = None, subjects: int = 57
) -> list[Rows]:
    """As many rows as the leaderboard has, or others; all of MMLU's in its first subject."""
    task, one = SUITES["openllm_v1"][name], Document(("q",), (" a",), (0,), "q a")
    first = [one] * (scored or task.rows or 0), [one] * (examples or task.shots_rows or 0)
    groups = task.subjects[:subjects] or (name,)
    return [Rows(group, *(first if i == 0 else ([], []))) for i, group in enumerate(groups)]


def scored(
    limit: int | None = None,
    shots: dict[str, int] | None = None,
    rows: dict[str, list[Rows]] | None = None,
    **tasks: list[Sample],
) -> Any:
    shots = {name: SUITES["openllm_v1"][name].shots for name in tasks} | (shots or {})
    read = {name: rows_of(name) for name in tasks} | (rows or {})
    return results.scores("openllm_v1", shots, limit, read, tasks, replicates=200, seed=0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_one_groups_error_is_what_lm_evaluation_harness_reports(scores: list[float]) -> None:
    mean = sum(scores) / len(scores)
    sample = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    expected = sample / math.sqrt(len(scores))
    assert standard_error(scores, ["arc"] * len(scores)) == pytest.approx(expected, abs=1e-12)


def test_mmlus_error_is_that_of_the_mean_of_its_subjects_means() -> None:
    one, other = [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0]
    found = scored(mmlu=samples({"anatomy": one, "virology": other}))["tasks"]["mmlu"]
    errors = [standard_error(values, ["x"] * len(values)) for values in (one, other)]
    assert found["value"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert found["stderr"] == pytest.approx(math.hypot(*(error or 0 for error in errors)) / 2)
    assert found["stderr"] != pytest.approx(standard_error(one + other, ["x"] * 7))


def test_the_averages_error_is_that_of_the_mean_of_the_tasks() -> None:
    found = scored(arc=samples({"arc": [0.0, 1.0, 1.0]}), gsm8k=samples({"gsm8k": [0.0, 0.0, 1.0, 0.0]}))
    errors = [task["stderr"] for task in found["tasks"].values()]
    assert found["average"]["stderr"] == pytest.approx(math.hypot(*errors) / 2)
    assert found["average"]["n"] == 7


def test_one_document_has_no_standard_error() -> None:
    found = scored(mmlu=samples({"anatomy": [1.0]}))
    assert found["tasks"]["mmlu"]["stderr"] is None and found["average"]["stderr"] is None


def test_a_whole_suite_compares_and_a_part_of_one_does_not() -> None:
    whole = {name: samples({name: [0.0, 1.0]}) for name in SUITES["openllm_v1"]}
    found = scored(**whole)
    assert (found["comparable"], found["why_not"]) == (True, [])
    assert scored(limit=2, **whole)["why_not"] == [
        "Only the first 2 documents of each task or subject are scored: not comparable with the whole suite"
    ]
    assert scored(shots={"arc": 1}, **whole)["why_not"] == [
        "arc has 1 shot where the suite has 25: not comparable with it"
    ]
    del whole["gsm8k"], whole["mmlu"]
    found = scored(**whole)
    assert not found["comparable"]
    assert found["why_not"] == ["The average leaves out mmlu, gsm8k: not comparable with the suite's"]


def test_rows_that_are_not_the_benchmarks_own_do_not_compare() -> None:
    whole = {name: samples({name: [0.0, 1.0]}) for name in SUITES["openllm_v1"]}
    found = scored(rows={"arc": rows_of("arc", 12), "gsm8k": rows_of("gsm8k", None, 30)}, **whole)
    assert not found["comparable"]
    assert found["why_not"] == [
        "arc: the rows are 12 of 1,172: not comparable",
        "gsm8k: the rows for its shots are 30 of 7,473: not comparable",
    ]
    # TruthfulQA draws no examples: one number is told, once.
    found = scored(rows={"truthfulqa": rows_of("truthfulqa", 12, 12)}, **whole)
    assert found["why_not"] == ["truthfulqa: the rows are 12 of 817: not comparable"]


def test_missing_subjects_are_listed() -> None:
    (said,) = (
        line
        for line in scored(2, rows={"mmlu": rows_of("mmlu", subjects=55)}, mmlu=samples({"anatomy": [0.0]}))[
            "why_not"
        ]
        if line.startswith("mmlu lacks")
    )
    assert said == "mmlu lacks 2 of its 57 subjects: not comparable (virology, world_religions)"


def test_cut_prompts_are_counted_by_document() -> None:
    found = scored(arc=samples({"arc": [0.0, 1.0, 1.0]}, cut=17), gsm8k=samples({"gsm8k": [0.0, 1.0]}))
    assert {name: task["cut"] for name, task in found["tasks"].items()} == {"arc": 1, "gsm8k": 0}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("ARC-Easy", ["arc: the rows are those of 'ARC-Easy', not of 'ARC-Challenge': not comparable"]),
        ("ARC-Challenge", []),
        (None, []),
    ],
)
def test_rows_of_another_configuration_are_told(config: str | None, told: list[str]) -> None:
    """A folder's only configuration is read, and some have as many rows."""
    rows = [replace(one, config=config) for one in rows_of("arc")]
    found = scored(rows={"arc": rows}, arc=samples({"arc": [1.0, 0.0]}))
    assert [line for line in found["why_not"] if line.startswith("arc")] == told
