"""Winogrande: which of two options the blank stands for (allenai/winogrande, winogrande_xl).

    People think Rebecca | is embarassed, because Samantha made snide comments about the shirt Rebecca
    was wearing.

The option is put into the blank, and the rest of the sentence (behind the bar) is scored after it: two
contexts, one continuation. Scored by accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document, marked


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns sentence (with one `_`), option1, option2, answer (`1` or `2`).

    Raises:
        ValueError: the sentence has no blank, or the answer is neither `1` nor `2`.
    """
    prefix, blank, rest = row["sentence"].partition("_")
    if not blank:
        raise ValueError("the sentence has no blank `_`")
    contexts = (prefix + row["option1"], prefix + row["option2"])
    continuation = f" {rest.strip()}"
    gold = marked(row["answer"], (1, 2))
    return Document(contexts, (continuation, continuation), (gold,), contexts[gold] + continuation)
