"""The commands, thin: they read arguments, call the room that does the work, and print.

Here are those that every recipe goes through; commands/ holds the others.

The last thing in the pipeline and the first a person meets. Nothing heavier than Typer is imported before
a command runs, so that `factory --help` is instant. Results go to stdout, progress and errors to stderr.
Exit codes: 0 done; 1 a step failed; 2 a mistake a person can mend; 130 interrupted; 129, 143 told to end.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from factory import __version__
from factory.commands import card, flow, hub, leaderboard, model, publish, runs, sandbox
from factory.commands import recipe as recipe_commands
from factory.commands.options import RUNS, AsJson, Overrides, PassGated, RecipeFile, RunsDir, Within
from factory.errors import FactoryError
from factory.run.ending import Ended

if TYPE_CHECKING:
    from factory.plan.plan import Plan

INTERRUPTED = 130
# What an interruption left of a command's work.
_AFTER = {
    "run": "Run the same command again to resume",
    "prune": "Nothing was written: the same command starts over",
    "evaluate": "With --out the same command goes on where it was",
    "publish": "Run the same command again to go on",
    "pull": "Run the same command again to go on",
}

app = typer.Typer(
    name="factory",
    help="A factory for smaller language models: a recipe in; models, data and scores out.",
    add_completion=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The `factory` command."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Errors become one line on stderr."""
    arguments = list(arguments)
    debug = "--debug" in arguments
    try:
        code = app([a for a in arguments if a != "--debug"], prog_name="factory", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Ended as ended:
        _print_error(_stopped(f"ended by {ended.name}", arguments), ended.exit_code, "--json" in arguments)
        return ended.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, code = _explain(error)
        _print_error(message, code, "--json" in arguments)
        return code
    if code == INTERRUPTED:
        _print_error(_stopped("interrupted", arguments), code, "--json" in arguments)
    return int(code)


def _stopped(how: str, arguments: Sequence[str]) -> str:
    after = next((_AFTER[word] for word in arguments[:1] if word in _AFTER), None)
    return f"{how}. {after}." if after else f"{how}."


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, FactoryError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):  # wrong options or arguments
        return error.format_message(), 2
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{text}. This is a fault of the factory itself: --debug shows where.", 1


