"""`factory new` and `factory schema`, where a recipe begins, and what `factory plan` tells of its costs.

Joined to the other commands in cli.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.commands.busy import busy
from factory.commands.options import AsJson
from factory.errors import FactoryError

if TYPE_CHECKING:
    from factory.plan.plan import Plan

commands = typer.Typer()


@commands.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The recipe's name, which its runs have too.")],
    base: Annotated[
        str,
        typer.Option(metavar="MODEL", help="What is to be made smaller: a Hub id, a folder, sandbox/base."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The file to write; by default NAME.yaml, here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a recipe to begin with, its keys explained. No file is ever overwritten."""
    from factory.recipe import new as new_recipe

    written = new_recipe.write(name, base, out or Path(f"{name}.yaml"))
    if as_json:
        print(
            json.dumps({"recipe": str(written.recipe), "schema": str(written.schema), "notes": written.notes})
        )
        return
    for note in written.notes:
        print(f"note: {note}")
    print(f"wrote {written.recipe}")
    print(
        f"next: factory validate {written.recipe}; factory plan {written.recipe}; factory run "
        f"{written.recipe} --miniature"
    )


@commands.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors that complete and check YAML."""
    from factory.recipe.schema import text

    print(text(), end="")


def costs_of(plan: Plan, missing: Sequence[str]) -> dict[str, Any]:
    """For JSON: `costs` of the steps that are not made, or `no_costs` and why."""
    from factory.plan.costs import estimate, table
    from factory.plan.downloads import downloads

    try:
        found = estimate(plan)
    except FactoryError as error:
        return {"no_costs": error.what}
    return {"costs": table.facts(found, missing, downloads(plan.steps))}


def print_costs(plan: Plan, missing: Sequence[str]) -> None:
    """What the steps that are not made take, and on which GPU."""
    from factory.commands import display
    from factory.plan.costs import estimate, table
    from factory.plan.downloads import downloads

    fetched = downloads(plan.steps)
    if not missing:
        return
    try:
        with busy("estimating what the steps take"):
            found = estimate(plan)
    except FactoryError as error:
        print(f"\nno estimate: {error.what}\n{table.download_line(fetched)}")
        return
    print("\nWhat is not made yet takes about")
    headings = ["stage", "steps", "FLOPs", "GPU memory", "disk"]
    display.table(headings, table.stage_rows(found, missing), left=1)
    print()
    display.table(["GPU", "memory", "hours", "dollars", "fits"], table.gpu_rows(found, missing), left=1)
    print(table.download_line(fetched))
    print("assumed:", *(f"- {said}" for said in table.assumptions(found)), sep="\n")
