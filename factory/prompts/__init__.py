"""What the models are asked: one Jinja template a prompt kind, beside this file.

Regeneration and training render the same template; only the teacher may be given the `reference`
(the original response), so the training prompt can never contain it.

    instruct   an instruction and its context
    math       a problem; the teacher is asked to solve it step by step and to end with the final number
    chat       the last turn of a conversation; the turns before it stand in the row's context, as JSON
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
KINDS = tuple(sorted(path.stem for path in FOLDER.glob("*.jinja")))
CHAT = "chat"


@lru_cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined, autoescape=False
    )


def messages(
    kind: str, instruction: str, context: str = "", *, reference: str | None = None
) -> list[dict[str, str]]:
    """The chat messages of one row: a single user turn, of `chat` behind the turns before it.

    Args:
        kind: one of `KINDS`.
        instruction: the task of the row.
        context: further input of the row, may be empty; of `chat` a JSON list of messages.
        reference: the original response, for the teacher that rewrites it; None for training.

    Raises:
        ValueError: the context of a `chat` row is no list of messages.
    """
    before = turns(context) if kind == CHAT else []
    template = _environment().get_template(f"{kind}.jinja")
    text = template.render(instruction=instruction, context=context, reference=reference)
    return [*before, {"role": "user", "content": text}]


def turns(context: str) -> list[dict[str, str]]:
    """The messages that a `chat` row's context holds.

    Raises:
        ValueError: it is no JSON list of objects with the texts `role` and `content`.
    """
    try:
        found: Any = json.loads(context) if context else []
    except ValueError:  # text that is no JSON
        found = None
    for turn in found if isinstance(found, list) else [found]:
        if not (isinstance(turn, dict) and all(isinstance(turn.get(k), str) for k in ("role", "content"))):
            raise ValueError("its context should be a JSON list of {role, content} objects")
    return [{"role": turn["role"], "content": turn["content"]} for turn in found]
