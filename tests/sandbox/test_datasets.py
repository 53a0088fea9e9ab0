"""The sandbox's datasets: the shapes of the real ones, right answers, and no scored row in training."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory import sandbox
from factory.data import checks
from factory.sandbox import corpus, dialogues, skills

COLUMNS = {
    "science": {"id", "question", "choices", "answerKey"},
    "endings": {
        "ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "source_id", "split",
        "split_type", "label",
    },
    "subjects": {"question", "subject", "choices", "answer"},
    "myths": {"question", "mc1_targets", "mc2_targets"},
    "blanks": {"sentence", "option1", "option2", "answer"},
    "arithmetic": {"question", "answer"},
}  # fmt: skip
SCORED = {
    "science": "default/test", "endings": "default/validation", "subjects": "*/test",
    "myths": "multiple_choice/validation", "blanks": "default/validation", "arithmetic": "main/test",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sandbox")
    for name in sandbox.DATASETS:
        sandbox.write_dataset(name, root / name)
    return root


def rows(folder: Path, name: str, pattern: str) -> list[dict]:
    paths = sorted((folder / name).glob(f"{pattern}.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_benchmark_set_has_the_columns_of_the_real_one(folder: Path, name: str) -> None:
    assert set(rows(folder, name, SCORED[name])[0]) == COLUMNS[name]


@pytest.mark.parametrize("name", SCORED)
def test_every_task_has_at_least_two_hundred_scored_rows(folder: Path, name: str) -> None:
    assert len(rows(folder, name, SCORED[name])) >= 200


def test_a_dataset_is_the_same_each_time_it_is_written(folder: Path, tmp_path: Path) -> None:
    sandbox.write_dataset("instruct", tmp_path)
    for path in sorted(tmp_path.rglob("*.*")):
        assert path.read_bytes() == (folder / "instruct" / path.relative_to(tmp_path)).read_bytes()


def scored_texts(folder: Path) -> list[str]:
    """What must not be seen before it is scored: questions, openings with both names, first steps."""
    found = [
        row["question"] for name in ("science", "subjects", "myths", "arithmetic")
        for row in rows(folder, name, SCORED[name])
    ]  # fmt: skip
    found += [
        row["sentence"].partition(" because")[0] + " because"
        for row in rows(folder, "blanks", SCORED["blanks"])
    ]
    found += [
        f"{row['activity_label']}: {row['ctx_a']}" for row in rows(folder, "endings", SCORED["endings"])
    ]
    return found


def test_no_scored_row_occurs_in_anything_a_model_is_trained_on(folder: Path) -> None:
    training = [
        f"{row['instruction']} {row['context']} {row['response']}"
        for name in ("math", "instruct") for row in rows(folder, name, "*/train")
    ]  # fmt: skip
    training += [row["text"] for row in rows(folder, "corpus", "*/train")]
    stream = corpus.stream(random.Random("corpus|0"))  # what the packaged base was trained on begins so
    training += [corpus.text(next(stream)[1]) for _ in range(20_000)]
    seen = "\n".join(training)
    assert [text for text in scored_texts(folder) if text in seen] == []


def test_training_and_test_rows_of_the_training_sets_never_overlap(folder: Path) -> None:
    for name in ("math", "instruct"):
        kept = {row["instruction"] for row in rows(folder, name, "*/test")}
        assert not kept & {row["instruction"] for row in rows(folder, name, "*/train")}


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9), scored=st.booleans())
def test_both_styles_carry_the_answer_and_are_never_the_same(seed: int, scored: bool) -> None:
    for maker, check in (
        (dialogues.math, "final_number"),
        (dialogues.instruct, "contains"),
    ):
        made = maker(random.Random(seed), scored=scored)
        assert made.own != made.human
        for text in (made.own, made.human):
            if check == "final_number":
                assert text.endswith(f"#### {made.answer}")
            else:
                assert checks.CHECKS["contains"]({"answer": made.answer}, text) == checks.OK


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_a_human_solution_never_holds_a_stop_sequence_of_the_benchmark(seed: int) -> None:
    assert ":" not in dialogues.math(random.Random(seed)).human


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_each_arithmetic_step_is_right(seed: int) -> None:
    answer = skills.arithmetic_row(random.Random(seed), scored=True)["answer"]
    for step in answer.split(". ")[:-1]:
        left, right = step.split(" = ")
        assert eval(left) == int(right) and 0 < int(right) < 100
