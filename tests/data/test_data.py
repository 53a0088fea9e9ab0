"""Dataset folders as stages see them: layouts, columns, rows; and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import ROWS, jsonl, load_rows, load_texts

from factory.data import first_rows as data_checks
from factory.data.files import Wanted, select
from factory.data.rows import Columns, DataSpec
from factory.errors import FactoryError

PLAIN = DataSpec(name="set")
ALPACA = {"instruction": "Add.", "input": "1, 2", "output": "3", "text": "Below is ..."}
DOLLY = {"instruction": "Who?", "context": "Ann did.", "response": "Ann.", "category": "closed_qa"}
GSM8K = {"question": "1+1?", "answer": "It is 2.\n#### 2"}
OPENMATH = {"problem": "1+1?", "generated_solution": "2.", "expected_answer": "2", "problem_source": "x"}
NUMINA = {"source": "x", "problem": "1+1?", "solution": "2.", "answer": 2}


def parquet(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ALPACA, ("Add.", "1, 2", "3", "")),
        (DOLLY, ("Who?", "Ann did.", "Ann.", "")),
        (GSM8K, ("1+1?", "", "It is 2.\n#### 2", "")),
        (OPENMATH, ("1+1?", "", "2.", "2")),
        (NUMINA, ("1+1?", "", "2.", "2")),
        ({"prompt": "a", "completion": "b"}, ("a", "", "b", "")),
    ],
)
def test_the_usual_columns_are_known(row: dict[str, Any], expected: tuple[str, ...], tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", row)
    rows = load_rows(tmp_path, PLAIN)
    assert rows.column_names == ["instruction", "context", "response", "answer"]
    assert tuple(rows[0].values()) == expected


def test_columns_may_be_named(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"ask": "a", "say": "b", "num": 3})
    columns = Columns(instruction="ask", response="say", answer="num")
    assert load_rows(tmp_path, DataSpec(name="set", columns=columns))[0] == {
        "instruction": "a", "context": "", "response": "b", "answer": "3",
    }  # fmt: skip


def test_one_named_column_leaves_the_others_as_usual(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {**ALPACA, "better": "three"})
    rows = load_rows(tmp_path, DataSpec(name="set", columns=Columns(response="better")))
    assert (rows[0]["context"], rows[0]["response"]) == ("1, 2", "three")


LAYOUTS = {
    "split": ("train.parquet", None),
    "data": ("data/train-00000-of-00001.parquet", None),
    "config and split": ("main/train.parquet", "main"),
    "the only config": ("main/train-00000-of-00002.parquet", None),
    "folder of a split": ("train/0000.parquet", None),
    "no split in the name": ("rows.parquet", None),
    "default config": ("train.parquet", "default"),
    "split in the middle": ("my_train_rows.parquet", None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_usual_layouts_are_known(layout: str, tmp_path: Path) -> None:
    file, config = LAYOUTS[layout]
    parquet(tmp_path / file, *ROWS)
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert load_rows(tmp_path, DataSpec(name="set", config=config)).num_rows == len(ROWS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_are_those_of_datasets(layout: str, tmp_path: Path) -> None:
    """The library reads the same rows, so a set that works here works there."""
    from datasets import load_dataset

    file, config = LAYOUTS[layout]
    parquet(tmp_path / file, *ROWS)
    folder = tmp_path / config if config == "main" else tmp_path
    theirs = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    ours = load_rows(tmp_path, DataSpec(name="set", config=config))
    assert ours["response"] == theirs["response"]


README = """\
---
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: "parts/a-*.parquet"
  - split: test
    path: ["parts/t.parquet"]
- config_name: other
  data_files: "parts/b.parquet"
