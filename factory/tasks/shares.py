"""How sure a share is, such as that of agreeing tokens: intervals that few prompts do not make too narrow.

Beside bootstrap.py, for drift and drafts. A share is the sum of one column over that of another, a row (a
prompt, a document) being what was sampled. Where a sample's share is exactly 0 or 1 every bootstrap draw is
the same, which is no certainty; and of a few strata one such is enough to make the whole too narrow. So here

- a stratum's limits are Wilson's (Wilson 1927, "Probable inference, the law of succession, and statistical
  inference") of an effective number: at which independent trials would vary as the linearised ratio is seen
  to, less for how little few rows tell of that (Korn & Graubard 1998, "Confidence intervals for proportions
  with small expected number of positive counts estimated from survey data"). Where nearly no row differs
  from the others that is seen badly, so its inverse, the design effect of a trial, is shrunk towards that of
  rows wholly of the share or not at all, (sum of squared weights) / (sum of weights)^2 (Kish 1965, "Survey
  sampling", 11.7). This counts as `_PRIOR` rows, what is seen as so many as have residuals that tell, (sum
  of squares)^2 / (sum of fourth powers). Kish's is the largest, and taken where all rows are alike, so that
  nothing is seen to vary. Rows of equal weight that are wholly right or wrong have Wilson's own limits;
- strata are put together by MOVER, the square root of the sum of squared distances between limit and value
  (Zou, Huang & Zhang 2009, "A note on confidence interval estimation for a linear function of binomial
  proportions"; Yan & Su 2010, "Stratified Wilson and Newcombe confidence intervals for multiple binomial
  proportions"). What varies because a stratum's rows are of unequal weight is added;
- a paired difference is a share gained less a share lost, its limits Newcombe's (1998, "Improved confidence
  intervals for the difference between binomial proportions based on paired data", method 10). Each side's
  design effect is shrunk towards the other's, itself shrunk: where nothing was lost, what was gained tells
  how rows vary. Of models that were alike on all rows of one stratum it says that they differ by no more
  than z^2 / (n + z^2), n being Kish's number: that of the rows if they are of equal weight.

Simulated, 95 % intervals, 400 samples a case, of 5 to 59 tokens a row that hang together (beta-binomial):

- shares of 0.5, 0.7, 0.9, 0.97 in one stratum of 4 to 60 rows, correlation 0.1, 0.3, 0.9: the true share is
  held in 92.2 % (4 rows, 0.97, 0.9) to 100 % (4 rows, 0.5, 0.1), 97.4 % on the average: rather too wide, most
  so where few rows hang together little. Without the shrinking it was 79.8 % at the worst (20 rows, 0.97,
  0.3) and 92.7 % on the average, of intervals narrower by a seventh. Misses lie at the nearer end: of 0.97
  up to 7.8 % of samples have it above the upper limit, 0.8 % at the most below the lower one;
- two or three strata of 1 to 40 rows, of unlike shares and sizes, some all or nothing: 96.5 to 100 %;
- paired differences, 2 to 40 rows in one or two strata, some all or nothing: 95.3 to 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from factory.tasks.bootstrap import CONFIDENCE, Array, Estimate

Places = npt.NDArray[np.intp]
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_PRIOR = 1.0  # rows: more is wider where rows vary little, less a greater leap from where none does
_NOTHING = 1e-24  # of the sums of squares of what adds up to 1: only rounding


def strata(groups: Sequence[str]) -> list[Places]:
    """What rows are sampled from: those of a group, and together those of groups of one row.

    One row says nothing of how rows scatter; taken by itself it would count as certain. A lone one is joined
    by the smallest other group, as in `tasks/bootstrap.py`.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(groups):
        places.setdefault(name, []).append(place)
    by_size = sorted(places, key=lambda name: len(places[name]))
    singles = sum(len(own) == 1 for own in places.values())
    joined = set(by_size[: max(2, singles)] if singles else ())
    found = [own for name, own in places.items() if name not in joined]
    if joined:
        found.append([place for name, own in places.items() if name in joined for place in own])
    return [np.array(own) for own in found]


def share(above: Sequence[float] | Array, below: Sequence[float] | Array, groups: Sequence[str]) -> Estimate:
    """The sum of one column over that of another.

    Args:
        above: of each row, 0 <= above <= below.
        below: of each row, not all 0; rows of 0 have no part in it.
        groups: what each row belongs to; how many are of each was chosen and is no chance.

    Returns:
        `stderr` is None where some stratum says nothing of how rows vary; `n` are the rows, all of them.
    """
    found = _found(np.asarray(above, np.float64), np.asarray(below, np.float64), groups, paired=False)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def difference(
    ours: Sequence[float] | Array,
    theirs: Sequence[float] | Array,
    below: Sequence[float] | Array,
    groups: Sequence[str],
) -> Estimate:
    """The difference of two shares of the same rows: `sum(ours) / sum(below) - sum(theirs) / sum(below)`.

    Args:
        ours: of each row, 0 <= ours <= below.
        theirs: likewise.
        below: as `share` has it.
        groups: as `share` has them.
    """
    apart = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    found = _found(apart, np.asarray(below, np.float64), groups, paired=True)
    return replace(found, low=max(-1.0, found.low), high=min(1.0, found.high))


