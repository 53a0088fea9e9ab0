"""The pictures of drift: how alike responses are to the base's, and recovery against drift.

Under report.py and sweep.py, beside pictures.py, whose colours and markers they have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from factory.stages.pictures import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 48
LABELLED = 12  # points up to which each has its name beside it
# Where a name may stand beside its point, in points of length: nearest first.
_PLACES = [
    (across * far, up * far * slope)
    for far in (8.0, 16.0, 28.0, 44.0, 64.0, 88.0, 116.0, 150.0)
    for slope in (1.0, 0.3, 2.0)
    for across in (1, -1)
    for up in (1, -1)
]
_FAR = 26.0  # from there on a line leads to the name
_LEADER = {"arrowstyle": "-", "color": "#7f7f7f", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 6}
_BASE = {
    "name": "base: 100 %, no drift",
    "kl": dict.fromkeys(("value", "low", "high"), 0.0),
    "recovery": dict.fromkeys(("value", "low", "high"), 1.0),
}


def similarities(drift: Mapping[str, Any]) -> Figure:
    """Draws for every model how its responses' cosines to the base's are distributed.

    Args:
        drift: report.json's `drift`.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models, unrelated = drift["models"], drift["base"]["embedding"]["unrelated"]
    least = min([0.9, *(value for model in models for value in model["similarities"])])
    edges = np.linspace(least, 1.0, BINS + 1)
    figure = Figure(figsize=(9.6, 1.9 + 0.85 * len(models)), layout="constrained")
    panels = FigureCanvasAgg(figure).figure.subplots(len(models), 1, sharex=True, sharey=True, squeeze=False)[
        :, 0
    ]
    labels: dict[str, Any] = {}
    for axes, model in zip(panels, models, strict=True):
        label, colour, _ = STYLES[_style(model)]
        values = np.asarray(model["similarities"])
        shares = np.histogram(values, edges)[0] / len(values)
        made = axes.bar(
            edges[:-1], shares, np.diff(edges), align="edge", color=colour, edgecolor="white", lw=0.3
        )
        labels.setdefault(label, made)
        mean = axes.axvline(values.mean(), color="black", linewidth=2)
        labels.setdefault("mean", mean)
        if unrelated:
            other = axes.axvline(unrelated["value"], color="black", linestyle=":", linewidth=1.5)
            labels.setdefault("two unrelated responses of the base, mean", other)
        axes.set_ylabel(model["name"], rotation=0, ha="right", va="center", fontsize=12)
        axes.set_yticks([])
        axes.set_ylim(0, 1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        # Beside the panel: inside it, some model's bars or lines go through any place.
        text = f"mean {values.mean():.3f}\n{100 * model['identical']['value']:.0f} % the same"
        axes.annotate(text, (1.01, 0.5), xycoords="axes fraction", va="center", fontsize=11)
    panels[-1].set_xlim(min(least, unrelated["value"] if unrelated else least) - 0.01, 1.0 + 0.004)
    panels[-1].set_xlabel(
        f"cosine to the base's response; vectors: {drift['base']['embedding']['name']}", fontsize=12
    )
    figure.suptitle("How alike each model's responses are to the base's (share of prompts)", fontsize=13)
    figure.legend(
        [*labels.values()], [*labels], loc="outside lower center", ncols=2, fontsize=10, frameon=False
    )
    return figure


def against_recovery(models: Sequence[Mapping[str, Any]], confidence: float) -> Figure:
    """Draws every model's recovery over its drift, with both intervals.

    Args:
        models: with name, kind, targets, kl and recovery; those that lack a figure are left out.
        confidence: of the intervals, such as 0.95.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    shown = [model for model in models if model["kl"] and model["recovery"]]
    if not shown:
        said = "not defined: the base's average may be zero"
        axes.text(0.5, 0.5, said, ha="center", va="center", fontsize=12, transform=axes.transAxes)
    labelled = set()
    for model in shown:
        label, colour, marker = STYLES[_style(model)]
        x, y = model["kl"], model["recovery"]
        axes.errorbar(
            x["value"], y["value"],
            xerr=[[max(0.0, x["value"] - x["low"])], [max(0.0, x["high"] - x["value"])]],
            yerr=[[max(0.0, y["value"] - y["low"])], [max(0.0, y["high"] - y["value"])]],
            color=colour, marker=marker, markersize=9, markeredgecolor="black", markeredgewidth=0.7,
            elinewidth=1.8, capsize=4, linestyle="none", label=None if label in labelled else label,
        )  # fmt: skip
        labelled.add(label)
    if shown:
        axes.axhline(1.0, color="#7f7f7f", linestyle="--", linewidth=0.8, alpha=0.6)
        axes.plot(0.0, 1.0, color="black", marker="*", markersize=14, linestyle="none")
        # A little of the left, so that the base's mark is whole; no drift is below zero.
        axes.set_xlim(left=-0.03 * max(model["kl"]["high"] for model in shown))
    axes.margins(x=0.12, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("drift: KL(base || model) on the base's own responses, nats a token", fontsize=12)
    axes.set_ylabel("recovery: average score / the base's", fontsize=12)
    axes.set_title(f"Recovery against drift, with {100 * confidence:.0f} % intervals", fontsize=13)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if labelled:
        figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    if shown:
        _label(figure, axes, [_BASE, *shown], 1 + len(shown) if len(shown) <= LABELLED else 1)
    return figure


def _label(figure: Figure, axes: Axes, models: Sequence[Mapping[str, Any]], named: int) -> None:
    """Writes models' names beside their points: at the nearest place where one lies on nothing else.

    Args:
        figure: with a canvas that can draw.
        axes: with all else drawn, whose limits are final.
        models: the points.
        named: how many of the first of them are named.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # places the axes
    axes.set_autoscale_on(False)
    dot, inside, pen = (
        figure.dpi / 72,
        axes.get_window_extent(),
        cast(FigureCanvasAgg, figure.canvas).get_renderer(),
    )
    line = axes.transData.transform((0.0, 1.0))[1]
    taken = [Bbox.from_extents(inside.x0, line - dot, inside.x1, line + dot)]
    for model in models:
        x, y = model["kl"], model["recovery"]
        (left, low), (right, high), (over, up) = axes.transData.transform(
            [(x["low"], y["low"]), (x["high"], y["high"]), (x["value"], y["value"])]
        )
        near, thin = 7 * dot, 2 * dot
        taken.append(Bbox.from_extents(over - near, up - near, over + near, up + near))
        taken.append(Bbox.from_extents(min(left, over), up - thin, max(right, over), up + thin))
        taken.append(Bbox.from_extents(over - thin, min(low, up), over + thin, max(high, up)))
    for model in sorted(models[:named], key=lambda one: -one["recovery"]["value"]):
        point = (model["kl"]["value"], model["recovery"]["value"])
        best, fewest = None, math.inf
        for place in _PLACES:
            label = axes.annotate(
                model["name"], point, xytext=place, textcoords="offset points", fontsize=11, in_layout=False,
                ha="left" if place[0] > 0 else "right", va="bottom" if place[1] > 0 else "top",
                arrowprops=_LEADER if math.hypot(*place) > _FAR else None,
            )  # fmt: skip
            label.update_positions(pen)
            box = Text.get_window_extent(label, pen).padded(dot)  # without the line that leads to it
            hidden = box.count_overlaps(taken) + (
                box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1
            )
            if hidden >= fewest:
                label.remove()
                continue
            if best is not None:
                best[0].remove()
            best, fewest = (label, box), hidden
            if not hidden:
                break
        if best is not None:
            taken.append(best[1])


def _style(model: Mapping[str, Any]) -> str:
    return str(model["targets"] if model["kind"] == "trained" else model["kind"])
