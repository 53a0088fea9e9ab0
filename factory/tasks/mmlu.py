"""MMLU: four answers to questions of many subjects, by letter (cais/mmlu, one config a subject).

    The following are multiple choice questions (with answers) about abstract algebra.

    Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
    A. 0
    B. 1
    C. 2
    D. 3
    Answer: B

Scored by accuracy; the task's score is the mean over the subjects' means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document

LETTERS = "ABCD"


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns question, subject, choices (four), answer (0..3)."""
    subject = row["subject"].replace("_", " ")
    instruction = f"The following are multiple choice questions (with answers) about {subject}."
    options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, row["choices"], strict=True))
    context = f"{row['question'].strip()}\n{options}Answer:"
    gold = int(row["answer"])
    shot = f"{context} {LETTERS[gold]}"
    return Document((context,), tuple(f" {x}" for x in LETTERS), (gold,), shot, instruction)
