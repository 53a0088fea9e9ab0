"""Which training rows share text with the scored benchmarks; the stage curate asks here, batch by batch.

A row that holds a benchmark's question is practice for the examination, and the recovery it buys is none.
The rule is that of the field: a row overlaps where it shares `n` words in a row with a benchmark document,
whatever their case and punctuation. GPT-3 took n between 8 and 13 by benchmark (arXiv 2005.14165, appendix
C), lm-evaluation-harness takes 13 (its docs/decontamination.md). What is compared of a document:

    its question, then its right answer; without the words that frame them (`Question:`, `A. ...`)
    a question or document of fewer than n words as a whole: anywhere in a row where it has at least
    `LEAST` words, else only against a row's whole instruction and context, for a phrase such as
    "Which of these is true?" is nobody's question in particular

Words are compared as 64-bit hashes, all windows of a batch at once, and what agrees is compared again as
text: a hash alone removes nothing. Memory: 16 bytes for every word of the benchmarks and the words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from factory.tasks.document import Document

if TYPE_CHECKING:
    import numpy as np

USUAL = 13  # words; what lm-evaluation-harness takes
LEAST = 8  # words; the least that GPT-3's authors compared
_LONGEST = 40  # words of a shared run that are told
# A sign of Chinese or Japanese counts as a word: there are no blanks between words.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W{_SIGNS}]+")
_NO_WORD = {sign: " " for sign in range(128) if not _WORD.match(chr(sign))}
_HEAD = re.compile(r"\A\s*\w+:\s")  # `Question: `
_TAIL = re.compile(r"\n\w+:\s*\Z")  # `Answer:`
_OPTION = re.compile(r"^[A-Z]\. .*$", re.MULTILINE)
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # GSM8K writes every sum twice: `8*5 = <<8*5=40>>40`
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that no bit of a word's hash is lost


def words(text: str) -> list[str]:
    """The words of a text for comparison: no case, no punctuation, compatible signs as one (NFKC).

    GSM8K's notes for a calculator are none: two solutions share such a run of figures more easily than words.
    """
    if "<<" in text:
        text = _CALCULATOR.sub(" ", text)
    if text.isascii():  # the same, in a quarter of the time
        return text.translate(_NO_WORD).lower().split()
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Shared:
    """What a row has in common with a benchmark.

    Attributes:
        task: the benchmark.
        group: the subject, else the task.
        document: its number in the scored split of that group, in file order, from 0.
        words: the run of words that both have, cut behind `_LONGEST`.
    """

    task: str
    group: str
    document: int
    words: str


class Benchmarks:
    """The documents that rows are compared with.

    Args:
        documents: (task, group, rendered rows in file order).
        n: how many words in a row are an overlap.
    """

    def __init__(self, documents: Iterable[tuple[str, str, Sequence[Document]]], n: int = USUAL) -> None:
        import numpy as np

        self._n, self._least = n, min(LEAST, n)
        self._groups: list[tuple[str, str]] = []
        self._whole: dict[str, int] = {}  # texts too short to be looked for inside a row
        self.counts: dict[str, int] = {}
        """Documents by task."""
        spelt: dict[str, str] = {}  # one object a word, however often it stands
        self._words: list[str] = []
        starts: list[int] = []
        self._origin: list[tuple[int, int]] = []  # of every text: group, document
        short: dict[int, list[int]] = {}  # by length, the places of what is compared as a whole
        for task, group, rows in documents:
            self._groups.append((task, group))
            self.counts[task] = self.counts.get(task, 0) + len(rows)
            for number, document in enumerate(rows):
                for text, wholes in _texts(document):
                    starts.append(len(self._words))
                    self._origin.append((len(self._groups) - 1, number))
                    for length in {length for length in wholes if length < n}:
                        if length >= self._least:
                            short.setdefault(length, []).append(starts[-1])
                        elif length:
                            self._whole.setdefault(" ".join(text[:length]), len(starts) - 1)
                    self._words += [spelt.setdefault(word, word) for word in text]
        self._starts = np.array([*starts, len(self._words)], np.int64)
        hashes = _hashes(self._words)
        room = _room(self._starts)
        self._index = {}
        for length, windows in _windows(hashes, {*short, n}):
            if length == n:
                places = np.flatnonzero(room[: len(windows)] >= n)
            else:
                places = np.array(short[length], np.int64)
            if len(places):
                self._index[length] = _Index(windows[places], places)

    def find(self, rows: Sequence[tuple[str, str]]) -> list[Shared | None]:
        """For each row what it shares, the first such words of it; None where there is nothing.

        Args:
            rows: what is asked (instruction and context), and the response.
        """
        import numpy as np

        asked = [words(question) for question, _ in rows]
        texts = [question + words(response) for question, (_, response) in zip(asked, rows, strict=True)]
        starts = np.cumsum([0, *map(len, texts)])
        room = _room(starts)
        flat = list(chain.from_iterable(texts))
        hits: dict[int, tuple[int, int, int]] = {}  # row: place in it, minus length, place here
        for length, windows in _windows(_hashes(flat), set(self._index)):
            for at, place in self._index[length].find(windows, room[: len(windows)] >= length):
                row = int(np.searchsorted(starts, at, "right")) - 1
                hit = (at - int(starts[row]), -length, place)
                # Only a hash has been compared so far.
                if flat[at : at + length] == self._words[place : place + length]:
                    hits[row] = min(hit, hits.get(row, hit))
        found: list[Shared | None] = [None] * len(rows)
        for row, text in enumerate(texts):
            if row in hits:
                begin, _, place = hits[row]
                found[row] = self._shared(text[begin:], place)
            elif (number := self._whole.get(" ".join(asked[row]))) is not None:
                found[row] = self._told(number, asked[row])
        return found

    def _shared(self, text: Sequence[str], place: int) -> Shared:
        """The run of words that begins at a place here and at the beginning of `text`."""
        import numpy as np

        number = int(np.searchsorted(self._starts, place, "right")) - 1
        mine = self._words[place : int(self._starts[number + 1])]
        run = 0
        for ours, theirs in zip(text, mine, strict=False):
            if ours != theirs:
                break
            run += 1
        return self._told(number, text[:run])

    def _told(self, number: int, run: Sequence[str]) -> Shared:
        group, document = self._origin[number]
        said = " ".join(run[:_LONGEST]) + (" …" if len(run) > _LONGEST else "")
        return Shared(*self._groups[group], document, said)


def _texts(document: Document) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The words of question and answer, for each right answer, and how many make up what is whole."""
    for number, gold in enumerate(document.gold):
        # Where every choice has a context of its own (WinoGrande), it is a sentence's beginning.
        several = len(document.contexts) > 1
        question = words(_unframed(document.contexts[gold if several else 0]))
        answer = words(document.choices[gold])
        wholes = (len(question), len(question) + len(answer)) if not several else (len(question + answer),)
        yield question + answer, wholes if number == 0 or several else wholes[1:]


