"""Mends for a name nobody knows: the nearest known one, or all. For every file that checks names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN, _FEW = 12, 8


def nearest(word: str, known: Iterable[str], like: float = 0.6) -> str | None:
    """The known name most like `word`, if one is so much like it, from 0 to 1 (difflib's ratio)."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in reversed(names)}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=like)
    return lowered[found[0]] if found else None


def suggest(word: str, known: Iterable[str]) -> str:
    """A mend without its full stop: the nearest known name, or what is known."""
    names = sorted(set(known))
    if not names:
        return "There is none to choose from"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    listed = f"known {'is' if len(names) == 1 else 'are'} {', '.join(names[:_SHOWN])}{more}"
    guess = nearest(word, names)
    if guess is None:
        return f"K{listed[1:]}"
    return f"Write '{guess}', if that is meant" + (f"; {listed}" if 1 < len(names) <= _FEW else "")
