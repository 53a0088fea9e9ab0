"""Samples are kept as they come: what was written whole is there after any death, and nothing else."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from factory.tasks.samples import Journal, Sample, prompt_hash, read_parquet, sign, write_parquet

FIRST = Sample(0, 1.0, "arc", 'a\u2028b\n"', "gold", True, (-0.1, -1e-300, -123.456789012345), None, "ab", 0)
SAMPLES = [
    FIRST,
    Sample(7, 0.25, "arc", "", "x", None, None, "text\r\nof two lines\x00", "cd", 12),
    replace(FIRST, index=3, group="anatomy"),
]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "samples" / "arc.jsonl")
    journal.write(SAMPLES[:1])
    journal.write(SAMPLES[1:])
    assert Journal(journal.path).read() == SAMPLES
    write_parquet(SAMPLES, tmp_path / "samples" / "arc.parquet")
    assert read_parquet(tmp_path / "samples" / "arc.parquet") == SAMPLES
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["arc.jsonl", "arc.parquet"]


@given(st.data())
def test_a_death_while_writing_loses_the_torn_line_alone(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "arc.jsonl")
        journal.write(SAMPLES)
        journal.close()
        content = journal.path.read_bytes()
        kept = data.draw(st.integers(0, len(content)))
        journal.path.write_bytes(content[:kept])
        whole = content[:kept].count(b"\n")
        after = Journal(journal.path)
        assert after.read() == SAMPLES[:whole]
        after.write(SAMPLES[whole:])  # behind the last whole line, not behind the torn one
        assert Journal(journal.path).read() == SAMPLES


def test_zeros_after_a_power_cut_end_what_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "arc.jsonl")
    journal.write(SAMPLES)
    journal.close()
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + b"\0" * (len(lines[1]) - 1) + b"\n" + lines[2])
    assert Journal(journal.path).read() == SAMPLES[:1]


def test_a_line_of_another_version_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps({"index": 0, "score": 1.0, "logprobs": None}) + "\n")
    assert Journal(path).read() == []


def test_a_document_counts_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "arc.jsonl")
    journal.write([FIRST, replace(FIRST, score=0.0)])
    assert [sample.score for sample in Journal(journal.path).read()] == [0.0]


def test_the_hash_tells_prompts_apart() -> None:
    hashes = {prompt_hash(contexts) for contexts in (["a"], ["a", ""], ["", "a"], ["b"], ["a", "b"], ["ab"])}
    assert len(hashes) == 6


def test_a_file_is_signed_once_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "arc.parquet"
    write_parquet(SAMPLES, path, {"factory.task": '"arc"'})
    sign(path, "0123abc")
    signed = path.read_bytes()
    told = pq.read_schema(path).metadata
    assert (told[b"factory.key"], told[b"factory.task"]) == (b'"0123abc"', b'"arc"')
    assert read_parquet(path) == SAMPLES
    sign(path, "0123abc")
    assert path.read_bytes() == signed
    sign(path, "fffffff")
    assert pq.read_schema(path).metadata[b"factory.key"] == b'"fffffff"'
