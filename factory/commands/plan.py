"""A plan on the terminal or as JSON, and what is said in its place where a base may not be read.

Between plan.py and `factory plan`, `validate` and `run --dry-run` in cli.py; plan_page.py has it as a page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from factory.commands.recipe import costs_of, print_costs
from factory.wording import counted

if TYPE_CHECKING:
    from factory.commands.limit import Kept
    from factory.plan.plan import Plan, Step
    from factory.run.store import Store


@contextmanager
def gated_told(recipe: Path, wanted: bool, form: Literal["text", "json", "markdown"]) -> Iterator[None]:
    """Where something gated keeps the body from its end, that is told instead, if it is wanted.

    The checks of a pull request have no token, and whoever wrote it can do nothing about that.
    """
    from factory.commands import plan_page
    from factory.hub_files import GatedError

    try:
        yield
    except GatedError as error:
        if not wanted:
            raise
        if form == "json":
            print(json.dumps({"valid": None, "gated": str(error)}))
        elif form == "markdown":
            print(plan_page.gated_page(recipe, error), end="")
        else:
            print(f"{recipe}: no mistake found, but not all can be checked without a token: {error}")


@contextmanager
def looked_at(store: Store | None) -> Iterator[Mapping[Path, int]]:
    """For making a plan that is shown and not run: a key is worth reading weights only where it may be met.

    Args:
        store: where it is looked for what is made; None for a plan that is run, whose keys are needed.

    Yields:
        The large files that were left unread, with their sizes in bytes; the plan's keys are none then.
    """
    from factory.hashing import postponed

    if store is None or not store.is_bare():
        yield {}
        return
    with postponed() as unread:
        yield unread


def print_plan(
    plan: Plan,
    steps: Sequence[Step],
    store: Store,
    as_json: bool,
    costs: bool = False,
    unread: Mapping[Path, int] | None = None,
    kept: Kept | None = None,
) -> None:
    """The steps of a plan and their states; with `costs` what those take that are not done.

    Args:
        plan: of a recipe or a sweep.
        steps: those of it that are shown.
        store: where they may be.
        as_json: as one object.
        costs: whether to estimate.
        unread: see `looked_at`; with such files no key is shown.
        kept: a limit on the costs.
    """
    from factory.commands import display
    from factory.plan.select import needs

    states = [store.state(step.stage, step.key) for step in steps]
    missing = [step.name for step, state in zip(steps, states, strict=True) if state != "done"]
    if as_json:
        lines: list[dict[str, Any]] = [
            {
                "name": step.name,
                "stage": step.stage,
                "key": None if unread else step.key,
                "state": state,
                "needs": sorted(needs(step)),
                "settings": step.settings.model_dump(mode="json"),
            }
            for step, state in zip(steps, states, strict=True)
        ]
        told = costs_of(plan, missing) if costs else {}
        if kept is not None:
            told["limit"] = kept.facts()
        if unread:  # why there are no keys
            told["unread"] = {str(file): size for file, size in unread.items()}
        print(json.dumps({"name": plan.recipe.name, **facts(plan), "steps": lines, **told}))
        return
    pairs = zip(steps, states, strict=True)
    rows = [
        [step.name, "-" if unread else step.key, state, _some(sorted(needs(step)))] for step, state in pairs
    ]
    display.table(["step", "key", "state", "needs"], rows, left=4)
    print(f"{len(steps)} steps, {states.count('done')} done{sizes(plan)}")
    if unread:
        large = f"{counted(len(unread), 'large file')} ({sum(unread.values()) / 1e9:.1f} GB)"
        print(f"keys: `factory run` reads {large} for them, once")
    if costs:
        print_costs(plan, missing)
    if kept is not None:
        print(kept.said)


def facts(plan: Plan) -> dict[str, Any]:
    """Parameters of a plan, and of a sweep its points with theirs."""
    found: dict[str, Any] = {"parameters": dict(plan.parameters)}
    if plan.points:
        found["points"] = [
            {"name": point.name, "values": dict(point.values), "parameters": dict(point.plan.parameters)}
            for point in plan.points
        ]
    return found


def sizes(plan: Plan) -> str:
    """What pruning makes of the base, in parameters, where its weights are at hand."""
    if plan.points:
        return "".join(f"\n{point.name}{sizes(point.plan).replace(';', ':', 1)}" for point in plan.points)
    if not plan.parameters:
        return ""
    base, pruned = plan.parameters["base"], plan.parameters["pruned"]
    most = plan.parameters.get("pruned_at_most", pruned)
    left, share = f"{pruned:,}", f"{pruned / base:.0%}"
    if most > pruned:  # the blocks are not of one size, and which go is not known yet
        left, share = f"{left} to {most:,}", f"{share} to {most / base:.0%}"
    return f"; {base:,} parameters become {left} ({share})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
