"""Sets of blocks in words: as people write them and as they are printed. 0-based, ranges half-open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from factory.errors import FactoryError

MOST = 100_000  # no model has as many blocks
_NUMBER = re.compile(r"\s*[0-9]{1,6}\s*")  # int() reads more: other scripts' digits, 1_0


def parse(text: str) -> tuple[int, ...]:
    """The blocks that a person wrote: `22:28` (22 to 27), `4,7,9`, or both mixed, in ascending order.

    Raises:
        FactoryError: it is none of these, or names no block.
    """
    found: set[int] = set()
    for part in text.split(","):
        start, colon, stop = part.partition(":")
        first = last = 0
        if _NUMBER.fullmatch(start) and (_NUMBER.fullmatch(stop) or not colon):
            first = int(start)
            last = int(stop) if colon else first + 1
        if not 0 <= first < last <= MOST:
            raise FactoryError(
                f"'{text}' names no blocks",
                mend="Write a half-open range such as 22:28 (blocks 22 to 27), or single ones such as 4,7,9",
            )
        found.update(range(first, last))
    return tuple(sorted(found))


def in_words(blocks: Iterable[int], of: int) -> str:
    """The blocks with both ends of runs included: `blocks 4..6 and 9, 0-based, of 12`."""
    ordered = sorted(blocks)
    return f"{'block' if len(ordered) == 1 else 'blocks'} {spans(ordered)}, 0-based, of {of}"


def spans(blocks: Iterable[int]) -> str:
    """The blocks with both ends of runs included: `4..6 and 9`."""
    found = [f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs(sorted(blocks))]
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else found[0]


def runs(ordered: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as runs of neighbours."""
    groups = groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    return [[block for _, block in group] for _, group in groups]
