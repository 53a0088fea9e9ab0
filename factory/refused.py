"""What a check of a recipe's value raises inside pydantic: what is wrong and how to mend it, in our words.

For the parts of a recipe, wherever they stand; recipe/errors.py adds the line.
"""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic_core import PydanticCustomError

KIND = "refused"


def refused(what: str, *, mend: str, at: str = "", inside: bool = False) -> PydanticCustomError:
    """The error to raise.

    Args:
        what: is wrong, without a full stop.
        mend: what to do about it, without a full stop.
        at: the key inside the part that is checked, dotted.
        inside: whether the message is to name the part.
    """
    # `what` is filled in last: else a stranger's key that is called `{mend}` would be filled in, too.
    return PydanticCustomError(KIND, "{what}", {"mend": mend, "at": at, "inside": inside, "what": what})


def written(value: object) -> str:
    """A value about as YAML has it, with dots for what is too long for a line."""
    words = {None: "nothing", True: "true", False: "false"}
    told = words[value] if value is None or isinstance(value, bool) else repr(value)
    return told if len(told) <= 40 else f"{told[:37]}..."


def refuse(what: str, *, mend: str, at: str = "", **context: Any) -> NoReturn:
    """Raises it.

    Args:
        what: is wrong, with the names of `context` in braces.
        mend: how to mend it.
        at: names the key inside the part.
        context: values for `what`; `inside` has the message name the part.

    Raises:
        PydanticCustomError: always.
    """
    raise refused(what.format(**context), mend=mend, at=at, inside="inside" in context)
