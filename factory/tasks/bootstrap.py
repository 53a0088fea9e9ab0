"""How sure a score is: percentile bootstrap over documents, after scoring and before the report.

Documents are drawn with replacement inside each group (an MMLU subject; elsewhere there is one group),
so that every draw keeps the statistic: the mean of the groups' means. The same seed and the same
documents give the same draws for every model, which is what paired differences need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_INDICES_AT_ONCE = 1 << 22  # bounds the memory of one block of draws: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A score, difference or ratio with its standard error and 95 % interval, all as fractions.

    Attributes:
        stderr: None where it cannot be known: one document says nothing of how they scatter.
        n: the number of documents behind it.
    """

    value: float
    stderr: float | None
    low: float
    high: float
    n: int


def mean_of_groups(scores: Sequence[float] | Array, groups: Sequence[str]) -> float:
    """The mean over groups of the mean score inside the group."""
    return float(np.mean([part.mean() for part in _split(scores, groups)]))


def standard_error(scores: Sequence[float] | Array, groups: Sequence[str]) -> float | None:
    """The standard error of `mean_of_groups`: the square root of the sum of s^2 / n over the groups, over
    their number, s being a group's sample standard deviation. With one group it is s / sqrt(n), as in
    lm-evaluation-harness and lighteval.

    None where a group has a single document.
    """
    parts = _split(scores, groups)
    if min(map(len, parts)) < 2:
        return None
    return float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))) / len(parts)


def draw_means(scores: Sequence[float] | Array, groups: Sequence[str], draws: int, seed: int) -> Array:
    """`draws` bootstrap replicates of `mean_of_groups`, shape (draws,)."""
    random = np.random.default_rng(seed)
    parts = _split(scores, groups)
    total = np.zeros(draws)
    for part in parts:
        block = max(1, _INDICES_AT_ONCE // len(part))
        for start in range(0, draws, block):
            count = min(block, draws - start)
            chosen = random.integers(0, len(part), size=(count, len(part)))
            total[start : start + count] += part[chosen].mean(axis=1)
    return total / len(parts)


def estimate(value: float, replicates: Array, n: int) -> Estimate:
    """The interval that the bootstrap replicates of a value from `n` documents give around it."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Estimate(value, float(replicates.std(ddof=1)), float(low), float(high), n)


def _split(scores: Sequence[float] | Array, groups: Sequence[str]) -> list[Array]:
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    return [values[names == name] for name in dict.fromkeys(groups)]
