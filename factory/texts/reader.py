"""Models read finished texts in batches (teacher forcing): what they make of every token of the responses.

For whatever compares models on given texts: the stages draft and drift, and regeneration's likelihoods. What
is found at a token is a measure of its own (measures.py). Batches are of texts of like length, at most
`BATCH_TOKENS` tokens, padded on the right; logits are made for the tokens of responses alone and never for
more than `LOGITS` numbers a model at once. Memory depends on neither the number of texts nor their length
times the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from factory.errors import FactoryError
from factory.json_lines import JsonLines
from factory.metrics.batches import grouped
from factory.texts import logits
from factory.texts.measures import Measure
from factory.texts.text import Text

BATCH_TOKENS = 8_192
"""Tokens, padding included, in one batch; a single text may exceed it."""
LOGITS = 1 << 22
"""Numbers in one tensor over the vocabulary, of which a handful live at a time: 16 MB each."""

Figures = Mapping[str, npt.NDArray[np.float64]]
"""Of a text by name, a number for each token of its response."""


class Reader:
    """Models that read the same texts.

    Args:
        measure: what is found at a token, from the logits of all models; see `factory/texts/measures.py`.
        models: loaded causal language models, on one device.
        where: what an error names: the part of a recipe that wants to know.
    """

    def __init__(self, measure: Measure, *models: Any, where: str) -> None:
        self._measure, self._models, self._where = measure, models, where

    def read(self, texts: Sequence[Text]) -> Iterator[tuple[Text, Figures]]:
        """Every text that has a response, with what was found; the longest first.

        The same texts come in the same batches, so that their figures have the same rounding.

        Raises:
            FactoryError: the device has too little memory, or a model gives what is no number.
        """
        for batch in self._batches(texts):
            yield from zip(batch, self._figures(batch), strict=True)

    def kept(
        self,
        texts: Sequence[Text],
        journal: JsonLines,
        line: Callable[[Figures], Mapping[str, Any]],
        told: Callable[[int], None],
    ) -> dict[int, dict[str, Any]]:
        """What was found about each text that has a response, by its row; kept batch by batch.

        Args:
            texts: all of them, also those read before: a batch holds the same texts, and its figures the same
                rounding, whenever it is read.
            journal: gets a line a text; batches that are in it whole are not read again.
            line: what is kept of a text's figures.
            told: how many texts are done so far.

        Raises:
            FactoryError: as `read`.
        """
        found = {row["row"]: row for row in journal.read()}
        done = sum(not text.response for text in texts)
        for batch in self._batches(texts):
            if any(text.row not in found for text in batch):
                read = zip(batch, self._figures(batch), strict=True)
                rows = [{"row": text.row, **line(figures)} for text, figures in read]
                journal.add(rows)
                found |= {row["row"]: row for row in rows}
            done += len(batch)
            told(done)
        return found

    def _batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        yield from grouped([text for text in texts if text.response], BATCH_TOKENS)

    @torch.inference_mode()
    def _figures(self, batch: Sequence[Text]) -> list[Figures]:
        """What is found about each text of a batch."""
        device = self._models[0].device
        rows = [torch.tensor([*text.prompt, *text.response]) for text in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        counts = [len(text.response) for text in batch]
        owners = torch.arange(len(batch)).repeat_interleave(torch.tensor(counts))
        spans = [(len(text.prompt), len(text)) for text in batch]
        places = torch.cat([torch.arange(*span) for span in spans])
        ids, owners, places = (made.to(device) for made in (ids, owners, places))
        tokens, step = ids[owners, places], max(1, LOGITS // logits.width(*self._models))
        parts = []
        try:
            # What a position gives predicts the token behind it.
            given = [logits.at(model, ids[:, :-1], owners, places - 1) for model in self._models]
            for begin in range(0, len(tokens), step):
                some = slice(begin, begin + step)
                found = self._measure(tokens[some], *(one(some) for one in given))
                parts.append(torch.stack([values.double() for values in found.values()]).cpu())
        except torch.OutOfMemoryError as error:
            what = f"the device has too little memory to read texts ({str(error).split('. ')[0]})"
            mend = "Free the device's memory; what is already read is kept"
            raise FactoryError(what, where=self._where, mend=mend) from error
        whole = torch.cat(parts, -1)
        if not torch.isfinite(whole).all():
            what = "a model gives log-probabilities that are no numbers"
            raise FactoryError(what, where=self._where, mend="Train it again, or leave it out")
        cuts = np.cumsum(counts)[:-1]
        by_name = {name: np.split(values, cuts) for name, values in zip(found, whole.numpy(), strict=True)}
        return [{name: values[i] for name, values in by_name.items()} for i in range(len(batch))]
