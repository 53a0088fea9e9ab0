"""report.json as tables for the terminal: what `factory run` ends with and `factory show` prints.

Reads what the report stage writes. Colours mark kinds of models and are never the only sign.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from factory.wording import counted, has_no_width, limited, rule_of_three

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"base": "bold", "pruned": "dim", "trained": "", "merged": "green"}
_NARROW_NAME, _NARROW_TASK = 12, 5  # characters a line; with them six tasks fit 80 columns


def render(report: Mapping[str, Any], width: int | None = None) -> Table:
    """Models by tasks, in percent; average and recovery with their intervals.

    Args:
        report: the parsed report.json.
        width: columns of the terminal; where the table is wider, its headings are folded and intervals
            go below their values. None never folds.
    """
    from rich.console import Console

    table = _table(report, narrow=False)
    if width is not None and Console(width=10_000).measure(table).maximum > width:
        return _table(report, narrow=True)
    return table


def _table(report: Mapping[str, Any], narrow: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text("\n".join(_title(report))),
        caption=Text("\n".join(_notes(report))),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    models, gap = report["models"], "\n" if narrow else " "
    heads = ["blocks\nsize" if narrow else "blocks, size"]
    for task in models[0]["scores"]:
        heads.append("\n".join(textwrap.wrap(task, _NARROW_TASK)) if narrow else task)
    # A blank before the wide columns sets their figures apart from the column before.
    for number, head in enumerate(["model", *heads, " average", " recovery"]):
        table.add_column(Text(head), justify="right" if number else "left", no_wrap=True)
    for model in models:
        name = model["name"]
        cells = [
            "\n".join(textwrap.wrap(name, _NARROW_NAME)) if narrow else name,
            f"{model['blocks']},{gap}{count(model['parameters'])}",
            *(f"{100 * score['value']:.1f}" for score in model["scores"].values()),
            interval(model["average"], narrow),
            recovery(model, narrow),
        ]
        # Text, not str: rich would read the brackets as markup.
        table.add_row(*(Text(cell) for cell in cells), style=STYLES[model["kind"]])
    return table


def won_lost_title(report: Mapping[str, Any], width: int = 80) -> str:
    """What `won_lost` counts, in lines of `width` columns."""
    said = [
        "Documents won / lost against the base: right where the base is wrong, and the other way round; "
        "on all others both are right, or both wrong."
    ]
    shares = [name for name, task in report.get("tasks", {}).items() if task["metric"] == "mc2"]
    if shares:
        said.append(
            f"Of {' and '.join(shares)} (mc2) a document is right where more than half of the mass on its "
            "choices is on true ones."
        )
    return "\n".join(textwrap.wrap(" ".join(said), width))


def won_lost(report: Mapping[str, Any], width: int | None = None) -> Table:
    """Documents that each model won and lost against the base, by task.

    Args:
        report: the parsed report.json.
        width: columns of the terminal; where the table is wider, names are folded, and six tasks fit 80
            columns. None never folds.
    """
    from rich.console import Console

    table = _won_lost(report, narrow=False)
    if width is not None and Console(width=10_000).measure(table).maximum > width:
        return _won_lost(report, narrow=True)
    return table


def _won_lost(report: Mapping[str, Any], narrow: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(Text("model"), no_wrap=True)
    for task in report["models"][0]["scores"]:
        table.add_column(Text(f" {task}"), justify="right", no_wrap=True)
    for model in report["models"]:
        if model["kind"] == "base":
            continue
        name = model["name"]
        if narrow:
            name = "\n".join(textwrap.wrap(name, _NARROW_NAME))
        counts = (f" {score['won']}/{score['lost']}" for score in model["minus_base"]["scores"].values())
        table.add_row(Text(name), *map(Text, counts), style=STYLES[model["kind"]])
    return table


def _title(report: Mapping[str, Any]) -> list[str]:
    lines = [f"{report['recipe']}: {report['prune']['sentence']}, removed"]
    said = [limited(limit)] if (limit := report.get("limit")) else []  # once, also from an older report
    return [*lines, *dict.fromkeys([*said, *report.get("deviations", ())])]


def _notes(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Percent, suite {report['suite']}; in brackets {100 * report['confidence']:.0f} % intervals; "
        "recovery is the average / the base's, so the base's own has no interval."
    ]
    shown = [model["average"] for model in report["models"]]
    shown += [model["recovery"] for model in report["models"] if model["kind"] != "base"]
    flat = next((estimate for estimate in shown if estimate and has_no_width(estimate)), None)
    if flat:
        lines.append(
            f"An interval without width: its {counted(flat['n'], 'document')} agree; by the rule of three "
            f"(Hanley & Lippman-Hand 1983) up to {rule_of_three(flat['n'])} of all may still score otherwise."
        )
    return lines


def recovery(model: Mapping[str, Any], narrow: bool) -> str:
    """A model's recovery in percent, with its interval; the base's own has none."""
    if model["kind"] == "base" and model["recovery"]:
        return f" {100 * model['recovery']['value']:.1f}"
    return interval(model["recovery"], narrow)


def count(number: int) -> str:
    """A number of parameters in three digits: `987k`, `1.31M`, `8.03B`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{max(0, 2 - (scaled >= 10) - (scaled >= 100))}f}{letter}"
    return str(number)


def interval(score: Mapping[str, float] | None, narrow: bool) -> str:
    """An estimate in percent with its interval, which stands below it where it is to be narrow."""
    gap = "\n" if narrow else " "
    if score is None:
        return f" not{gap}defined"
    between = "," if narrow else ", "  # two intervals that reach 100.0 leave no column to spare at 80
    return f" {100 * score['value']:.1f}{gap}[{100 * score['low']:.1f}{between}{100 * score['high']:.1f}]"
