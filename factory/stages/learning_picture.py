"""The picture of learning curves: the loss of every trained variant over its steps. Under report.py.

Losses over different texts do not compare, nor does a divergence with a cross-entropy: each kind has a panel
and a scale of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.stages.pictures import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is made small, as the axis calls it.
LOSSES = {"sft": "loss, nats a token", "distill": "divergence from\nthe base, nats a token"}
# Lines are told apart by colour and stroke; the colours are Okabe and Ito's.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STROKES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))


def learning_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws learning curves, a panel for every kind of responses and of loss.

    Args:
        rows: of every variant `name`, `targets` (`original` or `self`), `loss` (`sft` or `distill`), and
            `losses` as [step, loss] pairs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for targets in ("original", "self"):
        for loss in LOSSES:
            if found := [row for row in rows if (row["targets"], row["loss"]) == (targets, loss)]:
                panels[targets, loss] = found
    heights = [max(2.8, 0.7 + 0.28 * len(found)) for found in panels.values()]
    figure = Figure(figsize=(9.6, 0.5 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, ((targets, loss), found) in zip(all_axes, panels.items(), strict=True):
        for i, row in enumerate(found):
            steps, losses = zip(*row["losses"], strict=True)
            axes.plot(
                steps, losses, color=COLOURS[i % len(COLOURS)], linestyle=STROKES[i % len(STROKES)],
                linewidth=2, label=row["name"], marker=STYLES[targets][2], markevery=[-1], markersize=7,
                markeredgecolor="black",
            )  # fmt: skip
        axes.set_title(STYLES[targets][0], fontsize=12, loc="left")
        axes.set_ylabel(LOSSES[loss], fontsize=11)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        # Beside the lines: wherever it stood among them, it would hide some.
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11, frameon=False, handlelength=3.6)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    all_axes[-1].set_xlim(left=0)
    all_axes[-1].set_xlabel("step", fontsize=12)
    figure.suptitle("How the variants learnt", fontsize=13)
    return figure
