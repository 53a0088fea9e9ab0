"""Texts as batches of like length, streamed: what is held does not grow with the number of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from factory.errors import FactoryError

WINDOW = 1024  # texts that are sorted by length together
ENCODED = 32  # texts that the tokenizer gets at once: its answer takes some hundred bytes a token

T = TypeVar("T", bound=Sized)


@dataclass(frozen=True)
class Batch:
    """Texts as tensors on the device.

    Real tokens of a causal model cannot see what stands to their right, so no mask is needed.

    Attributes:
        ids: token ids of shape (texts, longest), padded on the right with 0.
        lengths: tokens of each text.
        places: where `ids`, flattened, holds a token. Made before the batch goes to the device: a mask would
            let the host wait for the device at every use.
    """

    ids: Any
    lengths: Any
    places: Any

    def real(self) -> Any:
        """Which places hold a token, of the shape of `ids`."""
        import torch

        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]


@dataclass
class Texts:
    """Calibration texts; every call of `batches` reads them from the beginning.

    Attributes:
        source: gives the texts anew.
        encode: the model's tokenizer; on which side it pads has no influence.
        max_tokens: texts are cut behind this many tokens.
        batch_tokens: bound on the tokens of a batch, padding included; one text may exceed it.
        device: where the tensors go.
        expected: how many texts there are at most, for the display; None where nobody knows.
        least: texts with fewer tokens are left out.
        vocabulary: how many token ids the model knows; None where nobody says.
        rows: texts that the last call of `batches` gave so far.
        tokens: their tokens, without padding.
        longest: the tokens of the longest of them.
    """

    source: Callable[[], Iterator[str]]
    encode: Any
    max_tokens: int
    batch_tokens: int
    device: str = "cpu"
    expected: int | None = None
    least: int = 1
    vocabulary: int | None = None
    rows: int = 0
    tokens: int = 0
    longest: int = 0

    def batches(self) -> Iterator[Batch]:
        """Batches of like length; in each window of texts the longest first.

        Raises:
            FactoryError: the tokenizer gives an id that the model does not know.
        """
        import torch

        self.rows = self.tokens = self.longest = 0
        texts = self.source()
        while window := list(islice(texts, WINDOW)):
            for group in grouped(list(self._encoded(window)), self.batch_tokens):
                lengths = torch.tensor([len(ids) for ids in group])
                padded = torch.nn.utils.rnn.pad_sequence(group, batch_first=True).long()
                places = (torch.arange(padded.shape[1]) < lengths[:, None]).flatten().nonzero()[:, 0]
                yield Batch(*(made.to(self.device) for made in (padded, lengths, places)))
                self.rows += len(group)
                self.tokens += sum(map(len, group))
                self.longest = max(self.longest, len(group[0]))

    def _encoded(self, window: Sequence[str]) -> Iterator[Any]:
        """The tokens of each text that has enough of them, four bytes a token."""
        import torch

        for start in range(0, len(window), ENCODED):
            part = window[start : start + ENCODED]
            for ids in self.encode(part, truncation=True, max_length=self.max_tokens)["input_ids"]:
                if self.vocabulary and ids and max(ids) >= self.vocabulary:
                    raise FactoryError(
                        f"the tokenizer gives token {max(ids)}; the model knows 0 to {self.vocabulary - 1}",
                        where=str(getattr(self.encode, "name_or_path", "")) or None,
                        mend="Save the tokenizer that belongs to the model beside it",
                    )
                if len(ids) >= self.least:
                    yield torch.tensor(ids, dtype=torch.int32)


def grouped(tokens: Sequence[T], batch_tokens: int) -> Iterator[list[T]]:
    """Texts of like length together, longest first, so that memory runs out at once or never."""
    batch: list[T] = []
    for ids in sorted(tokens, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
