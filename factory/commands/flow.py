"""`factory changed` and `factory parts`: what workflows ask before they start jobs. Joined in cli.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.commands.options import AsJson, Overrides, RecipeFile, Within

commands = typer.Typer()

Outputs = Annotated[
    bool, typer.Option("--outputs", help="Print lines of name=value, as $GITHUB_OUTPUT takes them.")
]


@commands.command()
def changed(
    since: Annotated[str, typer.Option(metavar="COMMIT", help="What the newest commit is compared with.")],
    outputs: Outputs = False,
    as_json: AsJson = False,
) -> None:
    """Tell which recipes changed in this repository."""
    from factory.recipe.changed import changed_recipes

    found = changed_recipes(since, Path())
    _print({"recipes": found}, found, outputs, as_json)


@commands.command()
def parts(
    recipe: RecipeFile,
    overrides: Overrides = None,
    within: Within = None,
    outputs: Outputs = False,
    as_json: AsJson = False,
) -> None:
    """Tell the parts in which several machines can make a recipe: see `factory run --part`."""
    from factory.commands import display
    from factory.hashing import postponed
    from factory.plan.sweep import plan_file
    from factory.recipe.confined import confine
    from factory.run.parts import LAST, SHARED, parts_of

    if within is not None:
        confine(recipe, overrides or [], within)
    with postponed():  # parts are told by name
        plan = plan_file(recipe, overrides or ())
    found = parts_of(plan)
    if outputs:
        side = [part.name for part in found if part.name not in (SHARED, LAST)]
        _print({"run": plan.recipe.name, "parts": side}, [], outputs, as_json)
    elif as_json:
        told = [{"name": part.name, "steps": list(part.steps)} for part in found]
        print(json.dumps({"name": plan.recipe.name, "parts": told}))
    else:
        display.table(["part", "steps"], [[part.name, ", ".join(part.steps)] for part in found], left=2)


def _print(facts: dict[str, Any], lines: list[str], outputs: bool, as_json: bool) -> None:
    if outputs:
        for name, value in facts.items():
            print(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    elif as_json:
        print(json.dumps(facts))
    else:
        for line in lines:
            print(line)
