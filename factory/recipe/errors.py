"""pydantic's complaints about a recipe as one line each: what, where in the file, how to mend it.

Used by `recipe.py` alone; the words that pydantic gives are for programmers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.recipe.file import RecipeFile
from factory.refused import KIND, written

_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "string_type": "text", "bool_type": "true or false", "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values", "model_attributes_type": "a mapping of keys to values",
    "tuple_type": "a list", "list_type": "a list",
}  # fmt: skip
_LIMITS: Mapping[str, str] = {
    "greater_than_equal": "at least {ge:,.15g}", "less_than_equal": "at most {le:,.15g}",
    "greater_than": "more than {gt:,.15g}", "less_than": "less than {lt:,.15g}",
    "too_long": "at most {max_length} long",
}  # fmt: skip


def first_error(error: ValidationError, file: RecipeFile) -> FactoryError:
    """pydantic's errors as the one that stands first in the file.

    What is written wrong goes before what is missing: a missing key is often a misspelt one.
    """

    def rank(mistake: tuple[FactoryError, bool]) -> tuple[bool, int]:
        where = mistake[0].where or ""
        return mistake[1], int(where.rsplit(":", 1)[1]) if where.startswith(f"{file.name}:") else 0

    entries = [dict(entry) for entry in error.errors(include_url=False)]
    return min(((_describe(entry, file), entry["type"] == "missing") for entry in entries), key=rank)[0]


def _describe(entry: dict[str, Any], file: RecipeFile) -> FactoryError:
    context = entry.get("ctx") or {}
    path: list[str | int] = []
    value: Any = file.data
    for part in entry["loc"]:  # leaves out pydantic's own parts: union tags and `[key]`
        listed = isinstance(value, list) and isinstance(part, int)
        if listed or (isinstance(value, dict) and part in value):
            path.append(part)
            value = value[part]
    for key in str(context.get("at", "")).split("."):
        path += [int(key) if isinstance(value, list) else key] if key else []
    dotted = ".".join(map(str, path)) or "the recipe"
    where, kind, message = file.where(tuple(path)), entry["type"], entry["msg"]
    if kind == KIND:
        inside = ".".join(map(str, path[:-1])) if context.get("inside") else ""
        return FactoryError(
            f"{context['what']} in {inside}" if inside else context["what"], where=where, mend=context["mend"]
        )
    if kind == "missing":
        key = entry["loc"][-1]
        return FactoryError(f"'{key}' is missing in {dotted}", where=where, mend=f"Add `{key}:` there")
    if kind in _EXPECTED:
        if value is None:
            what = f"nothing stands behind {dotted}, where {_EXPECTED[kind]} should"
            return FactoryError(what, where=where, mend="Write it, or leave the key out")
        what = f"{dotted} should be {_EXPECTED[kind]}, not {written(value)}"
        return FactoryError(what, where=where, mend=_instead(path, kind, value))
    if kind == "literal_error":
        known = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        what = f"{dotted} cannot be {written(value)}"
        return FactoryError(what, where=where, mend=suggest(str(value), known))
    if kind == "string_pattern_mismatch":
        name = entry["input"]
        mend = "Use letters, digits, `-`, `_` and `.`, at most 64, with a letter or digit first"
        return FactoryError(f"{written(name)} does not do as a name", where=where, mend=mend)
    if kind in ("too_short", "string_too_short"):
        mend = "Write one at least" if kind == "too_short" else "Write what it is, or leave the key out"
        return FactoryError(f"{dotted} is empty", where=where, mend=mend)
    if kind in _LIMITS:
        what = f"{dotted} should be {_LIMITS[kind].format(**context)}, not {written(value)}"
        return FactoryError(what, where=where, mend="Correct the value")
    what = f"{dotted}: {message[0].lower()}{message[1:]}, not {written(value)}"
    return FactoryError(what, where=where, mend="Correct the value")


def _instead(path: list[str | int], kind: str, value: object) -> str:
    """How to write a value that is one word where more than that belongs."""
    if isinstance(value, str) and re.fullmatch(r"[\w./-]{1,60}", value):
        if kind in ("tuple_type", "list_type"):
            return f"Write [{value}]"
        if path == ["base"] or (len(path) == 2 and path[0] == "datasets"):
            return f"Write {{{'model' if path == ['base'] else 'id'}: {value}}}"
    return "Correct the value"
