"""A text that a model wrote, as tokens, and files of such texts: one form for all that write or read them.

Tokens and not words: what a text is made of is not always what its words are split into again. Pieces of
`PIECE` texts in parquet, each whole or absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from factory import parquet

Mode = Literal["greedy", "sampled"]
MODES: tuple[Mode, ...] = ("greedy", "sampled")
PIECE = 5_000  # texts in one file, and in memory


@dataclass(frozen=True)
class Text:
    """A prompt and what a model wrote behind it.

    Attributes:
        row: of the prompt in the files of its dataset, from 0.
        prompt: token ids, at least one; a special token that begins a text is in it.
        response: token ids, the stop token included; none behind a prompt that fills the model.
        finish: `stop` where the model ended its turn, `length` where it ran out of tokens.
        source: `generated` for this purpose, or the earlier step that it was taken over from: `regenerated`
            (training data) or `held_out` (what drift asked).
    """

    row: int
    prompt: list[int]
    response: list[int]
    finish: str
    source: str = "generated"

    def __len__(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.response)


def path(folder: Path, mode: Mode, piece: int) -> Path:
    """Where a piece stands in an artifact."""
    return folder / mode / f"{piece:05}.parquet"


def write(folder: Path, mode: Mode, piece: int, texts: Sequence[Text]) -> None:
    """Writes a piece, all of it or nothing."""
    import pyarrow

    ids, word = pyarrow.list_(pyarrow.int32()), pyarrow.string()
    types = {"row": pyarrow.int64(), "prompt": ids, "response": ids, "finish": word, "source": word}
    parquet.write(path(folder, mode, piece), [vars(text) for text in texts], pyarrow.schema(types))


def read(folder: Path, mode: Mode) -> Iterator[list[Text]]:
    """The texts of an artifact, a piece at a time, in the order of their prompts."""
    for file in sorted((folder / mode).glob("*.parquet")):
        yield [Text(**row) for row in parquet.read(file)]
