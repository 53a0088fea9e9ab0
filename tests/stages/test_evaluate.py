"""Evaluate: scores, samples and intervals of a model on dataset folders in the usual layouts."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_rows import (
    arc_row,
    gsm8k_row,
    hellaswag_row,
    mmlu_row,
    truthfulqa_row,
    winogrande_row,
    write,
)

from factory.errors import FactoryError
from factory.stages import evaluate
from factory.tasks.rows import read as read_rows
from factory.tasks.samples import Journal, read_parquet
from factory.tasks.suites import SUITES

REAL_DATA = Path(os.environ.get("FACTORY_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset folder a task, each in another layout."""
    root = tmp_path_factory.mktemp("benchmarks")
    rows = [arc_row(i) for i in range(7)]
    write(rows[:4], root / "arc/ARC-Challenge/test.parquet")
    write(rows[4:], root / "arc/ARC-Challenge/train.parquet")
    write([arc_row(90)], root / "arc/ARC-Easy/test.parquet")
    rows = [hellaswag_row(i) for i in range(6)]
    write(rows[:4], root / "hellaswag/data/validation-00000-of-00001.parquet")
    write(rows[4:5], root / "hellaswag/data/train-00000-of-00002.parquet")
    write(rows[5:], root / "hellaswag/data/train-00001-of-00002.parquet")
    for subject, count in (("anatomy", 4), ("virology", 2)):
        write([mmlu_row(i, subject) for i in range(count)], root / f"mmlu/{subject}/test.parquet")
        write([mmlu_row(i, subject) for i in range(9, 12)], root / f"mmlu/{subject}/dev.parquet")
    write([mmlu_row(i, "anatomy") for i in range(30)], root / "mmlu/all/test.parquet")
    write([truthfulqa_row(i) for i in range(3)], root / "truthfulqa/multiple_choice/validation.parquet")
    (root / "truthfulqa/preamble.txt").write_text("Q: Own?\nA: Own preamble.\n")
    write([winogrande_row(i) for i in range(4)], root / "winogrande/rows/scored.jsonl")
    write([winogrande_row(i) for i in range(4, 7)], root / "winogrande/rows/examples.jsonl")
    files = "".join(
        f"  - split: {split}\n    path: rows/{file}.jsonl\n"
        for split, file in (("validation", "scored"), ("train", "examples"))
    )
    (root / "winogrande/README.md").write_text(
        f"---\nconfigs:\n- config_name: xl\n  data_files:\n{files}---\n"
    )
    write([gsm8k_row(i) for i in range(2)], root / "gsm8k/test.jsonl")
    write([gsm8k_row(i) for i in range(2, 5)], root / "gsm8k/train.jsonl")
    return {task: root / task for task in SUITES["sandbox_v1"]}


def settings(tasks: tuple[str, ...], **changes: Any) -> evaluate.Settings:
    shots = {"arc": 2, "hellaswag": 1, "mmlu": 3, "truthfulqa": 0, "winogrande": 2, "gsm8k": 1}
    chosen = {task: shots[task] for task in tasks} | changes.pop("shots", {})
    values = {
        "suite": "openllm_v1",
        "limit": 100,  # more than there are: MMLU may then have fewer subjects than its 57
        "tasks": tasks,
        "shots": chosen,
        "versions": dict.fromkeys(tasks, 1),
        "seed": 0,
        "batch_size": 4,
        "bootstrap": 50,
    }
    return evaluate.Settings(**{**values, **changes})


def inputs(model: Path, folders: dict[str, Path]) -> dict[str, Path]:
    return {"model": model, **{f"data.{task}": folder for task, folder in folders.items()}}


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    pass


ALL = tuple(SUITES["openllm_v1"])


@pytest.fixture(scope="module")
def scored(
    tiny_model: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any], list[tuple[int, int, str, str]]]]:
    """All six tasks scored once: the artifact, its facts and the progress."""
    out, told = tmp_path_factory.mktemp("evaluate"), []
    facts = evaluate.run(settings(ALL), inputs(tiny_model, folders), out, lambda *now: told.append(now))
    yield out, facts, told


