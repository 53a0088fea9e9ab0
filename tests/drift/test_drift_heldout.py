"""Held-out prompts: drawn under a seed, none that training reads, none twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.data.rows import DataSpec
from factory.drift.heldout import Drawn, HeldOut, draw
from factory.errors import FactoryError

SPEC = DataSpec(name="some")


def folder(path: Path, **splits: list[str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for split, questions in splits.items():
        lines = [json.dumps({"instruction": q, "context": "", "response": "yes"}) for q in questions]
        (path / f"{split}.jsonl").write_text("\n".join(lines))
    return path


def drawn(
    path: Path, rows: int, *, seed: int = 0, taken: int | None = None, skip: int | None = None
) -> Drawn:
    """From the split `test`, or, with `skip`, from what training leaves of its own."""
    data = SPEC if skip is not None else SPEC.model_copy(update={"split": "test"})
    asked = HeldOut(
        data=data, skip=skip or 0, seen=SPEC.model_copy(update={"rows": taken}), rows=rows, seed=seed
    )
    return draw(asked, path, path, 5)


def questions(found: Drawn) -> list[str]:
    return [prompt.messages[0]["content"] for prompt in found.prompts]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    train=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    test=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    taken=st.none() | st.integers(1, 25),
    rows=st.integers(2, 12),
    seed=st.integers(0, 3),
)
def test_no_prompt_is_a_training_row_and_none_stands_twice(
    train: list[int], test: list[int], taken: int | None, rows: int, seed: int, tmp_path: Path
) -> None:
    path = folder(tmp_path, train=[f"Q {i} it?" for i in train], test=[f"q  {i} IT" for i in test])
    read = set(train[:taken])
    left = list(dict.fromkeys(i for i in test if i not in read))
    if len(left) < 2:
        with pytest.raises(FactoryError, match="held-out row"):
            drawn(path, rows, taken=taken, seed=seed)
        return
    found = drawn(path, rows, taken=taken, seed=seed)
    got = [int(text.split()[1]) for text in questions(found)]
    assert len(got) == len(set(got)) == min(rows, len(left)) and set(got) <= set(left)
    assert found.overlapping == sum(i in read for i in test)
    assert found.held_out == len(test)
    assert found.repeated == len(test) - found.overlapping - len(left)
    assert [prompt.id for prompt in found.prompts] == list(range(5, 5 + len(got)))
    assert [prompt.row for prompt in found.prompts] == sorted(prompt.row for prompt in found.prompts)


def test_the_seed_decides_which_and_more_rows_hold_the_fewer(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["x"], test=[f"number {i}" for i in range(40)])
    few, same, other, more = (
        set(questions(drawn(path, rows, seed=seed))) for rows, seed in ((5, 1), (5, 1), (5, 2), (9, 1))
    )
    assert few == same != other
    assert few < more


def test_behind_the_rows_that_training_takes(tmp_path: Path) -> None:
    path = folder(tmp_path, train=[f"number {i}" for i in range(10)])
    found = drawn(path, 20, taken=6, skip=6)
    assert questions(found) == [f"number {i}" for i in range(6, 10)]
    assert [prompt.row for prompt in found.prompts] == [6, 7, 8, 9]
    assert (found.held_out, found.overlapping) == (4, 0)


def test_too_few_left_are_refused_with_why(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["a", "b"], test=["A", "b.", "c"])
    with pytest.raises(FactoryError) as caught:
        drawn(path, 2)
    said = "has 1 held-out row for drift: split 'test' has 3 that training does not take, of which 2 ask"
    assert said in str(caught.value)
    assert "Name another split under drift.splits" in str(caught.value)


def test_a_row_that_is_no_chat_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["a"])
    (path / "test.jsonl").write_text(
        "\n".join(json.dumps({"instruction": q, "context": "no turns", "response": "r"}) for q in "bc")
    )
    spec = DataSpec(name="some", prompt="chat")
    asked = HeldOut(data=spec.model_copy(update={"split": "test"}), seen=SPEC, rows=2)
    with pytest.raises(FactoryError, match=r"row 0 \(from 0\) of dataset 'some', split 'test', is no chat"):
        draw(asked, path, path, 0)
