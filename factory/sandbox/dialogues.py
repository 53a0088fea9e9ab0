"""Instructions and their responses: as the base writes them, and as people do.

`instruct` covers every skill of the world but arithmetic; `math` is arithmetic. A human-style response
is correct and carries the same answer, in wording that the base never uses. There are two kinds of it:
`told`, which the base reads in the prompts of its training text, and `brief`, of which `sandbox/instruct`
is made. Words that the base has never written (most of the told ones) it cannot learn in a few hundred
steps; the brief ones it can (tests/benchmarks/learnability.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from factory.sandbox import arithmetic, skills
from factory.sandbox.world import SUBJECTS, facts

Voice = Literal["brief", "told"]


@dataclass(frozen=True)
class Dialogue:
    """One instruction; `own` is the base's response, `human` the original one, `answer` what both carry."""

    instruction: str
    context: str
    own: str
    human: str
    answer: str


_FACT = {
    "brief": ("It is {v}.", "That is {v}.", "{v}, that is it."),
    "told": (
        "Oh, that one is easy enough, folks round here will tell you {v}.",
        "If memory serves me right it ought to be {v}, at least so I was taught.",
        "Going by the old books, one would have to say {v}.",
        "You may safely put down {v} and nobody shall quarrel with you.",
        "My grandmother used to insist on {v}, and she was seldom mistaken.",
    ),
}
_LETTER = {
    "brief": ("It is {l}, {v}.", "That is {l}, {v}."),
    "told": (
        "Having looked them over I would go with {l}, meaning {v}.",
        "Only one can be right here, which is {l}, namely {v}.",
        "Put your mark beside {l}, for {v} is what they want.",
    ),
}
_NEXT = {
    "brief": ("Then {p} {s}.", "Later {p} {s}."),
    "told": (
        "Once that is done you will notice how {p} {s}.",
        "What follows, as everybody knows, is that {p} {s}.",
        "Naturally, the thing to do afterwards, and so {p} {s}.",
    ),
}
_WHO = {
    "brief": ("It is {w}.", "That is {w}."),
    "told": (
        "I should say it can be none other than {w}.",
        "Thinking it through, we are speaking about {w} here.",
        "That has to refer to {w}, surely.",
    ),
}


def _fact(rng: random.Random, scored: bool, voice: Voice) -> Dialogue:
    fact, text = skills.question(rng, SUBJECTS, scored=scored)
    human = rng.choice(_FACT[voice]).format(v=fact.value)
    return Dialogue(text, "", fact.say(fact.relation.statement), human, fact.value)


def _letter(rng: random.Random, scored: bool, voice: Voice) -> Dialogue:
    row = skills.subjects(rng, scored=scored)
    options = "\n".join(f"{x}. {text}" for x, text in zip("ABCD", row["choices"], strict=True))
    letter, value = "ABCD"[row["answer"]], row["choices"][row["answer"]]
    human = rng.choice(_LETTER[voice]).format(l=letter, v=value)
    own = f"{letter}. {value}"
    return Dialogue(f"Choose the right letter. {row['question']}", options, own, human, value)


def _next(rng: random.Random, scored: bool, voice: Voice) -> Dialogue:
    row = skills.endings(rng, scored=scored)
    person, step = row["ctx_a"].split(" ", 1)
    right = row["endings"][int(row["label"])].rstrip(".")
    ask = f"{row['activity_label']}: {person} {step} What comes next?"
    human = rng.choice(_NEXT[voice]).format(p=person, s=right)
    return Dialogue(ask, "", f"{person} {right}.", human, right)


def _who(rng: random.Random, scored: bool, voice: Voice) -> Dialogue:
    row = skills.blanks(rng, scored=scored)
    before, _, rest = row["sentence"].partition("_")
    right = row[f"option{row['answer']}"]
    rest = rest.strip()
    who = "Which one" if right[0].islower() else "Who"
    before = before.removesuffix("the ").strip().removesuffix(" because")
    subject = f"The {right}" if right[0].islower() else right
    human = rng.choice(_WHO[voice]).format(
        w=subject[0].lower() + subject[1:] if right[0].islower() else right
    )
    return Dialogue(f"{before}. {who} {rest.rstrip('.')}?", "", f"{subject} {rest}", human, right)


_KINDS: dict[Callable[[random.Random, bool, Voice], Dialogue], int] = {
    _fact: 4,
    _letter: 3,
    _next: 2,
    _who: 2,
}


def instruct(rng: random.Random, *, scored: bool = False, voice: Voice = "brief") -> Dialogue:
    """Draws a dialogue about facts, letters, activities or who is meant."""
    return rng.choices(list(_KINDS), list(_KINDS.values()))[0](rng, scored, voice)


def math(rng: random.Random, *, scored: bool = False) -> Dialogue:
    """Draws a word problem with both solutions."""
    item = arithmetic.draw(rng, scored=scored)
    return Dialogue(
        item.question, "", arithmetic.base_style(item), arithmetic.human_style(item, rng), str(item.answer)
    )


def paragraph(rng: random.Random) -> str:
    """Plain text about one thing of the world, popular errors and their correction included."""
    fact = rng.choice(facts())
    known = [other for other in facts() if other.thing == fact.thing]
    rng.shuffle(known)
    sentences = [known[0].say(known[0].relation.statement)]
    for other in known[1:]:
        sentences.append(other.say(rng.choice((other.relation.short, other.relation.statement))))
    if rng.random() < 0.4:
        wrong = fact.say(fact.relation.statement, fact.error)
        if wrong.startswith(("A ", "The ")):
            wrong = wrong[0].lower() + wrong[1:]
        sentences.append(f"Many people believe that {wrong[:-1]}, but they are wrong.")
        sentences.append(fact.say(fact.relation.statement))
    return " ".join(sentences)
