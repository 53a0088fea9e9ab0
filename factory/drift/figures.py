"""Figures of drift with their intervals, from measured rows: of one model, and of two on the same prompts.

Between the stage drift, which measures and writes them into its record, and the report, which compares. A
figure a token is the ratio of two sums over prompts, since the tokens of one response hang together. Shares
(agreeing tokens, same responses, lost documents) have the intervals of `tasks/shares.py`, which hold up where
a share is exactly 0 or 1; all others those of a bootstrap that draws prompts (inside each dataset, as
`tasks/bootstrap.py` draws documents inside a group). Every model's draws are the same, so that what two
models share cancels in a difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from factory.tasks import shares
from factory.tasks.bootstrap import Array, draw_means, estimate

EXACT = 8  # pairs up to which all orders are tried for the chance of a rank correlation
DRAWN = 20_000  # orders that are drawn beyond
COLUMNS = ("tokens", "kl", "agreed", "nll_base", "nll", "similarity", "identical")


@dataclass(frozen=True)
class Rows:
    """Measured prompts, column by column, in one order for all models.

    Attributes:
        dataset: of each prompt.
        columns: by name (see the stage drift's files), a number a prompt.
    """

    dataset: Sequence[str]
    columns: Mapping[str, Sequence[float]]

    def of(self, dataset: str) -> Rows:
        """Those of one dataset."""
        chosen = [i for i, name in enumerate(self.dataset) if name == dataset]
        columns = {name: [values[i] for i in chosen] for name, values in self.columns.items()}
        return Rows([dataset] * len(chosen), columns)


@dataclass(frozen=True)
class Sure:
    """A figure with the bootstrap's replicates of it.

    Attributes:
        value: the figure.
        draws: its replicates.
        n: the rows behind it.
    """

    value: float
    draws: Array
    n: int

    @property
    def estimate(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(estimate(self.value, self.draws, self.n))

    def minus(self, other: Sure) -> dict[str, Any]:
        """This one less another of the same prompts."""
        return asdict(estimate(self.value - other.value, self.draws - other.draws, self.n))


@dataclass(frozen=True)
class Share:
    """A share, as the rows that it is of.

    Attributes:
        above: of each row what counts.
        below: of what; not all 0.
        groups: what each row belongs to.
    """

    above: Sequence[float]
    below: Sequence[float]
    groups: Sequence[str]

    @property
    def value(self) -> float:
        """The figure."""
        return float(np.sum(self.above) / np.sum(self.below))

    @property
    def estimate(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(shares.share(self.above, self.below, self.groups))

    def minus(self, other: Share) -> dict[str, Any]:
        """This one less another of the same prompts, which is a share of the same."""
        return asdict(shares.difference(self.above, other.above, self.below, self.groups))


def figure(rows: Rows, name: str, replicates: int, seed: int) -> Sure | Share | None:
    """One figure; None where no prompt has what it is about.

    Args:
        rows: of the model.
        name: `kl`, `agreement` or `perplexity`, `perplexity_base` (over tokens); `similarity` or `identical`
            (over prompts).
        replicates: of the bootstrap.
        seed: of its draws.
    """
    each = [1.0] * len(rows.dataset)
    if name == "identical":
        return share(rows.columns[name], each, rows.dataset)
    if name == "agreement":
        return share(rows.columns["agreed"], rows.columns["tokens"], rows.dataset)
    if name == "similarity":
        return ratio(rows.columns[name], each, rows.dataset, replicates, seed)
    above = {"kl": "kl", "perplexity": "nll", "perplexity_base": "nll_base"}[name]
    found = ratio(rows.columns[above], rows.columns["tokens"], rows.dataset, replicates, seed)
    return exponential(found) if found and name.startswith("perplexity") else found


def difference(ours: Rows, theirs: Rows, name: str, replicates: int, seed: int) -> dict[str, Any] | None:
    """One model's figure less another's, on the same prompts and draws; None where there is none."""
    one, other = (figure(rows, name, replicates, seed) for rows in (ours, theirs))
    if isinstance(one, Share) and isinstance(other, Share):
        return one.minus(other)
    return one.minus(other) if isinstance(one, Sure) and isinstance(other, Sure) else None


def share(above: Sequence[float], below: Sequence[float], groups: Sequence[str]) -> Share | None:
    """What of `below` is `above`, row by row; None where there is nothing below."""
    return Share(above, below, groups) if sum(below) > 0 else None


def perplexity(nll: Sequence[float], tokens: Sequence[int], replicates: int, seed: int) -> Sure | None:
    """exp(sum of nll / sum of tokens), the texts drawn; None without tokens."""
    found = ratio(nll, tokens, ["text"] * len(nll), replicates, seed)
    return exponential(found) if found else None


def exponential(mean: Sure) -> Sure:
    """exp of a mean, and of its draws; infinite means give the largest number."""
    most = math.log(np.finfo(np.float64).max)
    return Sure(math.exp(min(mean.value, most)), np.exp(np.minimum(mean.draws, most)), mean.n)


def ratio(
    above: Sequence[float], below: Sequence[float], groups: Sequence[str], replicates: int, seed: int
) -> Sure | None:
    """The sum of one column over that of another, rows drawn inside each group; None where that is 0.

    Args:
        above: a number a row.
        below: another.
        groups: what each row belongs to.
        replicates: of the bootstrap.
        seed: of its draws.
    """
    over, under = np.asarray(above, np.float64), np.asarray(below, np.float64)
    if not len(over) or not under.sum() > 0:
        return None
    # Means over groups of groups' means would weigh datasets alike; sums weigh every token alike.
    drawn_from = shares.strata(groups)
    replicas = [_weighted(values, drawn_from, replicates, seed) for values in (over, under)]
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = replicas[0] / replicas[1]
    value = float(over.sum() / under.sum())
    return Sure(value, np.where(replicas[1] > 0, draws, value), len(over))


def _weighted(values: Array, strata: Sequence[shares.Places], replicates: int, seed: int) -> Array:
    """Replicates of the plain mean, rows drawn inside each stratum; the same draws for all `values`."""
    total = np.zeros(replicates)
    for number, own in enumerate(strata):
        drawn = draw_means(values[own], ["drawn"] * len(own), replicates, seed + number)
        total += len(own) / len(values) * drawn
    return total


def rank_correlation(
    first: Sequence[float], second: Sequence[float], groups: Sequence[object] = (), seed: int = 0
) -> dict[str, Any] | None:
    """Spearman's rank correlation of pairs, and how often chance gives one as far from 0.

    Ties get the mean of their ranks. With groups, pairs are ranked inside their group and chance deals them
    anew inside it, so that what goes with the group counts for nothing. Where that makes no more than `EXACT`
    pairs' number of orders all are tried, else `DRAWN` are drawn.

    Returns:
        `rho`, `n` (pairs in groups of two and more) and `p` (two-sided); None for fewer than three pairs, or
        where all of one side are equal.
    """
    places: dict[object, list[int]] = {}
    for place, group in enumerate(groups or [""] * len(first)):
        places.setdefault(group, []).append(place)
    several = [own for own in places.values() if len(own) > 1]
    n = sum(map(len, several))
    if n < 3:
        return None
    ours, theirs = ([_ranks([side[i] for i in own]) for own in several] for side in (first, second))
    square = math.sqrt(sum(one @ one for one in ours) * sum(one @ one for one in theirs))
    if square == 0:
        return None

    def rho(orders: Iterable[Any]) -> float:
        return float(sum(a @ b[order] for a, b, order in zip(ours, theirs, orders, strict=True)) / square)

    found = rho(np.arange(len(own)) for own in several)
    if math.prod(math.factorial(len(own)) for own in several) <= math.factorial(EXACT):
        every = [[np.array(order) for order in itertools.permutations(range(len(own)))] for own in several]
        tried = [abs(rho(orders)) >= abs(found) - 1e-12 for orders in itertools.product(*every)]
        p = sum(tried) / len(tried)
    else:
        random = np.random.default_rng(seed)
        dealt = (rho(random.permutation(len(own)) for own in several) for _ in range(DRAWN))
        p = (1 + sum(abs(one) >= abs(found) - 1e-12 for one in dealt)) / (1 + DRAWN)
    return {"rho": found, "n": n, "p": p}


def _ranks(values: Sequence[float]) -> Array:
    """Ranks less their mean."""
    found = np.asarray(values, np.float64)
    ranks = np.array([(found < value).sum() + ((found == value).sum() + 1) / 2 for value in found])
    return ranks - ranks.mean()
