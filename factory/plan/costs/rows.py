"""How many rows a dataset has and how many tokens they are, without reading it all: under known.py.

Of a dataset at hand the first rows are read; of one on the Hub its card says how many rows and bytes a split
has (`dataset_info`, which the Hub writes for most). What neither tells is assumed, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from factory import front_matter, hub_files
from factory.data.reading import stored_rows
from factory.data.rows import TextSpec, iterate_rows, iterate_texts, split_files
from factory.errors import FactoryError
from factory.sources import Source, at_hand

CHARACTERS = 4.0  # a token, of English; of rows at hand a tokenizer at hand counts them
TEMPLATE = 40  # tokens of the prompt's own words and of the chat template
ROWS, QUESTION, ANSWER = 10_000, 120, 180  # assumed where nothing tells
SAMPLE = 100  # rows looked at
Count = Callable[[str], float]
COUNTED = 100_000  # rows counted at most where the files do not tell how many they hold


@dataclass(frozen=True)
class Rows:
    """Rows of a dataset: how many, tokens of a mean question (with its template) and of a mean response.

    `assumed` says in words what of it is a guess; empty where nothing is.
    """

    rows: int
    question: float
    answer: float
    assumed: str = ""

    def first(self, most: int | None) -> int:
        """How many there are if no more than `most` are taken."""
        return self.rows if most is None else min(self.rows, most)


def rows_of(source: Source, spec: TextSpec, name: str, tokens: Count) -> Rows:
    """What is known of the rows that `spec` reads.

    Args:
        source: the dataset.
        spec: how it is read.
        name: in the recipe, for words.
        tokens: how many a text is.
    """
    whole = spec.model_copy(update={"rows": None})
    with at_hand(source) as folder:
        if folder is not None:
            return _read(folder, whole, tokens)
    found = _on_card(source, spec)
    if found is None:
        said = (
            f"{name} has {ROWS:,} rows of {QUESTION} + {ANSWER} tokens"
            if spec.rows is None
            else (f"rows of {name} have {QUESTION} + {ANSWER} tokens")
        )
        return Rows(max(spec.rows or 0, ROWS), TEMPLATE + QUESTION, ANSWER, said)
    rows, size = found
    told = size / rows / CHARACTERS  # both, and whatever columns nobody reads
    said = f"half of each row of {name} is the response"
    return Rows(rows, TEMPLATE + told / 2, told / 2, said)


def text_tokens(source: Source, spec: TextSpec, most: int, tokens: Count) -> float | None:
    """Tokens of a mean text of those that `spec` reads; None where nothing tells.

    Args:
        source: the dataset.
        spec: how it is read.
        most: tokens that a text is cut behind.
        tokens: how many a text is.
    """
    with at_hand(source) as folder:
        if folder is not None:
            texts = islice(iterate_texts(folder, spec.model_copy(update={"rows": None})), SAMPLE)
            return fmean(min(most, tokens(text)) for text in texts)
    found = _on_card(source, spec)
    return min(most, found[1] / found[0] / CHARACTERS) if found else None


def _read(folder: Path, spec: TextSpec, tokens: Count) -> Rows:
    rows = list(islice(iterate_rows(folder, spec), SAMPLE))
    count = stored_rows(split_files(folder, spec.config, spec.split, str(folder)))
    if count is None:
        count = sum(1 for _ in islice(iterate_rows(folder, spec), COUNTED))
    asked = fmean(tokens(row["instruction"]) + tokens(row["context"]) for row in rows)
    return Rows(count, TEMPLATE + asked, fmean(tokens(row["response"]) for row in rows))


def _on_card(source: Source, spec: TextSpec) -> tuple[int, int] | None:
    """Rows and bytes of a split, as the dataset's card says; None where it does not."""
    try:
        at = hub_files.Repository(source.fingerprint, ())
        text = hub_files.text("dataset", source.reference, at, "README.md", None)
        yaml, _ = front_matter.split(text or "")
        card = front_matter.parse(yaml) if yaml else {}
    except (FactoryError, ValueError):
        return None
    for info in _infos(card):
        if spec.config not in (None, info.get("config_name", "default")):
            continue
        for split in info.get("splits") or ():
            if isinstance(split, Mapping) and split.get("name") == spec.split:
                rows, size = split.get("num_examples"), split.get("num_bytes")
                if isinstance(rows, int) and isinstance(size, int) and rows > 0:
                    return rows, size
    return None


def _infos(card: Any) -> Iterator[Mapping[str, Any]]:
    found = card.get("dataset_info") if isinstance(card, Mapping) else None
    for info in found if isinstance(found, list) else [found]:
        if isinstance(info, Mapping):
            yield info
