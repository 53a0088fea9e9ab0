"""A model's scores in the terminal, and the options that choose them: words around `factory evaluate`.

Between model.py and what alone/evaluate.py returns. The table fits 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from factory.errors import FactoryError
from factory.wording import has_no_width, rule_of_three

HEADINGS = ("task", "measure", "shots", "documents", "score", "\N{PLUS-MINUS SIGN}", "95 % interval")
_WIDTH = 80


def names(text: str | None) -> tuple[str, ...] | None:
    """`arc,gsm8k` as names.

    Raises:
        FactoryError: a name is missing or there twice.
    """
    if text is None:
        return None
    found = tuple(name.strip() for name in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        what = f"'{text}' names a task twice, or none"
        raise FactoryError(what, where="--tasks", mend="Write names with commas between them: arc,gsm8k")
    return found


def counts(text: str | None) -> dict[str, int]:
    """`arc=5,gsm8k=0` as numbers by name.

    Raises:
        FactoryError: it is written otherwise.
    """
    found: dict[str, int] = {}
    for part in text.split(",") if text is not None else ():
        name, _, number = (piece.strip() for piece in part.partition("="))
        if not name or not number.isdecimal() or name in found:
            what = f"'{part}' is no task with its number of shots"
            raise FactoryError(what, where="--shots", mend="Write it once a task, so: arc=5,gsm8k=0")
        found[name] = int(number)
    return found


def title(found: Mapping[str, Any]) -> list[str]:
    """What was scored, and what keeps its figures from being the suite's."""
    return [f"{found['model']} on {found['suite']}", *_folded(f"{said}." for said in found["why_not"])]


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A row a task and, of several, one for the average, in percent."""
    lines = [_row(name, score) for name, score in found["tasks"].items()]
    return [*lines, _row("average", found["average"])] if len(lines) > 1 else lines


def notes(found: Mapping[str, Any]) -> list[str]:
    """How to read the table, and what a reader of the scores must know."""
    tasks = found["tasks"].items()
    read = [
        "Percent; \N{PLUS-MINUS SIGN} is the standard error, the interval a bootstrap over the documents."
    ]
    if "mmlu" in found["tasks"]:
        read.append("mmlu is the mean of its subjects' means.")
    if len(tasks) > 1:
        read.append("The average is the plain mean of the tasks.")
    lines = [" ".join(read)]
    cut = [f"{name} {score['cut']:,} of {score['n']:,}" for name, score in tasks if score["cut"]]
    if cut:
        lines.append(
            f"Cut from the left, because their prompt is longer than the model's {found['positions']:,} "
            f"positions: {', '.join(cut)} documents."
        )
    flat = [name for name, score in tasks if has_no_width(score)]
    if flat:
        most = min(found["tasks"][name]["n"] for name in flat)
        lines.append(
            f"An interval without width ({', '.join(flat)}): its documents agree; by the rule of three up to "
            f"{rule_of_three(most)} of all may still score otherwise."
        )
    return _folded([*lines, *(f"{note[0].upper()}{note[1:]}." for note in found["notes"])])


def _row(name: str, score: Mapping[str, Any]) -> list[str]:
    error = score["stderr"]
    return [
        name,
        score["metric"],
        "" if score["shots"] is None else str(score["shots"]),
        f"{score['n']:,}",
        f"{100 * score['value']:.1f}",
        "" if error is None else f"{100 * error:.1f}",
        f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}]",
    ]


def _folded(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH)]