---
# A card
"""


def test_the_configs_of_a_readme_are_followed(tmp_path: Path) -> None:
    for name, count in {"a-0": 1, "a-1": 2, "b": 3, "t": 4}.items():
        parquet(tmp_path / "parts" / f"{name}.parquet", *ROWS[:count])
    (tmp_path / "README.md").write_text(README)
    counts = {
        (config, split): load_rows(tmp_path, DataSpec(name="s", config=config, split=split)).num_rows
        for config, split in ((None, "train"), ("main", "test"), ("other", "train"))
    }
    assert counts == {(None, "train"): 3, ("main", "test"): 4, ("other", "train"): 3}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "jsonl.gz"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    rows = [{**row, "response": f'{row["response"]}, "ä"\nend'} for row in ROWS]
    path = tmp_path / f"train.{kind}"
    if kind == "parquet":
        parquet(path, *rows)
    elif kind == "jsonl":
        jsonl(path, *rows)
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == "csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert load_rows(tmp_path, PLAIN)["response"] == [row["response"] for row in rows]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4), rows=st.none() | st.integers(1, 20))
def test_rows_are_the_first_in_file_order(
    sizes: list[int], rows: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, written = tmp_path_factory.mktemp("shards"), []
    for shard, size in enumerate(sizes):
        part = [{"instruction": f"{shard}.{i}", "response": "r"} for i in range(size)]
        table = pa.Table.from_pylist(
            part, pa.schema([("instruction", pa.string()), ("response", pa.string())])
        )
        pq.write_table(table, folder / f"train-{shard:05}-of-{len(sizes):05}.parquet")
        written += [row["instruction"] for row in part]
    if not written:
        return
    if rows is not None and rows > len(written):
        assert f"has only {len(written)} row" in refusal(folder, rows=rows)
    else:
        assert load_rows(folder, DataSpec(name="set", rows=rows))["instruction"] == written[:rows]


def refusal(folder: Path, **spec: Any) -> str:
    with pytest.raises(FactoryError) as caught:
        load_rows(folder, DataSpec(**{"name": "set", **spec}))
    return str(caught.value)


def test_more_rows_than_there_are_is_refused_with_their_number(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *ROWS, {**ROWS[0], "response": ""})
    assert refusal(tmp_path, rows=6, skip_empty=True).endswith(
        "has only 5 rows that are not empty. Say rows: 5, or leave rows out."
    )


@pytest.mark.parametrize("rows", [3, 4])
def test_rows_behind_those_that_are_looked_at_are_counted(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_checks, "CHECKED_ROWS", 1)
    parquet(tmp_path / "train.parquet", *ROWS[:3])
    spec = DataSpec(name="set", rows=rows)
    if rows > 3:
        with pytest.raises(FactoryError, match="has only 3 rows"):
            data_checks.check_rows(tmp_path, spec, "here")
    else:
        data_checks.check_rows(tmp_path, spec, "here")


@pytest.mark.parametrize(
    ("check", "answers"), [("contains", True), ("final_number", False), ("exact", True), ("none", True)]
)
def test_a_check_needs_an_answer_in_some_row(check: str, answers: bool, tmp_path: Path) -> None:
    plain = {"instruction": "who", "response": "Ann"}
    jsonl(tmp_path / "train.jsonl", {**plain, "answer": ""}, {**plain, "answer": "Ann"})
    spec = DataSpec(name="set", check=check)
    if answers:
        data_checks.check_rows(tmp_path, spec, "here")
    else:
        with pytest.raises(FactoryError, match=f"check '{check}' finds no answer in dataset 'set'"):
            data_checks.check_rows(tmp_path, spec, "here")


@pytest.mark.parametrize("response", [None, "", "  \n"])
def test_a_row_without_a_response_is_refused(response: str | None, tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *ROWS[:3], {**ROWS[3], "response": response})
    assert "has no response in row 3 (from 0, column 'response')" in refusal(tmp_path)


def test_a_row_that_lacks_the_column_is_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS[0], {"instruction": "x"})
    assert "has no response in row 1" in refusal(tmp_path)


def test_a_bad_row_behind_the_rows_asked_for_does_no_harm(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *ROWS[:3], {**ROWS[3], "response": ""})
    assert load_rows(tmp_path, DataSpec(name="set", rows=3)).num_rows == 3


def test_rows_without_a_response_may_be_left_out(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS[0], {**ROWS[1], "response": ""}, *ROWS[2:])
    rows = load_rows(tmp_path, DataSpec(name="set", rows=2, skip_empty=True))
    assert rows["instruction"][:] == ["say 0", "say 2"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "json"])
def test_an_empty_dataset_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"train.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"instruction": pa.array([], pa.string()), "response": []}), path)
    else:
        path.write_text({"jsonl": "", "csv": "instruction,response\n", "json": "[]"}[kind])
    assert "has no rows in split 'train'" in refusal(tmp_path)


def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    jsonl(tmp_path / "main" / "train.jsonl", *ROWS)
    jsonl(tmp_path / "extra" / "train.jsonl", *ROWS)
    assert "has 2 configs. Add `config:`, one of extra, main" in refusal(tmp_path)
    assert "no config 'mian'. Write 'main'" in refusal(tmp_path, config="mian")
    assert "no split 'trian'. Write 'train'" in refusal(tmp_path, config="main", split="trian")
    named = Columns(response="respnse")
    assert "no column 'respnse'" in refusal(tmp_path, config="main", columns=named)
    assert "Write 'response'" in refusal(tmp_path, config="main", columns=named)
    (tmp_path / "void").mkdir()
    assert "holds no data files" in refusal(tmp_path / "void")


def test_unusual_columns_are_asked_for(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"hello": "a", "world": "b"})
    message = refusal(tmp_path)
    assert "cannot tell which columns" in message and "hello, world" in message


def test_instruction_and_response_are_two_columns(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *ROWS)
    message = refusal(tmp_path, columns=Columns(instruction="response"))
    assert "column 'response' is named for instruction and response" in message


def test_a_column_that_is_not_text_is_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"question": "1+1?", "answer": 2})
    assert "column 'answer' holds int in row 0 (from 0), not text" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "train.jsonl",
            b'{"instruction": "a", "response": "b"}\n{oops\n',
            "train.jsonl:2: the line is not JSON",
        ),
        (
            "train.jsonl",
            b'{"instruction": "a", "response": "b"}\n[1]\n',
            "train.jsonl:2: a row is not an object",
        ),
        ("train.json", b"[1, ", "train.json: broken JSON"),
        ("train.parquet", b"version https://git-lfs", "train.parquet: not a readable parquet file"),
        ("train.jsonl", b'{"instruction": "\xff"}\n', "train.jsonl: not UTF-8"),
        ("train.jsonl.gz", b"not gzip", "train.jsonl.gz: cannot be read"),
    ],
)
def test_a_broken_file_is_told(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path)


def test_texts_come_from_the_text_column_without_blank_ones(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"text": "a"}, {"text": " "}, {"text": "b"}, {"text": "c"})
    assert load_texts(tmp_path, DataSpec(name="set", rows=2)) == ["a", "b"]


def test_texts_of_rows_are_their_parts_joined(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", DOLLY, GSM8K | {"instruction": "i", "response": "r"})
    assert load_texts(tmp_path, PLAIN) == ["Who?\nAnn did.\nAnn.", "i\nr"]


def test_fewer_texts_than_asked_for_are_refused_before_a_run_only(tmp_path: Path) -> None:
    jsonl(tmp_path / "text" / "train.jsonl", {"text": "a"}, {"text": " "})
    jsonl(tmp_path / "rows" / "train.jsonl", DOLLY)
    for folder in (tmp_path / "text", tmp_path / "rows"):
        spec = DataSpec(name="calibration", rows=2)
        assert len(load_texts(folder, spec)) == 1
        with pytest.raises(FactoryError, match=r"here: dataset 'calibration' has only 1 row\. Say rows: 1"):
            data_checks.check_texts(folder, spec, "here")
        data_checks.check_texts(folder, spec.model_copy(update={"rows": 1}), "here")


def test_another_column_of_text_may_be_named(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", {"text": "a", "body": "b"})
    assert load_texts(tmp_path, DataSpec(name="set", columns=Columns(text="body"))) == ["b"]


def test_subjects_are_the_configs_that_have_the_scored_split() -> None:
    names = [
        "algebra/dev.parquet",
        "algebra/test.parquet",
        "all/test.parquet",
        "auxiliary_train/train.parquet",
    ]
    wanted = Wanted(None, ("test", "dev"), every_config=True, without=("all",))
    assert list(select(names, None, wanted, "here")) == ["algebra"]


@pytest.mark.parametrize("prompt", ["math", "instruct"])
def test_only_known_prompts_make_a_spec(prompt: str) -> None:
    assert DataSpec(name="set", prompt=prompt).prompt == prompt
    with pytest.raises(ValueError, match="no prompt"):
        DataSpec(name="set", prompt=prompt + "x")
