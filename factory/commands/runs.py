"""`factory status` and `factory show`: how far runs are, and what came of them. Joined in cli.py."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from factory.commands.options import RUNS, AsJson, RunName, RunsDir
from factory.commands.publish import line_of
from factory.errors import FactoryError

commands = typer.Typer()


@commands.command()
def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="As for show; without it, all runs.")
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show how far the runs are, or every step of one."""
    from factory.commands import display
    from factory.run.folder import find_runs, open_run

    if run is not None:
        _, opened, store = open_run(run, runs_dir)
        steps = [(s.name, store.state(s.stage, s.key), s.seconds) for s in opened.steps]
        if as_json:
            told = [{"name": name, "state": state, "seconds": took} for name, state, took in steps]
            print(json.dumps({"name": opened.name, "steps": told}))
            return
        rows = [[name, state, "" if took is None else display.duration(took)] for name, state, took in steps]
        display.table(["step", "state", "time"], rows, left=2)
        return
    runs: list[dict[str, Any]] = []
    for folder in find_runs(runs_dir):
        try:
            page, store = folder.read(), folder.store
        except FactoryError as error:  # the others can still be listed
            print(f"warning: {error}", file=sys.stderr)
            continue
        if page is not None:
            done = sum(store.has(step.stage, step.key) for step in page.steps)
            line = {"name": page.name, "done": done, "steps": len(page.steps)}
            runs.append({**line, "started": page.started, "finished": page.finished})
    if as_json:
        print(json.dumps({"runs": runs}))
    elif not runs:
        print(f"no runs in {runs_dir}")
    else:
        rows = [["" if value is None else str(value) for value in line.values()] for line in runs]
        display.table(list(runs[0]), rows)


@commands.command()
def show(run: RunName, runs_dir: RunsDir = RUNS, as_json: AsJson = False) -> None:
    """Print the scores of a finished run and where its pictures are.

    A sweep's points are runs too: SWEEP/drop=2.
    """
    from factory.commands import display
    from factory.hub.ledger import published
    from factory.run.folder import open_run

    folder = open_run(run, runs_dir)[0].path
    report = folder / "report.json"
    if not report.is_file():
        raise FactoryError(
            f'the run "{run}" has no report yet', where=str(folder), mend="Run its recipe to the end"
        )
    if as_json:
        print(report.read_text().strip())
        return
    display.score_table(report)
    for path in (folder / "report.md", *sorted(folder.glob("*.png"))):
        if path.is_file():
            print(path)
    for record in published(folder):
        print(f"published: {line_of(record)}")
