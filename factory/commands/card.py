"""`factory card`: the card of what a run made, as it would be published. Joined in cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import RUNS, AsJson, RunName, RunsDir

commands = typer.Typer()


@commands.command()
def card(
    run: RunName,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A variant, pruned, or a regenerated dataset."),
    ] = None,
    runs_dir: RunsDir = RUNS,
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="Where the base's card names none: apache-2.0, say.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there, its pictures beside.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the card of a variant of a finished run: the best of it, unless one is named."""
    from factory.hub import card_print
    from factory.recipe.licence import asked

    shown = card_print.card(run, runs_dir, name, None if license is None else asked(license))
    if out is not None:
        written = card_print.write(shown, out)
    if as_json:
        files = sorted(shown.card.files)
        place = {} if out is None else {"written": [str(path) for path in written]}
        print(json.dumps({"name": shown.name, "text": shown.card.text, "files": files, **place}))
    elif out is None:
        print(shown.card.text, end="")
    else:
        print("\n".join(map(str, written)))
