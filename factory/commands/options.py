"""Arguments and options that several commands take, so that each is called and explained in one way.

Under cli.py and the files of commands that it joins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file (YAML).")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A recipe's name, or its folder under runs.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, or sandbox/base.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a value over the recipe: prune.drop=3. Repeatable."),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where runs and the store of artifacts live.")]
Within = Annotated[
    Path | None,
    typer.Option("--within", metavar="DIR", help="Refuse a recipe that names anything outside this folder."),
]
PassGated = Annotated[
    bool,
    typer.Option(
        "--pass-gated",
        help="Tell of a model or dataset that asks readers to accept its terms, and pass: for checks without "
        "a token.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

RUNS = Path("runs")
