"""A plan as a page of Markdown, for the summary of a workflow's job.

plan/, run/parts.py -> here -> `factory plan --markdown`. The page shows what the
command shows, and in which parts the steps can be made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from factory.commands.limit import Kept
from factory.errors import FactoryError
from factory.plan.costs import estimate, table
from factory.plan.downloads import downloads
from factory.plan.plan import Plan
from factory.run.parts import parts_of
from factory.run.store import Store
from factory.wording import counted


def page(plan: Plan, store: Store, kept: Kept | None = None) -> str:
    """The page of a plan: sizes, parts, what the steps take that are not in the store, and a limit kept."""
    recipe, missing = plan.recipe, _missing(plan, store)
    swept = f", {counted(len(plan.points), 'point')} of a sweep" if plan.points else ""
    lines = [
        f"## {recipe.name}\n",
        f"Base {_code(recipe.base.model)}, suite {_code(recipe.evaluate.suite)}; "
        f"{counted(len(recipe.variants), 'variant')}{swept}; {counted(len(plan.steps), 'step')}, "
        f"{len(plan.steps) - len(missing)} done.\n",
    ]
    plans = [(point.name, point.plan) for point in plan.points] or [("parameters", plan)]
    if sizes := [[name, *_sizes(one)] for name, one in plans if one.parameters]:
        lines += _table(["", "base", "pruned"], sizes, left=1)
    lines += _table(
        ["part", "steps"], [[part.name, ", ".join(part.steps)] for part in parts_of(plan)], left=2
    )
    try:
        found = estimate(plan)
    except FactoryError as error:
        return "\n".join([*lines, f"No estimate: {_plain(error.what)}", ""])
    lines.append("What is not made yet takes about\n")
    headings = ["stage", "steps", "FLOPs", "GPU memory", "disk"]
    lines += _table(headings, table.stage_rows(found, missing), left=1)
    headings = ["GPU", "memory", "hours", "dollars", "fits"]
    lines += _table(headings, table.gpu_rows(found, missing), left=1)
    lines.append(f"{_plain(table.download_line(downloads(plan.steps)))}\n")
    if kept is not None:
        lines.append(f"{_plain(kept.said)}\n")
    lines += ["Assumed:\n", *(f"- {_plain(said)}" for said in table.assumptions(found))]
    return "\n".join(lines) + "\n"


def gated_page(recipe: Path, error: FactoryError) -> str:
    """The page of a recipe that cannot be planned here, as something it names is gated."""
    return (
        f"## {_plain(recipe.stem)}\n\nNot planned here, where there is no token: {_plain(error.what)}. "
        "Whoever has accepted its terms runs `factory plan` and writes what it may cost into the pull "
        "request; a build plans it again with a token, and keeps its limit, before any GPU starts.\n"
    )


def _missing(plan: Plan, store: Store) -> list[str]:
    return [step.name for step in plan.steps if not store.has(step.stage, step.key)]


def _sizes(plan: Plan) -> tuple[str, str]:
    least = plan.parameters["pruned"]
    most = plan.parameters.get("pruned_at_most", least)
    return f"{plan.parameters['base']:,}", f"{least:,}" if most == least else f"{least:,} to {most:,}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """A table whose first `left` columns are text, the others figures."""
    line = [" --- " if i < left else " ---: " for i in range(len(headings))]
    cells = [list(headings), *([_plain(cell) for cell in row] for row in rows)]
    texts = [f"| {' | '.join(row)} |" for row in cells]
    return [texts[0], f"|{'|'.join(line)}|", *texts[1:], ""]


def _plain(text: str) -> str:
    """Text of a recipe, or about it, that a page shows as it is: no markup, no end of a cell."""
    return "".join(f"&#{ord(c)};" if c in "|<>&[]`*_" else c if c.isprintable() else "?" for c in text)


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"