def samples(out: Path, task: str) -> list[dict[str, Any]]:
    return list(pq.read_table(out / "samples" / f"{task}.parquet").to_pylist())


def test_scores_hold_every_task_and_the_plain_mean(scored: Any) -> None:
    out, facts, _ = scored
    scores = json.loads((out / "scores.json").read_text())
    assert {name: scores[name] for name in ("suite", "tasks", "average")} == {
        name: facts[name] for name in ("suite", "tasks", "average")
    }
    tasks = scores["tasks"]
    assert {task: (score["n"], score["metric"], score["shots"]) for task, score in tasks.items()} == {
        "arc": (4, "acc_norm", 2), "hellaswag": (4, "acc_norm", 1), "mmlu": (6, "acc", 3),
        "truthfulqa": (3, "mc2", 0), "winogrande": (4, "acc", 2), "gsm8k": (2, "exact_match", 1),
    }  # fmt: skip
    assert scores["average"]["value"] == pytest.approx(sum(score["value"] for score in tasks.values()) / 6)
    assert all(
        score["low"] <= score["value"] <= score["high"] for score in (*tasks.values(), scores["average"])
    )
    assert (facts["blocks"], facts["parameters"] > 10_000) == (6, True)


def test_samples_stand_in_dataset_order_with_their_gold(scored: Any) -> None:
    out, facts, _ = scored
    rows = samples(out, "arc")
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["gold"] for row in rows] == ["ape", "no 1", "a stone", "elk"]
    assert [row["score"] for row in rows] == [float(row["prediction"] == row["gold"]) for row in rows]
    assert {row["group"] for row in rows} == {"arc"}
    value = facts["tasks"]["arc"]["value"]
    assert value == pytest.approx(sum(row["score"] for row in rows) / 4)
    assert samples(out, "winogrande")[1]["gold"] == "Ann hit Bea 1 times so Bea cried."


def test_mmlu_is_the_mean_over_the_subjects(scored: Any) -> None:
    out, facts, _ = scored
    rows = samples(out, "mmlu")
    assert [(row["group"], row["index"]) for row in rows] == [
        *(("anatomy", i) for i in range(4)), *(("virology", i) for i in range(2)),
    ]  # fmt: skip
    means = [
        sum(row["score"] for row in rows if row["group"] == subject) / count
        for subject, count in (("anatomy", 4), ("virology", 2))
    ]
    assert facts["tasks"]["mmlu"]["value"] == pytest.approx(sum(means) / 2)


def test_progress_counts_documents_of_all_tasks(scored: Any) -> None:
    told = scored[2]
    assert told[-1] == (23, 23, "documents", "gsm8k")
    assert [now[0] for now in told] == sorted(now[0] for now in told)
    assert list(dict.fromkeys(now[3] for now in told)) == list(ALL)