def _print_error(message: str, code: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"kind": "error", "message": message, "exit_code": code}))
    print(f"error: {message}", file=sys.stderr)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks. May stand anywhere.")] = False,
) -> None:
    if version:
        print(f"factory {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    recipe: RecipeFile,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEP", help="Only these (train/*) and what they need. Repeatable."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="PART", help="Only this part: see `factory parts`.")
    ] = None,
    fetch: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Where finished work comes from: a folder, hf://datasets/..."),
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Where finished and begun work goes as it is made.")
    ] = None,
    within: Within = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Steps at a time; by default 2 if cores allow, 1 with --processes."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that train together, one a GPU where there are GPUs.")
    ] = 1,
    strategy: Annotated[
        Literal["ddp", "fsdp"],
        typer.Option(help="What each of them holds: the whole model, or a part of it (FSDP2, GPUs only)."),
    ] = "ddp",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    miniature: Annotated[
        bool,
        typer.Option(
            "--miniature",
            help="The same steps on the sandbox model with a few rows: minutes, no network, no figures.",
        ),
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: AsJson = False,
) -> None:
    """Make what a recipe asks for. Run it again to resume, or to see that nothing is left to do."""
    from factory import machine
    from factory.commands import display
    from factory.commands import plan as plan_print
    from factory.plan.select import select
    from factory.run.parts import chosen_steps
    from factory.run.share import run_shared
    from factory.run.store import Store

    store = Store(runs_dir / "store")
    with plan_print.looked_at(store if dry_run else None) as unread:
        planned = _plan(recipe, overrides, within, miniature)
    chosen = chosen_steps(planned, part, only or ())
    plan = _spread(planned, processes, strategy, chosen, runs_dir)
    if dry_run:
        plan_print.print_plan(plan, select(plan, chosen), store, as_json, unread=unread)
        return
    cores = machine.cores() if miniature else None  # its steps are small: all cores find work
    at_once = jobs or (1 if processes > 1 else cores)
    with display.display(plan.recipe.name, as_json) as events:
        outcome, said = run_shared(plan, runs_dir, at_once, chosen, events, fetch, share)
    if said:
        print(said, file=sys.stderr)
    if as_json:
        return
    if not outcome.made:
        print(f"everything is up to date: {outcome.steps} steps, nothing to do")
        return
    made, took = f"{len(outcome.made)} of {outcome.steps} steps", display.duration(outcome.seconds)
    print(f"made {made} in {took}; results are in {runs_dir / plan.recipe.name}")
    if (outcome.folder / "report.json").is_file():
        display.score_table(outcome.folder / "report.json")


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    within: Within = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page, for a job's summary.")] = False,
    max_cost: Annotated[
        float | None, typer.Option(metavar="DOLLARS", help="Refuse what may cost more, on --gpu.")
    ] = None,
    gpu: Annotated[str, typer.Option(metavar="KIND", help="As the plan's table names them.")] = "A100 80GB",
    pass_gated: PassGated = False,
    runs_dir: RunsDir = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show the steps of a recipe, which are done, and what the others take. No weights are fetched."""
    from factory.commands import limit, plan_page
    from factory.commands import plan as plan_print
    from factory.run.store import Store

    form, kind = _form(as_json, markdown), limit.kind_of(gpu)
    limit.check_limit(max_cost)
    with plan_print.gated_told(recipe, pass_gated and max_cost is None, form):  # a limit is kept, or refused
        store = Store(runs_dir / "store")
        with plan_print.looked_at(store) as unread:
            planned = _plan(recipe, overrides, within)
        kept = None if max_cost is None else limit.keep(planned, store, max_cost, kind)
        if markdown:
            print(plan_page.page(planned, store, kept), end="")
            return
        plan_print.print_plan(planned, planned.steps, store, as_json, costs=True, unread=unread, kept=kept)


@app.command()
def validate(
    recipe: RecipeFile,
    overrides: Overrides = None,
    within: Within = None,
    pass_gated: PassGated = False,
    as_json: AsJson = False,
) -> None:
    """Check a recipe and all that it names."""
    from factory.commands import plan as plan_print
    from factory.hashing import postponed

    with plan_print.gated_told(recipe, pass_gated, _form(as_json)), postponed():
        plan = _plan(recipe, overrides, within)
        if as_json:
            print(json.dumps({"valid": True, "steps": len(plan.steps), **plan_print.facts(plan)}))
            return
        points = f"a sweep of {len(plan.points)} points, " if plan.points else ""
        print(f"{recipe} is valid: {points}{len(plan.steps)} steps{plan_print.sizes(plan)}")


def _form(as_json: bool, markdown: bool = False) -> Literal["text", "json", "markdown"]:
    if as_json and markdown:
        raise FactoryError("--json and --markdown are two forms", mend="Give one of them")
    return "markdown" if markdown else "json" if as_json else "text"


def _plan(
    recipe: Path, overrides: Sequence[str] | None, within: Path | None = None, miniature: bool = False
) -> Plan:
    from factory.commands.busy import busy

    with busy(f"reading {recipe.name} and what it names"):
        if within is not None:
            from factory.recipe.confined import confine

            confine(recipe, list(overrides or ()), within)
        from factory.plan import as_written
        from factory.plan.sweep import plan_file

        note = as_written.check(recipe, overrides or ()) if miniature else None
        if note:
            print(f"note: {note}", file=sys.stderr)
        return plan_file(recipe, overrides or (), miniature)


def _spread(
    plan: Plan, processes: int, strategy: Literal["ddp", "fsdp"], only: Sequence[str], runs_dir: Path
) -> Plan:
    if (processes, strategy) == (1, "ddp"):
        return plan
    from factory.plan.select import select
    from factory.run.processes import spread
    from factory.run.store import Store

    store, chosen = Store(runs_dir / "store"), {step.name for step in select(plan, only)}
    return spread(
        plan, processes, strategy, lambda step: step.name in chosen and not store.has(step.stage, step.key)
    )


# A group without a name: its commands follow those above, in the help too.
app.add_typer(runs.commands)
app.add_typer(recipe_commands.commands)
app.add_typer(flow.commands)
app.add_typer(card.commands)
app.add_typer(publish.commands)
app.add_typer(model.commands)
app.add_typer(leaderboard.commands)
app.add_typer(leaderboard.board, name="leaderboard")
app.add_typer(hub.commands, name="hub")
app.add_typer(sandbox.commands, name="sandbox")

if __name__ == "__main__":
    main()
