"""Words of the cards: the templates of model_cards/ with what they print figures, links and texts by.

Under card.py. Figures look as in the report (stages/pages.py); what a model or a dataset wrote is shown as it
is, and runs nowhere.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import factory
from factory.data import selection
from factory.figures import disturbed, recorded_notes, recorded_rows
from factory.hub.card_run import Origin
from factory.stages import draft_words, pages, report_drift
from factory.wording import counted, duration

LINE = 84  # characters of a text in a line of code
_HERE = Path(factory.__file__).parent


def render(template: str, values: Mapping[str, Any]) -> str:
    """A card from a template in model_cards/.

    Raises:
        LookupError, jinja2.UndefinedError: the values lack something.
    """
    # An installed package has the templates inside; a checkout beside.
    environment = pages.templates(_HERE / "model_cards", _HERE.parent / "model_cards")
    environment.filters |= {
        "percent": pages.percent,
        "interval": lambda estimate: _together(pages.interval(estimate)),
        "points": lambda difference: _together(pages.points(difference)),
        "cell": cell,
        "duration": duration,
        "made": pages.made_how,
        "verdict": pages.verdict,
        "trained": pages.trained_how,
        "measured": recorded_rows,
        "measured_notes": recorded_notes,
        "number": lambda value: f"{value:,}",
        "draft_acceptance": draft_words.acceptance,
        "draft_speed": draft_words.speed,
        "draft_pays": draft_words.pays,
        "draft_by_set": draft_words.by_set,
        "disturbed": disturbed,
        "linked": linked,
        "data_linked": data_linked,
        "meaning": selection.MEANING.__getitem__,
        "figured": lambda estimate: _together(report_drift.figured(estimate)),
        "shared": lambda estimate: _together(report_drift.shared(estimate)),
        "asked": report_drift.asked,
    }
    environment.globals |= {"counted": counted}
    return environment.get_template(template).render(values)


def cell(text: object) -> str:
    """Any text in one cell of a table, shown as it is; ends of lines as arrows, for cards hold no HTML."""
    lines = str(text).replace("\r\n", "\n").replace("\r", "\n")  # Markdown knows all three
    return pages.cell(lines).replace("<br>", " \N{DOWNWARDS ARROW WITH CORNER LEFTWARDS} ")


def quoted(text: str) -> str:
    """A text as a literal of Python, over several lines where it is long."""
    lines = [json.dumps(line, ensure_ascii=False) for line in _folded(text)]
    return lines[0] if len(lines) == 1 else "(\n" + textwrap.indent("\n".join(lines), "    ") + "\n)"


def _folded(text: str) -> list[str]:
    """The text in pieces that fit a line and together are the whole of it."""
    lines = [""]
    for word in re.findall(r"\S*\s*", text):
        if lines[-1] and len(lines[-1]) + len(word) > LINE:
            lines.append("")
        lines[-1] += word
    return lines


def _together(estimate: str) -> str:
    """`84.9 [80.1, 90.3]`, whose interval stays on one line."""
    return estimate.replace(", ", ",\N{NO-BREAK SPACE}")


def linked(origin: Origin) -> str:
    """A model or dataset from outside, with its link and revision."""
    kind = {"sandbox": "part of the factory", "folder": "a local folder"}.get(origin.kind)
    if kind:
        return f"`{origin.name}` ({kind}, content hash `{origin.fingerprint}`)"
    place = "datasets/" if origin.repo == "dataset" else ""
    link = f"https://huggingface.co/{place}{origin.reference}/tree/{origin.fingerprint}"
    return f"[{origin.reference}]({link}) at `{origin.fingerprint}`"


def data_linked(repo_id: str) -> str:
    """A published dataset, with its link."""
    return f"[{repo_id}](https://huggingface.co/datasets/{repo_id})"
