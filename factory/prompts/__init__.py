"""What the models are asked: one Jinja template a prompt kind, beside this file.

Regeneration and training render the same template; only the teacher may be given the `reference`
(the original response), so the training prompt can never contain it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
KINDS = tuple(sorted(path.stem for path in FOLDER.glob("*.jinja")))


@lru_cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined, autoescape=False
    )


def messages(
    kind: str, instruction: str, context: str = "", *, reference: str | None = None
) -> list[dict[str, str]]:
    """The chat messages of one row: a single user turn.

    Args:
        kind: one of `KINDS`.
        instruction: the task of the row.
        context: further input of the row, may be empty.
        reference: the original response, for the teacher that rewrites it; None for training.
    """
    template = _environment().get_template(f"{kind}.jinja")
    text = template.render(instruction=instruction, context=context, reference=reference)
    return [{"role": "user", "content": text}]
