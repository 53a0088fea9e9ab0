"""ARC-Challenge: science questions with three to five answers (allenai/ai2_arc, ARC-Challenge).

    Question: Which property of a mineral can be determined just by looking at it?
    Answer: luster

Scored by acc_norm: the answer with the highest log-probability per character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns question, choices {text, label}, answerKey (`A`.. or `1`..)."""
    texts, labels = row["choices"]["text"], [str(label) for label in row["choices"]["label"]]
    gold = labels.index(str(row["answerKey"]))
    context = f"Question: {row['question']}\nAnswer:"
    return Document((context,), tuple(f" {text}" for text in texts), (gold,), f"{context} {texts[gold]}")
