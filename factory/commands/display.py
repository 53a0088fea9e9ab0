"""What a person sees while a run works, and the table at its end. Between cli.py and run/run.py's events.

On a terminal a live display: the run as a whole, then a line for every running step with what it does,
counts and time left. Elsewhere one plain line a finished step. With --json one object a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from factory.run.events import Event, Events
from factory.stages import Progress
from factory.sweep_table import render as render_sweep
from factory.table import render, won_lost, won_lost_title
from factory.wording import duration

WIDE = 120  # columns assumed where no terminal tells its width


@contextmanager
def display(name: str, as_json: bool) -> Iterator[Events]:
    """The display that fits where output goes: progress on stderr, JSON events on stdout."""
    if as_json:
        yield JsonLines(sys.stdout)
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield Live(name, bars)
    else:
        yield Plain(sys.stderr)


@contextmanager
def task(name: str, as_json: bool) -> Iterator[Progress]:
    """A display for a single long task outside a run; yields the progress function to call."""
    began = time.monotonic()
    with display(name, as_json) as events:
        events(Event("planned", total=1))
        events(Event("started", name))
        yield lambda done, total, unit, note="": events(Event("progress", name, done, total, unit, note))
        events(Event("done", name, seconds=time.monotonic() - began))


class JsonLines:
    """Every event as one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write one event."""
        print(json.dumps(asdict(event)), file=self._stream, flush=True)


class Plain:
    """One line for a step that finished, waits or failed; silent in between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._done = self._total = 0

    def __call__(self, event: Event) -> None:
        """Write an event if it is worth a line."""
        if event.kind == "planned":
            self._done, self._total = event.done, event.total
        self._done += event.kind == "done"
        if (line := summary(event)) is not None:
            print(f"[{self._done}/{self._total}] {line}", file=self._stream, flush=True)


class Live:
    """A bar for the run and one for each running step; finished steps scroll up as plain lines."""

    def __init__(self, name: str, bars: Bars) -> None:
        self._bars = bars
        self._whole = self._add(name)
        self._steps: dict[str, TaskID] = {}
        self._counted: dict[str, tuple[int, str]] = {}

    def __call__(self, event: Event) -> None:
        """Bring the bars up to date."""
        if event.kind == "planned":
            self._bars.update(self._whole, completed=event.done, total=event.total)
        elif event.kind in ("started", "waiting", "progress"):
            self._show(event)
        elif event.kind in ("done", "failed"):
            if event.step in self._steps:
                self._bars.remove_task(self._steps.pop(event.step))
            self._bars.advance(self._whole, event.kind == "done")
        if event.kind != "waiting" and (line := summary(event)) is not None:
            self._bars.console.print(Text(line, style="red" if event.kind == "failed" else ""))
        whole = self._bars.tasks[0]
        self._bars.update(self._whole, count=f"{whole.completed:.0f}/{whole.total or 0:.0f} steps")

    def _add(self, label: str) -> TaskID:
        return self._bars.add_task(label, total=None, count="", note="", began=time.monotonic())

    def _show(self, event: Event) -> None:
        if event.step not in self._steps:
            self._steps[event.step] = self._add("  " + event.step)
        row = self._steps[event.step]
        if event.kind != "progress":
            self._bars.update(row, note=event.note or "starting")
            return
        if self._counted.get(event.step) != (event.total, event.unit):  # a new phase: its speed is another
            self._counted[event.step] = (event.total, event.unit)
            self._bars.reset(row, total=event.total)
        count = f"{event.done:,}/{event.total:,} {event.unit}"
        self._bars.update(row, completed=event.done, count=count, note=event.note)


def summary(event: Event) -> str | None:
    """The one line worth keeping of an event, if there is one."""
    if event.kind == "done":
        return f"{event.step}: {event.note or f'done in {duration(event.seconds)}'}"
    if event.kind == "waiting":
        return f"{event.step}: waiting, {event.note}"
    if event.kind == "failed":
        return f"{event.step}: failed"
    return None


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table on stdout; the first `left` columns are text, the others figures.

    A last column of text folds where the screen is too narrow.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        last = i == len(columns) - 1 and i < left  # words that may go on in the next line; figures may not
        grid.add_column(column, justify="left" if i < left else "right", no_wrap=not last)
    for row in rows:
        grid.add_row(*map(Text, row))
    _print(grid)


def score_table(report: Path, width: int | None = None) -> None:
    """Print the scores of a run's or a sweep's report.json, in percent; of a run also won and lost.

    Args:
        report: the file.
        width: columns; by default the terminal's.
    """
    content, width = json.loads(report.read_text(encoding="utf-8")), width or _console().width
    if "points" in content:
        _print(render_sweep(content, width))
        return
    _print(render(content, width))
    if all("won" in model.get("minus_base", {}).get("average", {}) for model in content["models"]):
        # Reports of earlier versions do not tell. A title of the table's own would fold to its width.
        print(f"\n{won_lost_title(content, width)}")
        _print(won_lost(content, width))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def _print(grid: Table) -> None:
    """Print a table on stdout without the blanks that rich fills its lines up with."""
    console = _console()
    for line in console.render_lines(grid, pad=False):
        text = Text.assemble(*((part.text, part.style or "") for part in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


class _Time(ProgressColumn):
    """Time since the row appeared, and an estimate of what its present phase still needs."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Such as `41 s, 12 s left`."""
        taken = duration(time.monotonic() - task.fields["began"])
        left = task.time_remaining if task.id else None  # steps differ too much to tell for the whole run
        return Text(taken if left is None else f"{taken}, {duration(left)} left", style="cyan")


def _bars() -> Bars:
    return Bars(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", markup=False),
        _Time(),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=True,
    )
