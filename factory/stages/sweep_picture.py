"""The picture of a sweep: every model's recovery over the swept value, with intervals.

Under sweep.py, beside pictures.py. Of several swept keys the one with the most values runs from left to
right; the others' combinations have a panel each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3  # panels side by side at most
# Colours by what a variant was made by, the first of each as in pictures.py (Okabe & Ito 2008).
COLOURS = {
    "pruned": ("#7f7f7f",),
    "original": ("#e69f00", "#d55e00"),
    "self": ("#0072b2", "#56b4e9"),
    "merged": ("#009e73", "#cc79a7"),
}
MARKERS = "XosD^vP*<>hp"
LINES = ("-", "--", ":", "-.")
APART = 0.05  # of the least distance between two values: models side by side, so that intervals can be told


def draw(report: Mapping[str, Any]) -> Figure:
    """Draws recovery over the swept values; a line at 100 % is the base.

    Args:
        report: the sweep's report.json.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    points, key = report["points"], _widest(report)
    panels: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for point in points:
        others = tuple(f"{k} = {point['values'][k]}" for k in report["keys"] if k != key)
        panels.setdefault(others, []).append(point)
    looks = _looks(points)
    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(max(8.0, 5.2 * columns), 1.4 + 4.2 * lines), layout="constrained")
    grid = FigureCanvasAgg(figure).figure.subplots(lines, columns, sharey=True, squeeze=False)
    values = list({str(point["values"][key]): point["values"][key] for point in points}.values())
    places, ticks, powers = _places(values)
    for axes, (others, here) in zip(grid.flat, panels.items(), strict=False):
        axes.axhline(1.0, color="black", linestyle="--", linewidth=1.2, label="base")
        for number, name in enumerate(looks):
            _line(axes, name, looks[name], here, key, places, number - (len(looks) - 1) / 2)
        axes.set_xticks(list(ticks), list(ticks.values()), fontsize=11)
        axes.set_xlabel(f"{key}, logarithmic" if powers else key, fontsize=12)
        axes.set_title("\n".join(others), fontsize=11)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("recovery: average / the base's", fontsize=12)
    confidence = f"{100 * report['confidence']:.0f} % intervals"
    figure.suptitle(f"{report['recipe']}: recovery over {key}, with {confidence}", fontsize=13)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=11, frameon=False)
    return figure


def _widest(report: Mapping[str, Any]) -> str:
    """The swept key with the most values."""
    keys: Sequence[str] = report["keys"]
    return max(keys, key=lambda key: len({str(point["values"][key]) for point in report["points"]}))


def _looks(points: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """One look a model: colour, marker and line."""
    kinds = {
        model["name"]: model["targets"] if model["kind"] == "trained" else model["kind"]
        for point in points
        for model in point["models"]
        if model["kind"] != "base"
    }
    looks = {}
    for number, (name, kind) in enumerate(kinds.items()):
        before, colours = [*kinds.values()][:number].count(kind), COLOURS[kind]
        line = LINES[before // len(colours) % len(LINES)]
        looks[name] = (colours[before % len(colours)], MARKERS[number % len(MARKERS)], line)
    return looks


def _places(values: Sequence[Any]) -> tuple[dict[str, float], dict[float, str], bool]:
    """Where each value stands, by its text; what is written there; and whether by powers.

    Numbers that lie about as far apart as their size says stand where they are; where the largest is more
    than five times the least, the logarithms do, if that parts them better. All else stands side by side.
    """
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values) > 1:
        ordered = sorted(numbers)
        gaps = [b - a for a, b in pairwise(ordered)]
        powers = ordered[0] > 0 and ordered[-1] > 5 * ordered[0]
        if powers:
            ratios = [math.log(b / a) for a, b in pairwise(ordered)]
            powers = min(ratios) / sum(ratios) > min(gaps) / sum(gaps)
            gaps = ratios if powers else gaps
        if sum(gaps) <= 12 * min(gaps):  # farther apart, and the nearest two would touch
            stands = [sum(gaps[:i]) / min(gaps) for i in range(len(ordered))]
            places = {str(v): stands[ordered.index(v)] for v in values}
            return places, {places[str(v)]: _figure(v) for v in ordered}, powers
        values = ordered
    places = {str(value): float(i) for i, value in enumerate(values)}
    return places, {places[str(value)]: _figure(value) for value in values}, False


def _figure(value: Any) -> str:
    """A value as it is written on the axis: whole numbers by thousands."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _line(
    axes: Any,
    name: str,
    look: tuple[str, str, str],
    points: Sequence[Mapping[str, Any]],
    key: str,
    places: Mapping[str, float],
    shift: float,
) -> None:
    colour, marker, line = look
    found = [
        (places[str(point["values"][key])] + APART * shift, model["recovery"])
        for point in points
        for model in point["models"]
        if model["name"] == name and model["recovery"]
    ]
    found.sort(key=lambda one: one[0])
    across = [place for place, _ in found]
    heights = [recovery["value"] for _, recovery in found]
    below = [recovery["value"] - recovery["low"] for _, recovery in found]
    above = [recovery["high"] - recovery["value"] for _, recovery in found]
    axes.errorbar(
        across, heights, yerr=[below, above], color=colour, marker=marker, linestyle=line, linewidth=1.6,
        markersize=7, markeredgecolor="black", markeredgewidth=0.6, elinewidth=1.6, capsize=4, label=name,
    )  # fmt: skip
