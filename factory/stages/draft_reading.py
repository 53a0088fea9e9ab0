"""A draft reads the target's texts: under draft.py, whose acceptance this adds up.

A piece of texts at a time; what was read is appended batch by batch, so that a run that was killed goes on
where it was, and is kept as parquet when a piece is whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory import parquet
from factory.drafts import ALL, speculative
from factory.drafts.speculative import Accepted
from factory.json_lines import JsonLines
from factory.stages import Progress
from factory.texts import text as files
from factory.texts.measures import kept, proposed, tie
from factory.texts.reader import Reader
from factory.texts.text import MODES, Mode, Text

if TYPE_CHECKING:
    from factory.stages.draft import Settings
    from factory.texts.reader import Figures

_DIGITS = 6  # of a chance of acceptance, as it is kept
_TEXTS = 512  # whose steps are counted at once


class Reading:
    """The draft reads all texts; what it read is on disk by pieces.

    Args:
        settings: the step's.
        inputs: of the step.
        out: of the step.
        progress: told the texts read.

    Attributes:
        sets: what is told of the sets of prompts.
        tokens: of greedy texts, and `ties` those of them that rounding may turn, within `below`.
    """

    def __init__(self, settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
        self._settings, self._inputs, self._out, self._progress = settings, inputs, out, progress
        self.sets: dict[str, Any] = {}
        self.ties = self.tokens = 0
        self.below = 0.0
        self._done = 0
        self._total = sum(self._count(one.name, mode) for one in settings.sets for mode in MODES)

    def _folder(self, name: str) -> Path:
        return self._inputs[f"responses.{name}"]

    def _count(self, name: str, mode: Mode) -> int:
        import pyarrow.parquet

        files = (self._folder(name) / mode).glob("*.parquet")
        return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)

    def summary(self, mode: Mode, target: Any, draft: Any) -> dict[str, Any]:
        """Acceptance by set and over all."""
        self.below = tie(draft)
        if mode == "greedy":
            reader = Reader(proposed(self.below), draft, where="draft")
        else:
            reader = Reader(kept(self._settings.temperature), target, draft, where="draft")
        parts: dict[str, Accepted] = {}
        for one in self._settings.sets:
            pieces, sources = [], Counter[str]()
            for number, texts in enumerate(files.read(self._folder(one.name), mode)):
                pieces.append(self._piece(one.name, mode, number, texts, reader))
                sources.update(text.source for text in texts)
            parts[one.name] = whole = Accepted.together(pieces)
            if mode == "greedy":
                tokens = int(whole.tokens.sum())
                taken = {source: sources[source] for source in ("regenerated", "held_out")}
                self.sets[one.name] = {
                    "kind": one.kind,
                    "trained": one.trained,
                    "texts": len(whole.tokens),
                    "tokens": tokens,
                    **taken,
                }
                self.tokens += tokens
        # What a draft was trained on flatters it: no part of the whole, unless there is nothing else.
        counted = [one.name for one in self._settings.sets if not one.trained] or list(parts)
        sets = [name for name in counted for _ in parts[name].tokens]
        parts[ALL] = Accepted.together([parts[name] for name in counted])
        return {name: part.summary(sets if name == ALL else ()) for name, part in parts.items()}

    def _piece(self, name: str, mode: Mode, number: int, texts: list[Text], reader: Reader) -> Accepted:
        """Reads one piece, as far as it is not read, and adds it up."""
        import pyarrow
        import pyarrow.parquet

        path = files.path(self._out / name, mode, number)
        if not path.exists():
            journal = JsonLines(self._out / "journal" / name / f"{mode}-{number:05}.jsonl")

            def told(here: int) -> None:
                self._progress(self._done + here, self._total, "texts", name)

            read = reader.kept(texts, journal, _line, told)
            floats = pyarrow.list_(pyarrow.float32())
            types = {"row": pyarrow.int64(), "accept": floats, "rate": floats, "ties": pyarrow.int64()}
            parquet.write(path, [read[text.row] for text in texts], pyarrow.schema(types))
        self._done += len(texts)
        self._progress(self._done, self._total, "texts", name)
        table = pyarrow.parquet.read_table(path)
        self.ties += sum(table["ties"].to_pylist())
        accept = [np.asarray(one, np.float64) for one in table["accept"].to_pylist()]
        steps = [speculative.expected_steps(accept[i : i + _TEXTS]) for i in range(0, len(accept), _TEXTS)]
        rates = np.array([sum(one) for one in table["rate"].to_pylist()])
        return Accepted(np.array([float(len(one)) for one in accept]), rates, np.concatenate(steps))


def _line(figures: Figures) -> dict[str, Any]:
    """What is kept of a text: of greedy ones `rate` is `accept` itself; only they have ties."""
    accept, rate = (
        [round(float(value), _DIGITS) for value in figures[name]]
        for name in ("accept", "rate" if "rate" in figures else "accept")
    )
    return {"accept": accept, "rate": rate, "ties": int(sum(figures.get("ties", ())))}
