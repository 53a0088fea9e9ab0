"""The order in which training reads rows: the same rows in every step, however many processes share it.

Under train_processes.py. The rows of a step are in order of length, so that what is computed side by side is
alike. Where a step at the end of an epoch has too few rows for all processes, blank ones without a label fill
the gap; accelerate would repeat rows from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from factory.stages.train_rows import IGNORED


class StepOrder:
    """A sampler: every epoch's rows in an order of its own, those of a step sorted by length.

    Which rows a step reads is what accelerate's seeded sampler says for one process. The epoch follows from
    the step: nobody need tell it, which accelerate forgets for several processes that resume.

    Args:
        lengths: of the rows.
        step_rows: how many rows a step reads.
        multiple: an epoch's rows are filled up to a multiple of it; index len(lengths) is the blank one.
        seed: of the order.
        at: the number of steps done.
    """

    def __init__(
        self, lengths: Sequence[int], step_rows: int, multiple: int, seed: int, at: Callable[[], int]
    ) -> None:
        self.lengths, self.step_rows, self.seed, self.at = lengths, step_rows, seed, at
        self.length = math.ceil(len(lengths) / multiple) * multiple

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        import torch

        count = len(self.lengths)
        epoch = self.at() // math.ceil(count / self.step_rows)
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
        for start in range(0, count, self.step_rows):
            yield from sorted(drawn[start : start + self.step_rows], key=lambda i: -self.lengths[i])
        yield from [count] * (self.length - count)


def with_blank(rows: Any) -> Any:
    """The rows and behind them one that teaches nothing: its label is ignored."""
    from datasets import Dataset, concatenate_datasets

    first = rows[0]
    size = len(first["input_ids"])
    blank = {k: v[:1] if isinstance(v, list) and len(v) == size else v for k, v in first.items()}
    blank["labels"] = [IGNORED]
    if "seq_lengths" in blank:  # of packed rows
        blank["seq_lengths"] = [1]
    return concatenate_datasets([rows, Dataset.from_list([blank], features=rows.features)])
