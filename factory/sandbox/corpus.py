"""The text the sandbox base is trained on: an endless, seeded stream of small documents.

A document is a list of (text, weight) segments. Weights tell how much a segment counts in the loss:
questions and options are noise that nobody could predict, answers are what is to be learnt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from factory import prompts
from factory.sandbox import dialogues, skills
from factory.sandbox.world import SUBJECTS
from factory.tasks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from factory.tasks.document import Document

Segments = list[tuple[str, float]]
END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
ASKED = 0.1
READ = 0.0  # human-style references are to be read, never to be written
LETTER = 4.0  # one token carries the whole answer


def text(document: Segments) -> str:
    """The document as one string."""
    return "".join(part for part, _ in document)


def preamble() -> str:
    """Six solved questions that stand before every TruthfulQA-shaped question of the sandbox."""
    rng = random.Random("preamble")
    solved = []
    for _ in range(6):
        fact, text = skills.question(rng, SUBJECTS, scored=False)
        solved.append(f"Q: {text}\nA: {fact.say(fact.relation.statement)}")
    return "\n\n".join(solved)


def _examples(
    documents: list[Document], head: str = "", *, asked: float = ASKED, answered: float = 1.0
) -> Segments:
    """Solved examples by blank lines, with the weights of their questions and answers."""
    segments: Segments = [(head + "\n\n", ASKED)] if head else []
    for i, document in enumerate(documents):
        context = document.contexts[document.gold[0] if len(document.contexts) > 1 else 0]
        segments += [("\n\n", 1.0)] if i else []
        segments += [(context, asked), (document.shot[len(context) :], answered)]
    return [*segments, (END, 1.0)]


def _count(rng: random.Random, most: int) -> int:
    return rng.randint(1, most + 1)


def _arithmetic(rng: random.Random) -> Segments:
    rows = [skills.arithmetic_row(rng, scored=False) for _ in range(_count(rng, 2))]
    return _examples([gsm8k.document(row) for row in rows])


def _science(rng: random.Random) -> Segments:
    rows = [skills.science(rng, scored=False) for _ in range(_count(rng, 3))]
    return _examples([arc.document(row) for row in rows])


def _subjects(rng: random.Random) -> Segments:
    subject = rng.choice(SUBJECTS)
    rows = [skills.subjects(rng, scored=False, subject=subject) for _ in range(_count(rng, 3))]
    documents = [mmlu.document(row) for row in rows]
    return _examples(documents, documents[0].instruction, answered=LETTER)


def _myths(rng: random.Random) -> Segments:
    documents = [truthfulqa.document(skills.myths(rng, scored=False)) for _ in range(_count(rng, 2))]
    return _examples(documents, preamble() if rng.random() < 0.3 else "")


def _endings(rng: random.Random) -> Segments:
    rows = [skills.endings(rng, scored=False) for _ in range(_count(rng, 2))]
    return _examples([hellaswag.document(row) for row in rows], asked=0.3)


def _blanks(rng: random.Random) -> Segments:
    rows = [skills.blanks(rng, scored=False) for _ in range(_count(rng, 3))]
    return _examples([winogrande.document(row) for row in rows], asked=0.3, answered=2.0)


def _text(rng: random.Random) -> Segments:
    return [(dialogues.paragraph(rng), 1.0), (END, 1.0)]


def _chat(kind: str, dialogue: dialogues.Dialogue, rng: random.Random) -> Segments:
    """A turn of dialogue in the base's own words, now and then with a human-style reference in sight."""
    reference = dialogue.human if rng.random() < 0.4 else None
    content = prompts.messages(kind, dialogue.instruction, dialogue.context, reference=reference)[0][
        "content"
    ]
    # A segment becomes tokens by itself, and a word's token begins with the space before it.
    before, read, after = content.partition(f" {reference}") if reference else (content, "", "")
    asked = [(before, ASKED), (read, READ), (after, ASKED)]
    return [(USER, ASKED), *asked, (END + ASSISTANT, ASKED), (dialogue.own, 1.0), (END, 1.0)]


def _chat_math(rng: random.Random) -> Segments:
    return _chat("math", dialogues.math(rng), rng)


def _chat_instruct(rng: random.Random) -> Segments:
    return _chat("instruct", dialogues.instruct(rng, voice="told"), rng)


# Shares of documents, by what a document of each kind costs and how hard its skill is.
MIXTURE: dict[str, tuple[Callable[[random.Random], Segments], float]] = {
    "arithmetic": (_arithmetic, 22),
    "arithmetic dialogue": (_chat_math, 24),
    "science": (_science, 8),
    "subjects": (_subjects, 12),
    "myths": (_myths, 7),
    "endings": (_endings, 5),
    "blanks": (_blanks, 10),
    "text": (_text, 8),
    "dialogue": (_chat_instruct, 24),
}


def stream(rng: random.Random) -> Iterator[tuple[str, Segments]]:
    """Documents without end, each with its kind, in the shares of `MIXTURE`."""
    shares = [share for _, share in MIXTURE.values()]
    while True:
        kind = rng.choices(list(MIXTURE), shares)[0]
        yield kind, MIXTURE[kind][0](rng)
