"""What becomes of one repository, and how the Hub names contents. Under transaction.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset", "space"]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Parcel:
    """What becomes of one repository.

    Attributes:
        kind: model, dataset or, of a static page, space.
        id: namespace/name.
        files: path in the repository -> a file here, or its content. All of them, whatever is there already.
        title: of the commit.
        message: more of it.
        owned: paths that an earlier publication of ours put there: those that are not in `files` go.
        probe: looks at the files as they came back, and raises FactoryError if they do not do.
    """

    kind: Kind
    id: str
    files: Mapping[str, Path | bytes]
    title: str
    message: str = ""
    owned: frozenset[str] = frozenset()
    probe: Callable[[Path], None] = field(default=lambda folder: None)


@dataclass(frozen=True)
class Sums:
    """How the Hub names a content: a large one by `sha256`, another by `git`."""

    sha256: str
    git: str


def sums_of(source: Path | bytes) -> Sums:
    """The names of a content."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    if isinstance(source, bytes):
        sha256.update(source)
        git.update(source)
    else:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                git.update(chunk)
    return Sums(sha256.hexdigest(), git.hexdigest())


def escaped(path: str) -> str:
    """A pattern for `allow_patterns` that matches this path alone."""
    return re.sub(r"([*?\[])", r"[\1]", path)
