"""One scored question as plain text: what every benchmark file renders its rows into.

Light on purpose (no imports of the libraries): the sandbox writes its pre-training text with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Document:
    """A rendered row.

    Attributes:
        contexts: the text before the answer: one for all choices, or one per choice (Winogrande).
        choices: the continuations that are compared, each with its leading space; for a generative
            task the single reference answer.
        gold: indices of the right choices.
        instruction: text that stands once before the shots, without the blank line after it.
        shot: how the document reads as a solved example.
    """

    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    gold: tuple[int, ...]
    shot: str
    instruction: str = ""


def with_shots(document: Document, shots: list[Document]) -> tuple[str, ...]:
    """Each context of `document` behind its instruction and its solved examples, by blank lines."""
    head = [document.instruction] if document.instruction else []
    before = "".join(f"{part}\n\n" for part in [*head, *(shot.shot for shot in shots)])
    return tuple(before + context for context in document.contexts)


def marked(value: Any, answers: Sequence[Any]) -> int:
    """Which of `answers` a row's value marks as right.

    Args:
        value: as the row has it; compared as text, so that `1` and `"1"` are the same.
        answers: what may stand there, in the order of the choices.

    Raises:
        ValueError: it is none of them, as where the answer is kept secret.
    """
    if isinstance(value, float) and value.is_integer():  # JSON and CSV may have 1.0
        value = int(value)
    texts = [str(answer) for answer in answers]
    if str(value) not in texts:
        raise ValueError(f"none of its choices is marked as right: its answer is '{value}'")
    return texts.index(str(value))


def as_long(choices: Sequence[Any], labels: Sequence[Any]) -> None:
    """Checks that every choice has its label.

    Raises:
        ValueError: there are more of one kind.
    """
    if len(choices) != len(labels):
        raise ValueError(f"its choices are {len(choices)}, its labels {len(labels)}")
