"""`factory compare` and `factory leaderboard`. Joined in cli.py, as thin: compare.py and hub/ do the work."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from factory.commands.options import RUNS, AsJson, RunsDir
from factory.run.ending import orderly

if TYPE_CHECKING:
    from factory.compare import Comparison, Line

commands = typer.Typer()
board = typer.Typer(help="Models side by side: a dataset and a page.", no_args_is_help=False)

Compared = "RUN/variant, a published id, or a folder of `factory evaluate --out` or `factory pull`."


@board.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@commands.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=Compared)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other, named likewise.")],
    runs_dir: RunsDir = RUNS,
    as_json: AsJson = False,
) -> None:
    """Say where two models differ beyond chance, and which documents one won and lost to the other.

    RUN/base and RUN/pruned are models too; so is ID/base of a published one. A base is told by its own
    name, as on the leaderboard, and found by it.
    """
    from factory.compare import compare as take
    from factory.hub.compared import side

    found = take(side(a, runs_dir), side(b, runs_dir))
    if as_json:
        print(json.dumps({"kind": "result", **found.facts()}, allow_nan=False))
        return
    _print(found)


def _print(found: Comparison) -> None:
    from factory.commands import display
    from factory.wording import counted

    def row(name: str, line: Line) -> list[str]:
        between = f"{_signed(line.difference.value)} [{_signed(line.difference.low)}, "
        between += f"{_signed(line.difference.high)}]"
        said = ("A is better" if line.difference.low > 0 else "B is better") if line.beyond_chance else "-"
        figures = [f"{100 * line.a:.1f}", f"{100 * line.b:.1f}", between]
        counts = [str(line.counts.won), str(line.counts.lost)]
        return [name, *figures, *counts, f"{line.difference.n:,}", said]

    print(f"A: {found.names[0]}\nB: {found.names[1]}\n")
    rows = [row(task, line) for task, line in found.tasks.items()]
    heads = ["task", "A", "B", "A - B", "won", "lost", "of", "beyond chance"]
    display.table(heads, [*rows, row("average", found.average)])
    n, apart = len(found.tasks), [t for t, line in found.tasks.items() if line.beyond_chance]
    which = f": {', '.join(apart)}" if apart else ""
    print(f"{len(apart)} of {counted(n, 'task')} differ beyond chance{which}.")
    said = (
        f"Percent, suite {found.suite}; in brackets 95 % intervals of the paired bootstrap over documents. "
        "Won: right where B is wrong."
    )
    print("\n".join(textwrap.wrap(said, 80)))
    for task, why in found.left_out.items():
        print(f"not compared: {task}: {why}")
    for note in found.notes:
        print("\n".join(textwrap.wrap(f"{note}.", 80)))


def _signed(value: float) -> str:
    return f"{100 * value:+z.1f}"  # z: no minus before what rounds to zero


@board.command()
def build(
    sources: Annotated[
        list[str],
        typer.Option(
            "--from", metavar="DIR|ORG", help="Runs, pulled models, or a user or organisation. Repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make, or to make anew.")],
    as_json: AsJson = False,
) -> None:
    """Collect models' records into a dataset and a page: DIR/dataset and DIR/page/index.html."""
    from factory.hub import leaderboard
    from factory.hub.session import Patience
    from factory.wording import counted

    def told(where: str, why: str) -> None:
        print(f"warning: {where}: {why}", file=sys.stderr)

    with orderly():
        built = leaderboard.build(sources, out, Patience(tries=3), told)
    page = out / "page" / "index.html"
    if as_json:
        skipped = [{"where": where, "why": why} for where, why in built.skipped]
        counts = {"models": built.models, "apart": built.apart, "doubles": built.doubles}
        of = {"skipped": skipped, "lacking": [where for where, _ in built.lacking]}
        print(json.dumps({"kind": "result", "out": str(out), "page": str(page), **counts, **of}))
        return
    more = [f"{built.apart} shown apart"] * bool(built.apart)
    more += [f"{built.doubles} met more than once"] * bool(built.doubles)
    more += [f"{len(built.skipped)} left out"] * bool(built.skipped)
    print(f"{counted(built.models, 'model')}{': ' if more else ''}{', '.join(more)}")
    print(f"{page}\n{out / 'dataset'}")


@board.command()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `factory leaderboard build` made.")],
    namespace: Annotated[str, typer.Option(metavar="NAME", help="A user or an organisation of the Hub.")],
    name: Annotated[str, typer.Option(help="Of the dataset and of the Space.")] = "leaderboard",
    only: Annotated[
        Literal["dataset", "space"] | None, typer.Option(help="One of the two; without it both.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="What is new stays private.")] = False,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="By a workflow's identity (OIDC), HF_TOKEN where that fails.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a leaderboard: its dataset, and its page as a static Space, each in one commit.

    Again: nothing, or one commit with what changed.
    """
    from dataclasses import asdict

    from factory.commands.publish import quiet, tell
    from factory.hub.board_publish import publish as send
    from factory.hub.session import Patience

    quiet(as_json)
    with orderly():
        sent = send(
            folder,
            namespace,
            name,
            Patience(),
            only=only,
            private=private,
            trusted=trusted,
            told=lambda repo, step: tell(repo, step, as_json),
        )
    if as_json:
        print(json.dumps({"kind": "result", "published": [asdict(one) for one in sent]}))
        return
    for one in sent:
        seen = "" if one.public else ", private"
        changed = "" if one.changed else "; nothing had changed"
        print(f"{one.url}: commit {one.commit[:12]}{seen}{changed}")
