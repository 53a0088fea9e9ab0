"""Does a regenerated response still carry the original's answer? Regeneration asks here, row by row.

A check extracts the answer of both texts and compares them; two texts without an answer never count as
equal. `judge` puts all tests in a row: a response that was cut off, is empty, speaks of the reference it was
shown, or has lost the answer fails, and says why. selection.py decides what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from factory.engines import Generated

Check = Callable[[Mapping[str, str], str], str]
"""(row, generated text) -> "ok" or the reason against it."""

OK = "ok"
DIFFERS = "answer differs"
NOT_FOUND = "no answer found"
TRUNCATED = "truncated"
NO_ROOM = "prompt leaves no room"
LEAK = "speaks of the reference"
EMPTY = "empty"
REASONS = (OK, DIFFERS, NOT_FOUND, TRUNCATED, NO_ROOM, LEAK, EMPTY)

# A minus is a sign only where nothing stands before it that could be subtracted from.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-\u2212])?\$?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)
_MARKED = re.compile(r"####([^\n]*)")


def final_number(text: str) -> str | None:
    """The final number of a worked solution, in one spelling: `1,200.50` and `1200.5` are the same.

    It is the first number behind the last `####`; where there is none, the last number of the text.
    None where the text has no number.
    """
    for marked in reversed(_MARKED.findall(text)):
        if numbers := _numbers(marked):
            return numbers[0]
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[str]:
    return [_plain(number) for number in _NUMBER.findall(text)]


def _plain(number: str) -> str:
    """Without thousands separators, leading or trailing zeros; text, since a float would round."""
    negative = number[0] in "-\u2212"
    whole, _, fraction = number.lstrip("-\u2212$").replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if negative and value != "0" else value


_LETTER = (
    re.compile(r"(?i:\banswer\b)(?:\s+(?i:is))?\s*[:=]?\s*\(?([A-J])\b(?!['\u2019])"),
    re.compile(r"^\s*\(?([A-J])(?=[).:,]|\s*$)", re.MULTILINE),
    re.compile(r"\(([A-J])\)"),
)


def choice_letter(text: str) -> str | None:
    """The letter A to J of the option that a text chooses; None where it names none.

    Looked for in this order, the last one counting: behind the word "answer"; at the start of a line,
    before `)`, `.`, `:`, `,` or the line's end; in brackets.
    """
    for pattern in _LETTER:
        if letters := pattern.findall(text):
            return str(letters[-1])
    return None


def _words(text: str) -> str:
    return " ".join(text.casefold().split())


def _reference(row: Mapping[str, str]) -> str:
    """Where the right answer is read: the row's `answer` column, else its response."""
    return row.get("answer") or row["response"]


def _same(extract: Callable[[str], str | None]) -> Check:
    def check(row: Mapping[str, str], generated: str) -> str:
        mine, theirs = extract(generated), extract(_reference(row))
        if mine is None or theirs is None:
            return NOT_FOUND
        return OK if mine == theirs else DIFFERS

    return check


def _contains(row: Mapping[str, str], generated: str) -> str:
    """The `answer` column as whole words of the text, whatever the case and the white space."""
    answer = _words(row.get("answer") or "")
    if not answer:
        return NOT_FOUND
    # Not \b: an answer may begin or end in a sign, such as "$5" or "C++".
    return OK if re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", _words(generated)) else DIFFERS


CHECKS: Mapping[str, Check] = {
    "final_number": _same(final_number),
    "choice_letter": _same(choice_letter),
    "exact": _same(lambda text: " ".join(text.split()) or None),
    "contains": _contains,
    "none": lambda row, generated: OK,
}


REGEX = "regex:"
"""Before a pattern of the user's own: `regex:Final answer: (.+)`."""


@lru_cache
def find(name: str) -> Check:
    """The check of a name in `CHECKS`, or of a pattern behind `regex:`.

    A pattern finds the last place where it matches; what its first group holds there (the whole match,
    where it has none) is the answer, white space aside.

    Raises:
        KeyError: there is no such check.
        re.error: the pattern is none.
    """
    if not name.startswith(REGEX):
        return CHECKS[name]
    pattern = re.compile(name.removeprefix(REGEX), re.MULTILINE)

    def last(text: str) -> str | None:
        found = None
        for match in pattern.finditer(text):
            found = match[1] if pattern.groups else match[0]
        return " ".join((found or "").split()) or None

    return _same(last)


def has_answer(row: Mapping[str, str], check: str) -> bool:
    """Whether a check finds in a row the answer that a regenerated response is to keep."""
    return find(check)(row, _reference(row)) == OK


# What a model says when it talks about the response that it was shown, instead of giving its own.
_LEAKS = re.compile(
    r"\b(?:reference|provided|given|original) (?:answer|solution|response)s?\b"
    r"|\b(?:the|this|that|your) reference\b"
    r"|\b(?:in|using) (?:my|your) own words\b"
)


def speaks_of_reference(row: Mapping[str, str], generated: str) -> bool:
    """Whether a text names the reference that its reader will not see.

    A phrase that already stands in the row's own instruction, context or response is no sign of it.
    """
    own = _words(" ".join(row.get(column, "") for column in ("instruction", "context", "response")))
    return any(phrase not in own for phrase in _LEAKS.findall(_words(generated)))


def judge(row: Mapping[str, str], generated: Generated, check: str) -> str:
    """`OK`, or what speaks against a regenerated response, one of `REASONS`.

    Args:
        row: instruction, context, response (the original) and answer, "" where there is none.
        generated: what the engine gave for it.
        check: a name that `find` knows.
    """
    if reason := flaw(generated):
        return reason
    if speaks_of_reference(row, generated.text):
        return LEAK
    return find(check)(row, generated.text)


def flaw(generated: Generated) -> str | None:
    """Why a text is no response at all: it was cut off, could not even begin, or says nothing."""
    if generated.finish != "stop":
        return TRUNCATED if generated.text or generated.new_tokens else NO_ROOM
    return None if generated.text.strip() else EMPTY
