"""Which response a row is trained on: regeneration asks here once a row's candidates are all there.

checks.py judges each candidate; a policy chooses among them and the original. Under every policy a text
that was cut off or is empty is a failure and not an answer, and no row is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from factory.data import checks
from factory.engines import Generated

Policy = Literal["verify", "always", "best_of", "likeliest"]
POLICIES: tuple[str, ...] = get_args(Policy)
MEANING = {
    "verify": "the regenerated response where it checks out, else the original",
    "always": "the regenerated response wherever it is whole, whatever the check says, else the original",
    "best_of": "the first of several samples that checks out, else the original",
    "likeliest": "of the samples that check out and the original, the one likeliest a token under the base",
}
LESS_LIKELY = "original likelier"
"""Against a regenerated response that checks out, under `likeliest`."""
REASONS = (*checks.REASONS, LESS_LIKELY)
DECIMALS = 3  # of log-probabilities: batches change what stands behind them


@dataclass(frozen=True)
class Likelihoods:
    """Mean log-probabilities, in nats a token, under the base that does not see the reference.

    Attributes:
        original: of the original response.
        samples: of each candidate, by its number.
    """

    original: float
    samples: Mapping[int, float]


class Selection(NamedTuple):
    """What a row is trained on.

    Attributes:
        response: the text taken.
        kept: "regenerated" or "original".
        reason: one of `REASONS`: what was found about the candidate shown.
        sample: number of the candidate shown: the one kept, or the one whose flaw the reason tells.
    """

    response: str
    kept: str
    reason: str
    sample: int


def settled(row: Mapping[str, str], generated: Generated, check: str) -> bool:
    """Whether a candidate ends the search of `best_of`: the first that checks out does."""
    return checks.judge(row, generated, check) == checks.OK


def choose(
    row: Mapping[str, str],
    candidates: Sequence[Generated],
    check: str,
    policy: Policy = "verify",
    likelihoods: Likelihoods | None = None,
) -> Selection:
    """Chooses between the original and the regenerated responses of a row.

    `likeliest` follows GRAPE (arXiv 2502.04194), which trains on the response that the model to be
    trained finds likeliest; here the candidates must check out, and a tie goes to the original.

    Args:
        row: instruction, context, response (the original) and answer, "" where there is none.
        candidates: what the engine gave for it, in the order of the samples; one or more.
        check: a name that `checks.find` knows.
        policy: see `MEANING`.
        likelihoods: for `likeliest`.
    """
    reasons = [checks.judge(row, candidate, check) for candidate in candidates]
    passed = [i for i, reason in enumerate(reasons) if reason == checks.OK]
    if policy == "always":
        whole = checks.flaw(candidates[0]) is None
        return _taken(row, candidates, 0, reasons[0], regenerated=whole)
    if not passed:
        return _taken(row, candidates, 0, reasons[0], regenerated=False)
    if policy != "likeliest" or likelihoods is None:
        return _taken(row, candidates, passed[0], checks.OK, regenerated=True)
    best = max(passed, key=lambda i: (round(likelihoods.samples[i], DECIMALS), -i))
    if round(likelihoods.samples[best], DECIMALS) > round(likelihoods.original, DECIMALS):
        return _taken(row, candidates, best, checks.OK, regenerated=True)
    return _taken(row, candidates, best, LESS_LIKELY, regenerated=False)


def _taken(
    row: Mapping[str, str], candidates: Sequence[Generated], shown: int, reason: str, *, regenerated: bool
) -> Selection:
    if regenerated:
        return Selection(candidates[shown].text, "regenerated", reason, shown)
    return Selection(row["response"], "original", reason, shown)
