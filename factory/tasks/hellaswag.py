"""HellaSwag: which of four endings follows (Rowan/hellaswag).

    Removing ice from car: Then, the man writes over the snow covering the window of a car, and a woman
    wearing winter clothes smiles. Then , the man continues removing the snow on his car.

Scored by acc_norm: the ending with the highest log-probability per character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document, marked


def clean(text: str) -> str:
    """WikiHow's artefacts out: `[title]` becomes a full stop, other brackets go."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns activity_label, ctx_a, ctx_b, endings, label (a digit string).

    Raises:
        ValueError: no ending has that number.
    """
    context = clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    endings = [clean(ending) for ending in row["endings"]]
    gold = marked(row["label"], range(len(endings)))
    return Document((context,), tuple(f" {e}" for e in endings), (gold,), f"{context} {endings[gold]}")