def _found(over: Array, under: Array, groups: Sequence[str], paired: bool) -> Estimate:
    """The strata put together; what is less than 0 is lost, which a share that is no difference cannot be."""
    whole = under.sum()
    value = float(over.sum() / whole)
    down = up = within = between = 0.0
    told = True
    counting = [place for place in range(len(under)) if under[place] > 0]
    for own in strata([groups[place] for place in counting]):
        places = np.array(counting)[own]
        some, weights = over[places] / whole, under[places] / whole
        gains, losses = _Seen.of(np.maximum(some, 0.0), weights), _Seen.of(np.maximum(-some, 0.0), weights)
        gained = gains.limited(losses.shrunk(gains.most) if paired else gains.most)
        lost = losses.limited(gains.shrunk(losses.most)) if paired else _Limited.none(len(own))
        together = gained.rest @ lost.rest
        alike = float(together / math.sqrt(gained.squares * lost.squares)) if together else 0.0
        down += _crossed(gained.down, lost.up, alike)
        up += _crossed(gained.up, lost.down, alike)
        rest = some - value * weights
        within += _spread(gained.rest - lost.rest)
        between += _spread(rest - rest.mean())
        told = told and (gained.squares > 0 or lost.squares > 0)
    more = _Z**2 * max(0.0, between - within)
    error = math.sqrt(max(between, within)) if told else None
    return Estimate(value, error, value - math.sqrt(down + more), value + math.sqrt(up + more), len(under))


@dataclass(frozen=True)
class _Limited:
    """A stratum's part of a share: the distances to its limits, the rows' residuals and their squares."""

    down: float
    up: float
    rest: Array
    squares: float

    @classmethod
    def none(cls, rows: int) -> _Limited:
        """Of what is known to be nothing."""
        return cls(0.0, 0.0, np.zeros(rows), 0.0)


@dataclass(frozen=True)
class _Seen:
    """What a stratum shows of a share; design effects are per trial, that is 1 / effective number."""

    part: float  # of the whole's sum
    value: float
    rest: Array
    squares: float
    telling: float  # how many rows' residuals tell how rows vary
    effect: float  # as seen
    most: float  # rows that are wholly of the share or not at all

    @classmethod
    def of(cls, over: Array, under: Array) -> _Seen:
        """Of columns that are parts of the whole's sum."""
        part, n = float(under.sum()), len(under)
        value = float(over.sum() / part)
        rest = over - value * under
        squares, most = float(rest @ rest), float(under @ under) / part**2
        if squares <= _NOTHING * part**2:
            return cls(part, value, np.zeros(n), 0.0, 0.0, most, most)
        seen = _spread(rest) / (value * (1 - value) * part**2) * (_student(n - 1) / _Z) ** 2
        telling = squares**2 / float(rest**2 @ rest**2)
        return cls(part, value, rest, squares, telling, min(seen, most), most)

    def shrunk(self, prior: float) -> float:
        """The design effect between the one seen and one expected before anything was seen."""
        return (self.telling * self.effect + _PRIOR * prior) / (self.telling + _PRIOR)

    def limited(self, prior: float) -> _Limited:
        """The distances to the limits."""
        low, high = wilson(self.value, 1 / self.shrunk(prior))
        return _Limited(
            self.part * (self.value - low), self.part * (high - self.value), self.rest, self.squares
        )


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson's limits of a share of `n` independent trials."""
    square = _Z**2 / n
    middle = (value + square / 2) / (1 + square)
    half = math.sqrt(square * value * (1 - value) + square**2 / 4) / (1 + square)
    return min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half))


def _student(freedom: int) -> float:
    """The quantile of Student's t that `_Z` is of the normal distribution, to 1 %: exact up to two degrees of
    freedom, beyond by the expansion of Abramowitz & Stegun 26.7.5.
    """
    z = _Z
    if freedom == 1:
        return math.tan(math.pi * CONFIDENCE / 2)
    if freedom == 2:
        return CONFIDENCE * math.sqrt(2 / (1 - CONFIDENCE**2))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _spread(rest: Array) -> float:
    """The variance of the sum of so many residuals, which add up to 0."""
    n = len(rest)
    return float(rest @ rest) * (n / (n - 1) if n > 1 else 1.0)


def _crossed(one: float, other: float, alike: float) -> float:
    """The squared distance to a limit of a difference; never less than 0 but for rounding."""
    return max(0.0, one**2 - 2 * alike * one * other + other**2)
