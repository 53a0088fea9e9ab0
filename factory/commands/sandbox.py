"""`factory sandbox`: the commands on the embedded base model. Joined to the others in cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import AsJson

commands = typer.Typer(
    help="The embedded base model that makes everything work offline.", invoke_without_command=True
)


@commands.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@commands.command()
def train(
    out: Annotated[Path, typer.Argument(help="A new folder for the model.")],
    seed: Annotated[int, typer.Option(help="Decides the weights and the order of the texts.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Train for fewer steps, for a quick try.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train the sandbox base model from scratch, the way the packaged one was made."""
    from factory.alone.stage import new_folder
    from factory.commands import display
    from factory.sandbox.train import train as train_base

    with display.task("sandbox train", as_json) as progress, new_folder(out) as beside:
        facts = train_base(beside / "model", seed, steps, progress)
    print(json.dumps({"kind": "result", **facts}) if as_json else f"the model is in {out}")
