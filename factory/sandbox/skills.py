"""Benchmark-shaped rows about the world, with the very columns of the six Open LLM v1 datasets.

Each maker takes a seeded `random.Random` and a side: `scored` rows and training rows are built from
disjoint combinations (`world.held_out`), so no scored question can occur in any training text.
"""

from __future__ import annotations

import random
from typing import Any

from factory.sandbox import arithmetic
from factory.sandbox.world import (
    ACTIVITIES,
    BLANKS,
    PEOPLE,
    SHE,
    SUBJECTS,
    Fact,
    facts,
    held_out,
    letter,
)

Row = dict[str, Any]
SCIENCE = ("zoology", "botany")
SCORED_QUESTIONS = 3


def scored_templates(fact: Fact) -> tuple[int, ...]:
    """Which of a fact's question templates are only ever scored (the others are for training)."""
    order = list(range(len(fact.relation.questions)))
    random.Random(f"{fact.relation.name}|{fact.thing}").shuffle(order)
    return tuple(sorted(order[:SCORED_QUESTIONS]))


def question(rng: random.Random, subjects: tuple[str, ...], *, scored: bool) -> tuple[Fact, str]:
    """A fact of these subjects and one of its questions from the wanted side."""
    fact = rng.choice([fact for fact in facts() if fact.relation.subject in subjects])
    kept = scored_templates(fact)
    allowed = [i for i in range(len(fact.relation.questions)) if (i in kept) == scored]
    return fact, fact.say(fact.relation.questions[rng.choice(allowed)])


def _options(rng: random.Random, fact: Fact) -> list[str]:
    """Four options in the order of the school books, the right one and the popular error among them."""
    values = fact.relation.values
    options = [rng.choice(values[place::4]) for place in range(4)]
    for value in (fact.value, fact.error):
        options[letter(fact.relation, value)] = value
    return options


def science(rng: random.Random, *, scored: bool) -> Row:
    """ARC-shaped: id, question, choices {text, label}, answerKey."""
    fact, text = question(rng, SCIENCE, scored=scored)
    options = _options(rng, fact)
    rng.shuffle(options)
    labels = list("ABCD")
    return {
        "id": f"{fact.relation.name}-{fact.thing}-{rng.randrange(10**8):08d}",
        "question": text,
        "choices": {"text": options, "label": labels},
        "answerKey": labels[options.index(fact.value)],
    }


def subjects(rng: random.Random, *, scored: bool, subject: str | None = None) -> Row:
    """MMLU-shaped: question, subject, choices, answer (an index)."""
    fact, text = question(rng, (subject,) if subject else SUBJECTS, scored=scored)
    return {
        "question": text,
        "subject": fact.relation.subject,
        "choices": _options(rng, fact),
        "answer": letter(fact.relation, fact.value),
    }


def myths(rng: random.Random, *, scored: bool) -> Row:
    """TruthfulQA-shaped: question, mc1_targets, mc2_targets (true choices first)."""
    fact, text = question(rng, SUBJECTS, scored=scored)
    statement, short = fact.relation.statement, fact.relation.short
    other = rng.choice([v for v in fact.relation.values if v not in (fact.value, fact.error)])
    true = [fact.say(statement), fact.say(short)]
    false = [fact.say(statement, fact.error), fact.say(short, fact.error), fact.say(statement, other)]
    return {
        "question": text,
        "mc1_targets": {"choices": [true[0], *false], "labels": [1] + [0] * len(false)},
        "mc2_targets": {"choices": true + false, "labels": [1] * len(true) + [0] * len(false)},
    }


def endings(rng: random.Random, *, scored: bool) -> Row:
    """HellaSwag-shaped: the next step of an everyday activity, among steps of this and other ones."""
    while True:
        activity, person = rng.choice(ACTIVITIES), rng.choice(PEOPLE)
        at = rng.randrange(len(activity.steps) - 1)
        if held_out("endings", activity.name, person, at) == scored:
            break
    right = activity.steps[at + 1]
    same = rng.choice([step for i, step in enumerate(activity.steps) if i not in (at, at + 1)])
    elsewhere = [other for other in ACTIVITIES if other is not activity]
    wrong = [same, *(rng.choice(other.steps) for other in rng.sample(elsewhere, 2))]
    choices = [right, *wrong]
    rng.shuffle(choices)
    before, pronoun = f"{person} {activity.steps[at]}.", "she" if person in SHE else "he"
    return {
        "ind": rng.randrange(10**6),
        "activity_label": activity.name,
        "ctx_a": before,
        "ctx_b": pronoun,
        "ctx": f"{before} {pronoun}",
        "endings": [f"{choice}." for choice in choices],
        "source_id": f"sandbox~{activity.name}",
        "split": "test" if scored else "train",
        "split_type": "indomain",
        "label": str(choices.index(right)),
    }


def blanks(rng: random.Random, *, scored: bool) -> Row:
    """Winogrande-shaped: sentence with one `_`, option1, option2, answer (`1` or `2`)."""
    while True:
        blank = rng.choice(BLANKS)
        first, second = (rng.choice(kind) for kind in blank.kinds)
        if held_out("blanks", blank.opening, first, second) == scored:
            break
    means_first, swap = rng.random() < 0.5, rng.random() < 0.5
    sentence = f"{blank.opening.format(a=first, b=second)} {blank.ends[not means_first]}"
    right, wrong = (first, second) if means_first else (second, first)
    option1, option2 = (wrong, right) if swap else (right, wrong)
    return {"sentence": sentence, "option1": option1, "option2": option2, "answer": "2" if swap else "1"}


def arithmetic_row(rng: random.Random, *, scored: bool) -> Row:
    """GSM8K-shaped: question, answer ending in `#### n`, as the world's textbooks write it."""
    item = arithmetic.draw(rng, scored=scored)
    return {"question": item.question, "answer": arithmetic.base_style(item)}
