"""One scored question as plain text: what every benchmark file renders its rows into.

Light on purpose (no imports of the libraries): the sandbox writes its pre-training text with it.
"""

from __future__ import annotations

from dataclasses import dataclass


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
