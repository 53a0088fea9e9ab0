"""Texts as batches of like length, streamed: what is held does not grow with the number of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

WINDOW = 1024  # texts that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Token ids of shape (texts, longest), padded on the right with 0, and the texts' lengths; both tensors.

    Real tokens of a causal model cannot see what stands to their right, so no mask is needed.
    """

    ids: Any
    lengths: Any

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
        rows: texts that the last call of `batches` gave so far.
        tokens: their tokens, without padding.
    """

    source: Callable[[], Iterator[str]]
    encode: Any
    max_tokens: int
    batch_tokens: int
    device: str = "cpu"
    expected: int | None = None
    least: int = 1
    rows: int = 0
    tokens: int = 0

    def batches(self) -> Iterator[Batch]:
        """Batches of like length; in each window of texts the longest first."""
        import torch

        self.rows = self.tokens = 0
        texts = self.source()
        while window := list(islice(texts, WINDOW)):
            encoded = self.encode(window, truncation=True, max_length=self.max_tokens)["input_ids"]
            for group in grouped([ids for ids in encoded if len(ids) >= self.least], self.batch_tokens):
                lengths = torch.tensor([len(ids) for ids in group])
                padded = torch.zeros(len(group), len(group[0]), dtype=torch.long)
                for row, ids in enumerate(group):
                    padded[row, : len(ids)] = torch.tensor(ids)
                yield Batch(padded.to(self.device), lengths.to(self.device))
                self.rows += len(group)
                self.tokens += sum(map(len, group))


def grouped(tokens: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[Sequence[int]]]:
    """Texts of like length together, longest first, so that memory runs out at once or never."""
    batch: list[Sequence[int]] = []
    for ids in sorted(tokens, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
