"""Conversations as rows: a dataset's `messages`, read for the prompt `chat`.

Between rows.py, which reads rows, and prompts/, which renders them. The last turn of the assistant is the
response, the turn of the user before it the instruction, and all before that the context, as JSON.
"""

from __future__ import annotations

import json
from typing import Any

from factory import prompts
from factory.errors import FactoryError

COLUMN = "messages"


def row(value: Any, index: int, where: str) -> dict[str, str]:
    """A conversation as instruction, context, response and answer.

    Args:
        value: a list of {role, content}.
        index: of the row, from 0, for messages.
        where: the dataset, for messages.

    Raises:
        FactoryError: it is no conversation that ends with a question and its answer.
    """
    mend = "Correct the row, or leave it out"
    try:
        turns = prompts.turns(json.dumps(value))
    except (TypeError, ValueError):
        what = f"column '{COLUMN}' holds no list of {{role, content}} in row {index} (from 0)"
        raise FactoryError(what, where=where, mend=mend) from None
    if [turn["role"] for turn in turns[-2:]] != ["user", "assistant"]:
        what = f"the conversation in row {index} (from 0) does not end with the user and then the assistant"
        raise FactoryError(what, where=where, mend=mend)
    *before, question, answer = turns
    context = json.dumps(before, ensure_ascii=False) if before else ""
    return {
        "instruction": question["content"], "context": context, "response": answer["content"], "answer": "",
    }  # fmt: skip
