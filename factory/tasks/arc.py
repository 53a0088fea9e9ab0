"""ARC-Challenge: science questions with three to five answers (allenai/ai2_arc, ARC-Challenge).

    Question: Which property of a mineral can be determined just by looking at it?
    Answer: luster

Scored by acc_norm: the answer with the highest log-probability per character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document, as_long, marked


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns question, choices {text, label}, answerKey (`A`.. or `1`..).

    Raises:
        ValueError: a choice has no label, or no label is the answer.
    """
    texts, labels = row["choices"]["text"], row["choices"]["label"]
    as_long(texts, labels)
    gold = marked(row["answerKey"], labels)
    context = f"Question: {row['question']}\nAnswer:"
    return Document((context,), tuple(f" {text}" for text in texts), (gold,), f"{context} {texts[gold]}")
