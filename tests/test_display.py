"""Tables on stdout end where their figures end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reported import artifacts, report_on

from factory import display


def test_scores_are_printed_without_trailing_blanks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, _ = report_on(artifacts(tmp_path), tmp_path / "out")
    (tmp_path / "report.json").write_text(json.dumps({**content, "limit": 60}))
    display.score_table(tmp_path / "report.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[0] == "quickstart: blocks 6..8, 0-based, of 12, removed"
    assert lines[1].startswith("Only the first 60 documents")
    assert max(map(len, lines)) <= display.WIDE


def test_a_table_has_no_trailing_blanks_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display.table(["step", "state"], [["a", "done"], ["[b]", "x" * 100]], left=2)
    assert capsys.readouterr().out.splitlines() == ["step  state", "a     done", f"[b]   {'x' * 100}"]
