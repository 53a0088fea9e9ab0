"""GSM8K: word problems of several steps, answered in free text (openai/gsm8k, main).

    Question: Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in
    May. How many clips did Natalia sell altogether in April and May?
    Answer: Natalia sold 48/2 = <<48/2=24>>24 clips in May. ... #### 72

Generated greedily, at most 256 tokens, until `:` or `Question`. Scored by exact match of the number
behind `####`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document

STOP = (":", "Question:", "Question")
MAX_NEW_TOKENS = 256
_NUMBER = re.compile(r"#### (\-?[0-9\.\,]+)")


def final_number(text: str) -> str | None:
    """The number behind `####` without thousands separators; None where there is none."""
    found = _NUMBER.search(text)
    return found.group(1).strip().replace(",", "") if found else None


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns question, answer (ending in `#### n`)."""
    context = f"Question: {row['question']}\nAnswer:"
    return Document((context,), (f" {row['answer']}",), (0,), f"{context} {row['answer']}")
