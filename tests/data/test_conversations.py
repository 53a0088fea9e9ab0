"""Rows of `messages`: the last answer is the response, its question the instruction, the rest context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from written import jsonl, load_rows

from factory import prompts
from factory.data.rows import Columns, DataSpec
from factory.errors import FactoryError

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello you"},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "Well."},
]


def rows(folder: Path, *talks: Any, **spec: Any) -> list[dict[str, str]]:
    jsonl(folder / "data" / "train.jsonl", *({"messages": talk} for talk in talks))
    return load_rows(folder / "data", DataSpec(**{"name": "talk", "prompt": "chat", **spec})).to_list()


@pytest.mark.parametrize("parquet", [False, True])
def test_a_conversation_comes_back_as_it_was(tmp_path: Path, parquet: bool) -> None:
    if parquet:
        from datasets import Dataset

        (tmp_path / "data").mkdir()
        Dataset.from_list([{"messages": TALK}]).to_parquet(tmp_path / "data" / "train.parquet")
        [row] = load_rows(tmp_path / "data", DataSpec(name="talk", prompt="chat")).to_list()
    else:
        [row] = rows(tmp_path, TALK)
    assert (row["instruction"], row["response"]) == ("How are you?", "Well.")
    said = prompts.messages("chat", row["instruction"], row["context"])
    assert [*said, {"role": "assistant", "content": row["response"]}] == TALK


def test_a_single_question_has_no_context(tmp_path: Path) -> None:
    [row] = rows(tmp_path, TALK[-2:])
    assert (row["context"], row["answer"]) == ("", "")


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (TALK[:-1], "row 1 .from 0. does not end with the user and then the assistant"),
        ([], "row 1 .from 0. does not end"),
        ("hello", "no list of {role, content} in row 1"),
        ([{"role": "user"}], "no list of {role, content} in row 1"),
        (None, "no list of {role, content} in row 1"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_row(tmp_path: Path, talk: Any, words: str) -> None:
    with pytest.raises(FactoryError, match=words):
        rows(tmp_path, TALK, talk)


def test_an_empty_answer_is_an_empty_row(tmp_path: Path) -> None:
    empty = [*TALK[:-1], {"role": "assistant", "content": " "}]
    assert len(rows(tmp_path, TALK, empty, skip_empty=True)) == 1
    with pytest.raises(FactoryError, match="no response in row 1"):
        rows(tmp_path, TALK, empty)


def test_named_columns_go_before(tmp_path: Path) -> None:
    row = {"messages": "?", "q": "And?", "r": "Well.", "c": json.dumps(TALK[:3])}
    jsonl(tmp_path / "train.jsonl", row)
    columns = Columns(instruction="q", response="r", context="c")
    [found] = load_rows(tmp_path, DataSpec(name="talk", prompt="chat", columns=columns)).to_list()
    assert (found["instruction"], found["context"]) == ("And?", row["c"])
