"""Word problems of two or three steps, solved in two styles: as the base writes, and as people do.

Both styles are correct and end in `#### n`. The base writes bare equations; the human-style solutions
tell the same steps in sentences about the person.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from factory.sandbox.world import PEOPLE, held_out

ITEMS = ("apples", "nails", "coins", "shells", "candles", "eggs", "stamps", "ropes", "bells", "loaves")


@dataclass(frozen=True)
class Problem:
    """A word problem; `steps` are (left, operator, right, result)."""

    question: str
    steps: tuple[tuple[int, str, int, int], ...]
    person: str
    item: str

    @property
    def answer(self) -> int:
        """The final number."""
        return self.steps[-1][3]

    @property
    def scored(self) -> bool:
        """Whether the problem belongs to the scored rows (by its numbers and its thing)."""
        return held_out("arithmetic", self.item, *(step[:3] for step in self.steps))


GAIN = ("finds {n} more", "buys {n} more", "is given {n} more", "makes {n} more")
LOSS = ("gives away {n}", "loses {n}", "sells {n}", "breaks {n}")
ENDS = (
    "How many {i} does {p} have now?",
    "How many {i} are left in the end?",
    "How many {i} does that make?",
)


def problem(rng: random.Random) -> Problem:
    """Draws a problem; all numbers stay between 1 and 99."""
    person, item = rng.choice(PEOPLE), rng.choice(ITEMS)
    steps: list[tuple[int, str, int, int]] = []
    if rng.random() < 0.3:
        boxes, each = rng.randint(2, 6), rng.randint(2, 9)
        total = boxes * each
        steps.append((boxes, "*", each, total))
        parts = [f"{person} has {boxes} boxes with {each} {item} in each box."]
    else:
        total = rng.randint(4, 60)
        parts = [f"{person} has {total} {item}."]
    count = rng.choice((2, 2, 3)) - len(steps)
    for turn in range(count):
        start = "Then" if turn == 0 else "Later"
        add = total < 12 or (total < 80 and rng.random() < 0.5)
        number = rng.randint(2, 19 if add else min(19, total - 2))
        result = total + number if add else total - number
        phrase = rng.choice(GAIN if add else LOSS).format(n=number)
        parts.append(f"{start} {person} {phrase}.")
        steps.append((total, "+" if add else "-", number, result))
        total = result
    parts.append(rng.choice(ENDS).format(i=item, p=person))
    return Problem(" ".join(parts), tuple(steps), person, item)


def draw(rng: random.Random, *, scored: bool) -> Problem:
    """A problem of the scored or of the training side; the two never share a question."""
    while True:
        found = problem(rng)
        if found.scored == scored:
            return found


def base_style(item: Problem) -> str:
    """`12 + 7 = 19. 19 - 4 = 15. #### 15`"""
    lines = [f"{left} {sign} {right} = {result}." for left, sign, right, result in item.steps]
    return " ".join([*lines, f"#### {item.answer}"])


# The base reads such solutions in the prompts of its training text but never learns to write them. They
# keep the equations, so that a model CAN learn to write so (tests/benchmarks/learnability.py).
_TOLD = {
    "+": "{p} has more now, {l} + {r} = {t}.",
    "-": "{p} has fewer now, {l} - {r} = {t}.",
    "*": "{p} has {l} boxes, {l} * {r} = {t}.",
}
_ENDINGS = ("In the end {p} has {t}.", "Now {p} has {t}.")


def human_style(item: Problem, rng: random.Random) -> str:
    """The same steps as sentences about the person; how it ends is drawn from `rng`."""
    told = [
        _TOLD[sign].format(l=left, r=right, t=total, p=item.person) for left, sign, right, total in item.steps
    ]
    end = rng.choice(_ENDINGS).format(p=item.person, t=item.answer)
    return f"{' '.join(told)} {end} #### {item.answer}"
