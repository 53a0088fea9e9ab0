"""How sure a score is: percentile bootstrap over documents, after scoring and before the report.

Documents are drawn with replacement inside each group (an MMLU subject; elsewhere there is one group),
so that every draw keeps the statistic: the mean of the groups' means. Of n documents n - 1 are drawn: the
spread of such means is the standard error s / sqrt(n) for any n, where n drawn ones give too little by
sqrt((n - 1) / n), which is much for small groups (Rao & Wu 1988, "Resampling inference with complex survey
data", where with n - 1 draws their rescaling falls away; so no draw leaves the range of the scores).

A group of one document says nothing of how documents scatter in it. Such groups make one stratum, of
which groups are drawn (a lone one is joined by the smallest other group). Their differences then count as
chance, so the interval is too wide rather than too narrow (collapsed strata: Cochran 1977, "Sampling
techniques", 5A.12). The same seed and groups of the same sizes give the same draws for every model, which
is what paired differences need.
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
        stderr: None where it cannot be known: a single document says nothing of how they scatter.
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
    lm-evaluation-harness and lighteval. Groups of one document are taken together, as they are drawn.

    None where there is a single document.
    """
    strata = _strata(scores, groups)
    if min(len(units) for units, _ in strata) < 2:
        return None
    return float(np.sqrt(sum(share**2 * units.var(ddof=1) / len(units) for units, share in strata)))


def draw_means(scores: Sequence[float] | Array, groups: Sequence[str], draws: int, seed: int) -> Array:
    """`draws` bootstrap replicates of `mean_of_groups`, shape (draws,)."""
    random = np.random.default_rng(seed)
    total = np.zeros(draws)
    for units, share in _strata(scores, groups):
        drawn = max(1, len(units) - 1)
        block = max(1, _INDICES_AT_ONCE // drawn)
        for start in range(0, draws, block):
            count = min(block, draws - start)
            chosen = random.integers(0, len(units), size=(count, drawn))
            total[start : start + count] += share * units[chosen].mean(axis=1)
    return total


def estimate(value: float, replicates: Array, n: int) -> Estimate:
    """The interval that the bootstrap replicates of a value from `n` documents give around it."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Estimate(value, float(replicates.std(ddof=1)), float(low), float(high), n)


def _strata(scores: Sequence[float] | Array, groups: Sequence[str]) -> list[tuple[Array, float]]:
    """What is drawn from, each with its share of the score: a group's documents, or means of groups."""
    parts = _split(scores, groups)
    # Stable, so that a lone single group is always joined by the same other one.
    by_size = sorted(range(len(parts)), key=lambda i: len(parts[i]))
    singles = sum(len(part) == 1 for part in parts)
    joined = set(by_size[: max(2, singles)] if singles else ())
    strata = [(part, 1 / len(parts)) for i, part in enumerate(parts) if i not in joined]
    if joined:
        means = np.array([parts[i].mean() for i in sorted(joined)])
        strata.append((means, len(joined) / len(parts)))
    return strata


def _split(scores: Sequence[float] | Array, groups: Sequence[str]) -> list[Array]:
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    return [values[names == name] for name in dict.fromkeys(groups)]
