"""What makes a folder a stock model besides config and weights: tokenizer, templates, licences.

Beside checkpoint.py; pruning, training and merging copy these files as they are, and sources.py counts them
as part of a model. What is left behind describes the base (its README), or is no part of what transformers
loads (a second format's weights, code of the model's own).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from factory.errors import FactoryError

_LEFT = ("*.bak", "*.old", "*.orig", "*.tmp", "*.lock", "*~", "*.py")  # whatever their names begin with


def _either_case(pattern: str) -> str:
    return "".join(
        f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in pattern
    )


_TOKENIZER = ("tokenizer*", "*.tiktoken", "tekken.json", "vocab.*", "bpe.codes", "*.model")
# Patterns of names, in which small and capital letters are the same: `license.md` is a licence too.
CARRIED = tuple(
    map(
        _either_case,
        (
            "generation_config.json", *_TOKENIZER, "merges.txt",
            "added_tokens.json", "special_tokens_map.json", "chat_template*", "*.jinja",
            "additional_chat_templates", "*license*", "*licence*", "notice*", "copying*", "copyright*",
            "*use_policy*", "*usage_policy*",
        ),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """What lies in a model folder besides config and weights.

    Attributes:
        carried: what is copied: files, and folders of templates.
        left: the names of all else but hidden files.
    """

    carried: tuple[Path, ...]
    left: tuple[str, ...]


def is_carried(name: str) -> bool:
    """Whether a file of that name is part of a stock model."""
    if any(fnmatchcase(name.lower(), pattern) for pattern in _LEFT):
        return False
    return any(fnmatchcase(name, pattern) for pattern in CARRIED)


def tokenizer_files(folder: Path) -> list[str]:
    """The names of the files in a model folder that a tokenizer can be made from."""
    names = (path.name for path in folder.iterdir() if path.is_file() and is_carried(path.name))
    return sorted(name for name in names if any(fnmatchcase(name.lower(), one) for one in _TOKENIZER))


def beside(folder: Path, known: Iterable[str] = ()) -> Beside:
    """What a model folder holds besides config and weights; everything to be carried can be read.

    Args:
        folder: the model folder.
        known: names of files that are written anew, such as those of the weights.

    Raises:
        FactoryError: a file to be carried cannot be read, or is a link to nothing (an unfinished download).
    """
    carried, left = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in (*known, "config.json"):
            continue
        if is_carried(path.name) and not path.exists():
            raise FactoryError("a link that leads nowhere", where=str(path), mend="Fetch the model again")
        if is_carried(path.name) and (path.is_file() or path.is_dir()):  # no pipe, no device
            carried.append(path)
            for file in [path] if path.is_file() else path.rglob("*"):
                readable(file)
        else:
            left.append(path.name)
    return Beside(tuple(carried), tuple(left))


def readable(path: Path) -> None:
    """Refuses a file or folder that cannot be opened for reading.

    Raises:
        FactoryError: so it is.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        what = f"this cannot be read ({error.strerror})"
        raise FactoryError(what, where=str(path), mend="Fetch it again, or make it readable") from None


def carry(found: Beside, out: Path) -> None:
    """Copies what is to be carried into the folder `out`, as it is.

    But for a tokenizer's `auto_map`: code of the model's own is not copied, so nothing may point to it.
    """
    for path in found.carried:
        if path.is_dir():
            shutil.copytree(path, out / path.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, out / path.name)
    settings = out / "tokenizer_config.json"
    if settings.is_file() and b'"auto_map"' in settings.read_bytes():
        written = json.loads(settings.read_text(encoding="utf-8"))
        written.pop("auto_map", None)
        settings.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def carry_files(source: Path, out: Path) -> None:
    """Copies tokenizer, generation config, chat templates and licences of one model folder to another.

    Raises:
        FactoryError: as `beside`.
    """
    carry(beside(source), out)
