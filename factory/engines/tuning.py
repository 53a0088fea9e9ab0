"""How many rows the `transformers` engine has in work at once, found while the first ones are.

Twice as many rows a step are tried as long as that gives clearly more tokens a second. Nothing is
generated for the measurement alone, and what rows give does not depend on the batch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch


class Tuner:
    """The batch size, growing until it no longer pays.

    Attributes:
        size: the most rows that should be in work now.
    """

    FIRST, LAST = 16, 512
    STEPS = 12
    """Decoding steps at full size that one measurement takes."""
    GAIN = 1.15
    """What doubling has to give, in tokens a second."""

    def __init__(self, model: Any, fixed: int | None) -> None:
        self.size = fixed or self.FIRST
        self._model = model
        self._fixed = fixed is not None
        self._before: float | None = None
        self._steps, self._rows, self._seconds = 0, 0, 0.0

    @contextlib.contextmanager
    def step(self, rows: int, more: bool) -> Iterator[None]:
        """Around one decoding step of `rows` rows; `more` tells whether any wait to fill a larger batch."""
        began = time.perf_counter()
        yield
        if self._fixed or not more or rows < 0.75 * self.size:
            return
        self._steps, self._rows = self._steps + 1, self._rows + rows
        self._seconds += time.perf_counter() - began  # picking tokens waits for the device: all is in it
        if self._steps == self.STEPS:
            self._judge(self._rows / self._seconds)
            self._steps, self._rows, self._seconds = 0, 0, 0.0

    def _judge(self, speed: float) -> None:
        if self._before is not None and speed < self.GAIN * self._before:
            self.size //= 2
            self._fixed = True
        elif 2 * self.size > self.LAST or not self._has_memory():
            self._fixed = True
        else:
            self.size *= 2
            self._before = speed

    def _has_memory(self) -> bool:
        """Whether a GPU with this batch has room for one twice as large, and for a copy as rows join."""
        if self._model.device.type != "cuda":
            return True
        free, total = torch.cuda.mem_get_info(self._model.device)
        weights = self._model.get_memory_footprint()
        return bool(total - free - weights < 0.25 * (total - weights))
