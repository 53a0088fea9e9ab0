"""The rows that training takes: the first of every dataset, as many as the recipe or the shares say."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from written import jsonl

from factory.data.rows import Columns, DataSpec
from factory.data.training_rows import TrainingRows
from factory.errors import FactoryError


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Ten rows of `a`, four of `b`; and `c`, regenerated, in two shards."""
    for name, count in {"a": 10, "b": 4}.items():
        rows = ({"instruction": f"{name} {i}", "context": "x", "response": f"{i}"} for i in range(count))
        jsonl(tmp_path / name / "train.jsonl", *rows)
    (tmp_path / "c" / "data").mkdir(parents=True)
    for shard in range(2):
        made = [f"c {3 * shard + i}" for i in range(3)]
        columns = {"instruction": made, "context": [""] * 3, "original": ["o"] * 3, "response": ["r"] * 3}
        pq.write_table(pa.table(columns), tmp_path / "c" / "data" / f"train-{shard:05}.parquet")
    return {f"data.{name}": tmp_path / name for name in "abc"}


def specs(**rows: int | None) -> list[DataSpec]:
    columns = Columns(instruction="instruction", context="context", response="response")
    return [DataSpec(name=name, rows=count, columns=columns) for name, count in rows.items()]


def read(rows: TrainingRows) -> dict[str, list[tuple[str, str, str]]]:
    return {spec.name: list(of) for spec, of in rows}


def test_the_first_rows_of_every_dataset_are_taken_and_counted(inputs: dict[str, Path]) -> None:
    rows = TrainingRows("original", specs(a=3, b=None), inputs, {})
    assert read(rows) == {
        "a": [(f"a {i}", "x", str(i)) for i in range(3)], "b": [(f"b {i}", "x", str(i)) for i in range(4)],
    }  # fmt: skip
    assert rows.taken == {"a": 3, "b": 4}


@pytest.mark.parametrize(("count", "taken"), [(None, 6), (2, 2), (4, 4)])
def test_of_regenerated_rows_the_first_are_the_smaller_set(
    count: int | None, taken: int, inputs: dict[str, Path]
) -> None:
    rows = TrainingRows("self", specs(c=count), inputs, {})
    assert read(rows) == {"c": [(f"c {i}", "", "r") for i in range(taken)]}
    assert rows.taken == {"c": taken}


def test_shares_take_what_the_scarcest_dataset_allows(inputs: dict[str, Path]) -> None:
    rows = TrainingRows("original", specs(a=None, b=None), inputs, {"a": 0.5, "b": 0.5})
    assert {name: len(of) for name, of in read(rows).items()} == rows.taken == {"a": 5, "b": 4}
    rows = TrainingRows("original", specs(a=6, b=None), inputs, {"a": 3.0, "b": 1.0})
    assert len(read(rows)["a"]) == 6 and rows.taken == {"a": 6, "b": 2}


def test_a_share_of_no_row_is_refused(inputs: dict[str, Path]) -> None:
    what = "leave no row of 'b': there are 10 rows of 'a', 4 rows of 'b'"
    with pytest.raises(FactoryError, match=what):
        TrainingRows("original", specs(a=None, b=None), inputs, {"a": 0.99, "b": 0.01})


def test_fewer_regenerated_rows_than_asked_for_are_refused(inputs: dict[str, Path]) -> None:
    with pytest.raises(FactoryError, match="dataset 'c' has only 6 rows"):
        read(TrainingRows("self", specs(c=7), inputs, {}))
