"""From figures to the blocks that go, and the ranking that people see. Behind the measures, under prune.

`table` is importance.json: `metric`, `blocks`, what the metric's shape gives (`distances`, `scores`,
`order`), the `rows` and `tokens` read, and where texts were `cut_at` the model's positions. Of equal figures
the earlier blocks win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import FactoryError
from factory.metrics import METRICS
from factory.models.blocks import in_words, spans
from factory.wording import counted

LISTED = 10  # runs or blocks in a ranking


@dataclass(frozen=True)
class Chosen:
    """Blocks, ascending, and their figure: of `blocks` shape the sum over the blocks."""

    blocks: tuple[int, ...]
    score: float


def choose(table: Mapping[str, Any], drop: int, exclude: tuple[int, int] = (0, 0)) -> Chosen:
    """The `drop` blocks that matter least.

    Args:
        table: importance.json.
        drop: how many.
        exclude: blocks at the beginning and at the end that stay.

    Raises:
        FactoryError: fewer blocks than that may go.
    """
    blocks, (first, last) = table["blocks"], exclude
    room = min(blocks - first - last, blocks - 1)
    if drop > room:
        kept = f", of which {first} at the beginning and {last} at the end stay" * bool(first or last)
        raise FactoryError(
            f"{counted(drop, 'block')} cannot be removed from {blocks}{kept}",
            mend=f"Remove from 1 to {room}" if room > 0 else "Exclude fewer",
        )
    shape = METRICS[table["metric"]].shape
    if shape == "pairs":
        return ranked_runs(table, drop, exclude)[0]
    if shape == "blocks":
        best = ranked_blocks(table, exclude)[:drop]
        return Chosen(tuple(sorted(b for one in best for b in one.blocks)), sum(one.score for one in best))
    order = table["order"]
    gone = order[:drop]
    if len(gone) < drop or not all(first <= block < blocks - last for block in gone):
        raise FactoryError(
            f"the table has an order of {len(order)} removals that does not fit",
            mend="Score importance again, with this drop and exclude",
        )
    return Chosen(tuple(sorted(gone)), table["scores"][drop - 1])


def ranked_runs(table: Mapping[str, Any], n: int, exclude: tuple[int, int] = (0, 0)) -> list[Chosen]:
    """All runs of `n` blocks that may go, nearest first; of shape `pairs`."""
    row, (first, last) = table["distances"][n - 1], exclude
    starts = range(first, table["blocks"] - last - n + 1)
    return [Chosen(tuple(range(s, s + n)), row[s]) for s in sorted(starts, key=row.__getitem__)]


def ranked_blocks(table: Mapping[str, Any], exclude: tuple[int, int] = (0, 0)) -> list[Chosen]:
    """All blocks that may go, least first; of shape `blocks`."""
    scores, (first, last) = table["scores"], exclude
    return [
        Chosen((b,), scores[b]) for b in sorted(range(first, table["blocks"] - last), key=scores.__getitem__)
    ]


def ranking(
    table: Mapping[str, Any], drop: int, exclude: tuple[int, int] = (0, 0), removed: Iterable[int] = ()
) -> list[dict[str, Any]]:
    """The ten best of what the metric ranks, as columns of a table.

    Of shape `pairs` a column for runs one shorter, as long as, and one longer than `drop`, where there are
    such; else one column of blocks, in the order in which they go.

    Returns:
        Columns with `title`, `of` (how many were ranked), `figure` (what the figure is, where that needs a
        word) and `rows`: `blocks`, their `name` ("4..6"),
        `score`, and whether these very blocks are `removed`.
    """
    gone, shape = tuple(sorted(removed)), METRICS[table["metric"]].shape

    def rows(found: list[Chosen], whole: bool) -> list[dict[str, Any]]:
        return [
            {
                "blocks": list(one.blocks),
                "name": spans(one.blocks),
                "score": one.score,
                "removed": one.blocks == gone if whole else one.blocks[0] in gone,
            }
            for one in found[:LISTED]
        ]

    if shape == "pairs":
        lengths = [n for n in (drop - 1, drop, drop + 1) if 1 <= n <= len(table["distances"])]
        found = {n: ranked_runs(table, n, exclude) for n in lengths}
        return [
            {"title": f"runs of {counted(n, 'block')}", "of": len(runs), "rows": rows(runs, True)}
            for n, runs in found.items()
            if runs
        ]
    if shape == "blocks":
        found_blocks = ranked_blocks(table, exclude)
        return [{"title": "block", "of": len(found_blocks), "rows": rows(found_blocks, False)}]
    steps = [Chosen((b,), score) for b, score in zip(table["order"], table["scores"], strict=True)]
    return [
        {
            "title": "block, in order of removal",
            "of": len(steps),
            "figure": f"{METRICS[table['metric']].title} so far",
            "rows": rows(steps, False),
        }
    ]


def ranking_cells(ranking: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A ranking as the cells of a table, headings first; shorter columns end in empty cells."""
    table = [
        ["", *(name for column in ranking for name in (column["title"], column.get("figure", "figure")))]
    ]
    for i in range(max((len(column["rows"]) for column in ranking), default=0)):
        line = [str(i + 1)]
        for column in ranking:
            row = column["rows"][i] if i < len(column["rows"]) else None
            mark = " (chosen)" if row and row["removed"] else ""
            line += [f"{row['name']}{mark}", f"{row['score']:.4g}"] if row else ["", ""]
        table.append(line)
    return table


def sentence(table: Mapping[str, Any], chosen: Chosen, exclude: tuple[int, int] = (0, 0)) -> str:
    """Why these blocks go, for a person, without a full stop."""
    metric, n = METRICS[table["metric"]], len(chosen.blocks)
    said, verb = in_words(chosen.blocks, table["blocks"]), "has" if n == 1 else "have"
    figure = f"{chosen.score:.4g} {metric.unit}".rstrip()
    if metric.shape == "pairs":
        runs = f"{counted(len(ranked_runs(table, n, exclude)), 'run')} of {counted(n, 'block')}"
        return f"of {runs}, {said}, {verb} the least {metric.title}: {figure}"
    total = f"{figure} together" if n > 1 else figure
    one_by_one = "removed one by one, " * (metric.shape == "order")
    return f"{one_by_one}{said}, {verb} the least {metric.title}: {total}"


def texts_read(table: Mapping[str, Any]) -> str:
    """What was read: `60 texts (7,626 tokens)`, and where the model's positions cut them."""
    said = f"{counted(table['rows'], 'text')} ({counted(table['tokens'], 'token')})"
    cut = table.get("cut_at")
    return f"{said}, cut at the model's {counted(cut, 'position')}" if cut else said
