"""The report's picture of drafts: accepted tokens a step and speed-up, by the number of proposed tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.drafts import ALL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito 2008; a marker each, so that no colour is needed to tell them apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def draw(drafts: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws both over K, a line a model.

    Args:
        drafts: report.json's `draft`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11.0, 5.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = canvas.figure.subplots(1, 2)
    for i, row in enumerate(drafts):
        facts, colour, marker = row["facts"], COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        for mode, line in (("greedy", "-"), ("sampled", ":")):
            found = [one["accepted"] for one in facts[mode][ALL]["k"]]
            places = [one["k"] for one in facts[mode][ALL]["k"]]
            left.plot(
                places, [one["value"] for one in found], line, color=colour, marker=marker, markersize=6,
                label=row["name"] if mode == "greedy" else None,
            )  # fmt: skip
            if mode == "greedy":
                low, high = ([one[end] for one in found] for end in ("low", "high"))
                left.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        expected = facts["expected"]["greedy"]
        ks = [one["k"] for one in expected]
        right.plot(ks, [one["value"] for one in expected], "-", color=colour, marker=marker, markersize=6)
        found = facts["measured"]["by_k"]
        # Beside their K, or measurements of several models would hide each other.
        places = [one["k"] + 0.22 * (i - (len(drafts) - 1) / 2) for one in found]
        values = [one["speed_up"]["value"] for one in found]
        ends = [
            [one["speed_up"]["value"] - one["speed_up"]["low"] for one in found],
            [one["speed_up"]["high"] - one["speed_up"]["value"] for one in found],
        ]
        right.errorbar(
            places, values, yerr=ends, color=colour, marker=marker, markersize=9,
            markerfacecolor="white", markeredgewidth=1.7, capsize=4, linestyle="none",
        )  # fmt: skip
    right.axhline(1.0, color="black", linestyle="--", linewidth=1.5)
    right.annotate(
        "target alone = 1", (1.0, 1.0), xycoords=("axes fraction", "data"), xytext=(-4, 4),
        textcoords="offset points", ha="right", va="bottom", fontsize=11,
    )  # fmt: skip
    left.set_ylabel("proposed tokens accepted a step", fontsize=12)
    left.set_title("Accepted: line greedy, dotted sampled", fontsize=12)
    right.set_ylabel("speed-up of greedy decoding", fontsize=12)
    right.set_title("Speed-up: line expected of all texts, hollow measured", fontsize=12)
    right.set_ylim(top=1.12 * max(1.0, right.get_ylim()[1]))  # room for the words on the line at 1
    for axes in (left, right):
        axes.set_xlabel("proposed tokens a step, K", fontsize=12)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
