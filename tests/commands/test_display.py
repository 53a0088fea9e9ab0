"""What a terminal shows: finished steps as lines, running ones as bars, tables without trailing blanks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from reported import artifacts, report_on
from rich.console import Console
from rich.progress import Progress

from factory.commands import display
from factory.run.events import Event


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
    title = next(i for i, line in enumerate(lines) if line.startswith("Documents won / lost"))
    pruned = content["models"][1]["minus_base"]["scores"]
    expected = [f"{score['won']}/{score['lost']}" for score in pruned.values()]
    line = next(line for line in lines[title:] if line.startswith("pruned"))
    assert line.split() == ["pruned", *expected]
    assert len(lines[title]) > 80 and max(map(len, lines[title:])) <= display.WIDE


def test_a_table_has_no_trailing_blanks_and_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display.table(["step", "state"], [["a", "done"], ["[b]", "x" * 100]], left=2)
    assert capsys.readouterr().out.splitlines() == ["step  state", "a     done", f"[b]   {'x' * 100}"]


def test_finished_and_failed_steps_scroll_up_as_lines_and_leave_no_bar() -> None:
    screen = io.StringIO()
    bars = Progress(console=Console(file=screen, force_terminal=True, width=100), auto_refresh=False)
    live = display.Live("quickstart", bars)
    live(Event("planned", done=1, total=3))
    for step in ("train/a", "train/b"):
        live(Event("started", step))
        live(Event("progress", step, done=3, total=60, unit="steps", note="loss 1.234"))
    assert [task.description.strip() for task in bars.tasks] == ["quickstart", "train/a", "train/b"]
    assert bars.tasks[1].fields["count"] == "3/60 steps"
    live(Event("done", "train/a", seconds=12.3))
    live(Event("failed", "train/b"))
    assert [task.description for task in bars.tasks] == ["quickstart"]
    assert bars.tasks[0].fields["count"] == "2/3 steps"
    assert "train/a: done in 12 s" in screen.getvalue()
    assert "train/b: failed" in screen.getvalue()
