"""Rows that stand in a dataset twice; the stage curate asks here, batch by batch.

Two texts are the same but for case, white space, the kind of quotation marks, and the punctuation that ends
a word of letters. Signs beside digits stay, as do all others: `3 - 2` and `3 + 2`, `5!` and `5` are different
questions. Rows are compared by a 64-bit hash (BLAKE2b): among n rows the chance that any two different ones
are taken for the same is about n * n / 2**65, for a million 3 in 10**8.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

Same = Literal["questions", "rows"]
"""What makes two rows the same: `questions` the instruction and the context, `rows` the response too."""
COMPARED: Mapping[str, tuple[str, ...]] = {
    "questions": ("instruction", "context"),
    "rows": ("instruction", "context", "response"),
}
_NEW = 65_536  # rows in the dictionary before they are sorted in
# Marks behind a letter, or behind its closing quotation mark, at the end of a word.
_END_OF_WORD = re.compile(r"""(?:(?<=[^\W\d_])|(?<=[^\W\d_]["']))[.,;:!?]+(?=["']?(?:\s|$))""")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})  # noqa: RUF001


def normalised(text: str) -> str:
    """A text without what makes no difference between two rows; see the top of this file."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    return " ".join(_END_OF_WORD.sub("", text.casefold()).split())


def digest(row: Mapping[str, str], same: Same) -> int:
    """The hash by which a row is compared: 0 <= value < 2**64."""
    text = "\0".join(normalised(row[role]) for role in COMPARED[same])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class FirstRows:
    """Which row had a digest first. Of most rows 16 bytes are kept: sorted arrays, and a dictionary for the
    newest, which is sorted in when it has grown to an eighth of them.
    """

    def __init__(self) -> None:
        import numpy as np

        self._digests, self._rows = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._new: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._digests) + len(self._new)

    def first(self, digests: Sequence[int], rows: Sequence[int]) -> list[int]:
        """For each digest the number of the row that had it first, which may be its own.

        Args:
            digests: of some rows.
            rows: their numbers.
        """
        import numpy as np

        asked = np.array(digests, np.uint64)
        known = np.full(len(asked), -1, np.int64)
        if len(self._digests):
            at = np.searchsorted(self._digests, asked)
            at[at == len(self._digests)] = 0
            known = np.where(self._digests[at] == asked, self._rows[at], -1)
        found = [
            old if old >= 0 else self._new.setdefault(digest, row)
            for digest, row, old in zip(digests, rows, known.tolist(), strict=True)
        ]
        if len(self._new) > max(_NEW, len(self._digests) // 8):
            self._sort_in()
        return found

    def _sort_in(self) -> None:
        import numpy as np

        digests = np.concatenate([self._digests, np.fromiter(self._new, np.uint64, len(self._new))])
        rows = np.concatenate([self._rows, np.fromiter(self._new.values(), np.int64, len(self._new))])
        order = np.argsort(digests)
        self._digests, self._rows = digests[order], rows[order]
        self._new = {}