def test_a_task_whose_samples_are_there_is_not_scored_again(
    scored: Any, tiny_model: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(scored[0] / "samples", tmp_path / "samples")
    (tmp_path / "scores.json").unlink(missing_ok=True)
    (tmp_path / "samples" / "arc.parquet").unlink()
    (tmp_path / "samples" / "arc.parquet.part").write_bytes(b"half a file")
    told: list[Any] = []
    facts = evaluate.run(settings(ALL), inputs(tiny_model, folders), tmp_path, lambda *now: told.append(now))
    assert facts == scored[1]
    for name in ("scores.json", "lighteval.json"):  # nothing in them tells when or where they were made
        assert (tmp_path / name).read_bytes() == (scored[0] / name).read_bytes()
    assert {now[3] for now in told} == {"arc"}
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted(
        f"{task}.parquet" for task in ALL
    )


@pytest.mark.parametrize("task", ["arc", "winogrande", "gsm8k"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_documents_that_are_kept_are_not_scored_again(
    task: str, batch_size: int, scored: Any, tiny_model: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    """What stands in the journal stays as it is, unless it answered another prompt."""
    whole = read_parquet(scored[0] / "samples" / f"{task}.parquet")
    kept = replace(whole[0], prediction="kept")
    stale = replace(whole[1], prediction="stale", prompt="0" * 16)
    foreign = replace(whole[1], index=99)
    Journal(tmp_path / "samples" / f"{task}.jsonl").write([kept, stale, foreign])
    told: list[Any] = []
    facts = evaluate.run(
        settings((task,), batch_size=batch_size),
        inputs(tiny_model, folders),
        tmp_path,
        lambda *now: told.append(now),
    )
    found = read_parquet(tmp_path / "samples" / f"{task}.parquet")
    assert found[0].prediction == "kept"
    assert [sample.prediction for sample in found[1:]] == [sample.prediction for sample in whole[1:]]
    if batch_size == 1:
        assert [now[0] for now in told] == list(range(2, len(whole) + 1))
    assert facts["tasks"][task]["value"] == pytest.approx(scored[1]["tasks"][task]["value"])


def test_the_sandbox_brings_its_own_preamble_and_v1_keeps_its_own(folders: dict[str, Path]) -> None:
    preambles = {
        suite: read_rows(SUITES[suite]["truthfulqa"], folders["truthfulqa"], 0, None)[0].scored[0].instruction
        for suite in SUITES
    }
    assert preambles["sandbox_v1"] == "Q: Own?\nA: Own preamble."
    assert preambles["openllm_v1"].startswith("Q: What is human life expectancy")


def test_limit_scores_the_first_of_the_shuffled_order_of_each_subject(
    tiny_model: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    facts = evaluate.run(settings(("mmlu",), limit=2), inputs(tiny_model, folders), tmp_path, quiet)
    assert facts["tasks"]["mmlu"]["n"] == 4
    order = [0, 1, 2, 3]
    random.Random(42).shuffle(order)
    assert [row["index"] for row in samples(tmp_path, "mmlu") if row["group"] == "anatomy"] == sorted(
        order[:2]
    )


def broken(
    folder: Path, task: str, scored: list[dict[str, Any]], examples: list[dict[str, Any]], **changes: Any
) -> str:
    row = SUITES["openllm_v1"][task]
    if scored:
        write(scored, folder / f"{row.split}.parquet")
    if examples:
        write(examples, folder / f"{row.shots_split}.parquet")
    chosen = settings((task,), **changes)
    with pytest.raises(FactoryError) as caught:
        evaluate.run(chosen, {"model": folder / "no model", f"data.{task}": folder}, folder / "out", quiet)
    message = str(caught.value)
    assert str(folder) in message or "shots" in message
    assert "\n" not in message
    return message


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    assert "split 'train'" in broken(tmp_path, "gsm8k", [gsm8k_row(0)], [])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{"question": "?", "answerKey": "A"}]
    assert "missing: choices" in broken(tmp_path, "arc", rows, rows)


def test_too_few_rows_for_the_shots(tmp_path: Path) -> None:
    message = broken(tmp_path, "gsm8k", [gsm8k_row(0)], [gsm8k_row(1)], shots={"gsm8k": 3})
    assert "wants 3 shots, but split 'train' has 1 row." in message


def test_truthfulqa_takes_no_shots(tmp_path: Path) -> None:
    message = broken(tmp_path, "truthfulqa", [truthfulqa_row(0)], [], shots={"truthfulqa": 2})
    assert "takes no shots" in message


def truth(choices: list[Any], labels: list[int]) -> dict[str, Any]:
    return {**truthfulqa_row(0), "mc2_targets": {"choices": choices, "labels": labels}}


@pytest.mark.parametrize(
    ("task", "row", "why"),
    [
        ("winogrande", {**winogrande_row(0), "answer": ""}, "its answer is ''"),
        ("winogrande", {**winogrande_row(0), "answer": "0"}, "its answer is '0'"),
        ("winogrande", {**winogrande_row(0), "answer": "3"}, "its answer is '3'"),
        ("winogrande", {**winogrande_row(0), "sentence": "No blank."}, "the sentence has no blank"),
        ("hellaswag", {**hellaswag_row(0), "label": "-1"}, "its answer is '-1'"),
        ("hellaswag", {**hellaswag_row(0), "label": ""}, "its answer is ''"),
        ("hellaswag", {**hellaswag_row(0), "endings": ["a", None, "b", "c"]}, "its column 'endings' has an "),
        ("arc", {**arc_row(0), "answerKey": "E"}, "its answer is 'E'"),
        ("arc", {**arc_row(0), "question": None}, "its column 'question' is empty"),
        (
            "arc",
            {**arc_row(0), "choices": {"text": ["a", None], "label": ["A", "B"]}},
            "entry that is empty",
        ),
        (
            "arc",
            {**arc_row(0), "choices": {"text": ["a"], "label": ["A", "B"]}},
            "choices are 1,",
        ),
        ("gsm8k", {**gsm8k_row(0), "answer": "It is 4."}, "its answer does not end in"),
        ("mmlu", {**mmlu_row(0, "anatomy"), "choices": ["a", "b"]}, "it has 2 choices, not 4"),
        (
            "mmlu",
            {**mmlu_row(0, "anatomy"), "choices": ["a", "b", "c", None]},
            "'choices' has an entry",
        ),
        ("mmlu", {**mmlu_row(0, "anatomy"), "answer": 4}, "its answer is '4'"),
        ("truthfulqa", truth(["yes", "no"], [0, 1]), "its first choice is not marked as right"),
        ("truthfulqa", truth(["yes", None], [1, 0]), "its column 'mc2_targets' has an entry that is empty"),
        ("truthfulqa", truth(["yes"], [1, 0]), "its choices are 1, its labels 2"),
        ("truthfulqa", truth(["yes", "no"], [1, 7]), "a label is neither 0 nor 1"),
        ("truthfulqa", truth(["yes", ""], [1, 0]), "a choice is empty"),
        ("winogrande", {**winogrande_row(0), "sentence": "It was _"}, "a choice is empty"),
    ],
)
def test_a_row_without_a_usable_answer_is_named(
    tmp_path: Path, task: str, row: dict[str, Any], why: str
) -> None:
    message = broken(tmp_path, task, [FIRST[task], row], [] if task == "truthfulqa" else [FIRST[task]] * 5)
    assert f"row 1 is no row of {task}" in message
    assert why in message


FIRST: dict[str, dict[str, Any]] = {
    "arc": arc_row(0), "gsm8k": gsm8k_row(0), "hellaswag": hellaswag_row(0), "mmlu": mmlu_row(0, "anatomy"),
    "winogrande": winogrande_row(0), "truthfulqa": truthfulqa_row(0),
}  # fmt: skip


@pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason=f"the real rows are not there ({REAL_DATA}; FACTORY_REAL_DATA)"
)
def test_real_rows_are_scored_with_the_leaderboards_shots(tiny_model: Path, tmp_path: Path) -> None:
    suite = SUITES["openllm_v1"]
    folders = {task: REAL_DATA / row.dataset.replace("/", "__") for task, row in suite.items()}
    read = {task: read_rows(suite[task], folders[task], suite[task].shots, None) for task in suite}
    counts = {task: (len(found), sum(len(one.scored) for one in found)) for task, found in read.items()}
    assert counts == {
        "arc": (1, 1172), "hellaswag": (1, 1895), "mmlu": (57, 1140), "truthfulqa": (1, 817),
        "winogrande": (1, 1267), "gsm8k": (1, 1319),
    }  # fmt: skip
    tasks = ("arc", "hellaswag", "truthfulqa", "winogrande")
    chosen = settings(tasks, limit=2, shots={task: suite[task].shots for task in tasks})
    facts = evaluate.run(chosen, inputs(tiny_model, folders), tmp_path, quiet)
    assert {task: score["n"] for task, score in facts["tasks"].items()} == dict.fromkeys(tasks, 2)