def _unframed(context: str) -> str:
    """A rendered question without its label, its lettered options and the label of the answer."""
    return _TAIL.sub("", _HEAD.sub("", _OPTION.sub("", context).rstrip()))


def _hashes(of: Sequence[str]) -> np.ndarray[Any, Any]:
    import numpy as np

    # Python's own: another in every process, which is why nothing depends on it but speed.
    return np.fromiter(map(hash, of), np.int64, len(of)).view(np.uint64)


def _room(starts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """For every word, how many words its text has from there on."""
    import numpy as np

    sizes = np.diff(starts)
    return np.repeat(starts[1:], sizes) - np.arange(starts[-1])


def _windows(hashes: np.ndarray[Any, Any], lengths: set[int]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """For each length, shortest first, the hash of so many words from every place on."""
    import numpy as np

    rolled, factor = hashes.copy(), np.uint64(_FACTOR)
    for length in range(1, max(lengths, default=0) + 1):
        if length > 1:
            rolled = rolled[:-1] * factor + hashes[length - 1 :]
        if length in lengths:
            yield length, rolled


class _Index:
    """Hashes with the places they stand at, made for looking up very many that are not there."""

    def __init__(self, hashes: np.ndarray[Any, Any], places: np.ndarray[Any, Any]) -> None:
        import numpy as np

        order = np.argsort(hashes, kind="stable")  # of equal ones the first place stays first
        self._hashes, self._places = hashes[order], places[order]
        bits = min(26, max(10, len(hashes).bit_length() + 3))
        self._shift = np.uint64(64 - bits)
        self._begins = np.zeros(1 << bits, bool)  # of the hashes' first bits, those there are
        self._begins[hashes >> self._shift] = True

    def find(self, hashes: np.ndarray[Any, Any], where: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
        """(place among `hashes`, place here) of those that are here, among those `where` allows."""
        import numpy as np

        likely = np.flatnonzero(where & self._begins[hashes >> self._shift])
        at = np.searchsorted(self._hashes, hashes[likely])
        at[at == len(self._hashes)] = 0
        same = self._hashes[at] == hashes[likely]
        yield from zip(likely[same].tolist(), self._places[at[same]].tolist(), strict=True)
