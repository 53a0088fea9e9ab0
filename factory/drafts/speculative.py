"""Speculative decoding in numbers: steps, acceptance, expected speed-up. Under stages/draft.py; no model.

A draft proposes K tokens, the target checks them in one forward pass, keeps those up to the first it would
not have chosen, and adds one of its own (Leviathan et al., arXiv 2211.17192). For every token of a text
that the target wrote, let a_i be the chance that a draft which has read all before it gets it accepted:

    greedy     1 where the draft's likeliest token is the target's, else 0
    sampled    min(1, q(x_i) / p(x_i)), p and q being what target and draft give the token that stands there

Given the text, whether token i is accepted where it is proposed depends on nothing else: the rule keeps a
proposed x with probability min(p, q)(x) and then draws the rest of p, so of all texts in which x stands at
i the share min(p, q)(x) / p(x) = a_i was kept. So the number of steps that a text takes follows from its a_i
exactly: as a list where they are 0 and 1, else in expectation. Nothing is approximated but that the texts
are a sample. The acceptance rate, the chance at one position over all tokens, is sum min(p, q).

A text never ends with an accepted token: what ends it (a stop token, or the limit) is counted as the
target's own, as transformers counts it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from factory.drafts import ALL
from factory.tasks.bootstrap import Array
from factory.tasks.shares import share

MOST = 8
"""The most tokens a draft proposes that are looked at; K is 1..MOST."""


def step_list(flags: Sequence[bool], k: int) -> list[int]:
    """How many proposed tokens are accepted in each step of assisted generation.

    Args:
        flags: for every token of the target's greedy text, whether the draft would have proposed it.
        k: proposed tokens a step; fewer where the text may not grow by so many and one more.
    """
    steps, done = [], 0
    while done < len(flags):
        room = min(k, len(flags) - 1 - done)
        accepted = next((j for j in range(room) if not flags[done + j]), room)
        steps.append(accepted)
        done += accepted + 1
    return steps


def expected_steps(chances: Sequence[Array]) -> Array:
    """The expected number of steps that texts take, (texts, MOST): column K - 1 is for K proposed tokens.

    Args:
        chances: for every text the a_i of its tokens, in 0..1.
    """
    lengths = np.array([len(one) for one in chances])
    width = int(lengths.max(initial=0))
    accept = np.zeros((len(chances), width + MOST + 1))
    for row, one in zip(accept, chances, strict=True):
        row[: len(one)] = one  # 0 behind the text, where no step is counted either
    inside = np.arange(width) < lengths[:, None]
    found = np.zeros((len(chances), MOST))
    for k in range(1, MOST + 1):
        begins = np.zeros((len(chances), width + k + 1))  # the chance that a step begins at a token
        begins[:, 0] = 1.0
        for i in range(width):
            left = begins[:, i]
            for j in range(k):
                kept = left * accept[:, i + j]
                begins[:, i + j + 1] += left - kept
                left = kept
            begins[:, i + k + 1] += left
        found[:, k - 1] = (begins[:, :width] * inside).sum(1)
    return found


@dataclass(frozen=True)
class Accepted:
    """What texts add up to, a row a text.

    Attributes:
        tokens: of each text, (texts,).
        rates: sums over its tokens of the chance of acceptance, (texts,).
        steps: as `expected_steps` tells, (texts, MOST).
    """

    tokens: Array
    rates: Array
    steps: Array

    @classmethod
    def together(cls, parts: Sequence[Accepted]) -> Accepted:
        """The texts of several."""
        return cls(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("tokens", "rates", "steps"))
        )

    def summary(self, sets: Sequence[str] = ()) -> dict[str, Any]:
        """Acceptance with 95 % intervals, as `factory/tasks/shares.py` has them: over the texts.

        What a step keeps of K proposed tokens is K times the share that it keeps, a share like the others.

        Args:
            sets: of each text its set of prompts; how many there are of each was chosen and is no chance.

        Returns:
            `rate`, the share of tokens accepted where they are proposed; `k`, for each K `accepted`
            (proposed tokens kept a step) and `tokens` (those and the target's own); `texts`, `tokens`, how
            many there are.
        """
        groups = sets or [ALL] * len(self.tokens)

        def told(of: Array, whole: Array, factor: float = 1.0, more: float = 0.0) -> dict[str, Any]:
            found = share(np.clip(of, 0.0, whole), whole, groups)  # more, or less than 0, but by rounding
            ends = {name: factor * getattr(found, name) + more for name in ("value", "low", "high")}
            return {**ends, "n": found.n}

        by_k = []
        for k in range(1, MOST + 1):
            steps = self.steps[:, k - 1]
            kept = (self.tokens - steps, k * steps, k)
            by_k.append({"k": k, "accepted": told(*kept), "tokens": told(*kept, more=1.0)})
        rate = told(self.rates, self.tokens)
        return {"texts": len(groups), "tokens": int(self.tokens.sum()), "rate": rate, "k": by_k}


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass with a cache, for one sequence.

    Attributes:
        draft: of the draft over one token.
        target: of the target over one token.
        verify: of the target over K + 1 tokens, K = 1..MOST.
        a_token: what generating costs besides, for every token of a model that decodes token by token: the
            target alone, or the draft.
        a_step: what a step of assisted generation costs besides.
    """

    draft: float
    target: float
    verify: tuple[float, ...]
    a_token: float = 0.0
    a_step: float = 0.0

    @classmethod
    def measured(cls, draft: float, target: Sequence[float]) -> Latency:
        """From timings, of the target over 1..MOST + 1 tokens.

        More tokens take no less: where noise says so, neighbours are averaged until none does (isotonic
        regression by pooling adjacent violators, Ayer et al. 1955).
        """
        pools: list[list[float]] = []
        for seconds in target:
            pools.append([seconds])
            while len(pools) > 1 and statistics.fmean(pools[-2]) > statistics.fmean(pools[-1]):
                last = pools.pop()
                pools[-1] += last
        rising = [statistics.fmean(pool) for pool in pools for _ in pool]
        return cls(draft, rising[0], tuple(rising[1:]))

    def generating(self, token: float, steps: Mapping[int, float]) -> Latency:
        """With what generation was seen to cost besides the forward passes.

        A draft's token is taken to cost as much besides as one of the target alone: both are decoded by the
        same loop. What a step takes over that is its own, in the median of the steps that were timed. So
        decoding as it was measured with a single K is what `speed_up` gives for it.

        Args:
            token: seconds for a token of the target alone.
            steps: seconds for a step, by the proposed tokens of such a step.
        """
        a_token = token - self.target
        besides = [took - k * (self.draft + a_token) - self.verify[k - 1] for k, took in steps.items()]
        return replace(self, a_token=a_token, a_step=statistics.median(besides))

    def speed_up(self, tokens: float, k: int, draft: float | None = None) -> float:
        """How much faster the target decodes with the draft than alone.

        Args:
            tokens: written a step.
            k: proposed a step.
            draft: seconds of the draft's forward, if another's.
        """
        proposed = k * ((self.draft if draft is None else draft) + self.a_token)
        return tokens * (self.target + self.a_token) / (proposed + self.verify[k - 1] + self.a_step)

    def by_k(self, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The expected speed-up for each K; its interval is that of acceptance alone."""
        return [
            {
                "k": row["k"],
                **{end: self.speed_up(row["tokens"][end], row["k"]) for end in ("value", "low", "high")},
            }
            for row in summary["k"]
        ]

    def pays_from(self, summary: Mapping[str, Any], of: int, removed: int) -> dict[str, Any]:
        """From how many removed blocks a draft made of the target makes decoding faster.

        A forward is taken to cost so much a block and so much besides, both told by draft and target;
        acceptance is held at what was measured, though with more blocks gone it falls.

        Args:
            summary: from `Accepted.summary`.
            of: blocks of the target.
            removed: how many of them the draft lacks, at least 1.

        Returns:
            `per_block` and `besides`, in seconds; `removed`, the least number, None where there is none or
            a block's cost cannot be told; `k`, the best there.
        """
        each = (self.target - self.draft) / removed
        found: dict[str, Any] = {
            "per_block": each,
            "besides": self.target - of * each,
            "removed": None,
            "k": None,
        }
        if each <= 0:
            return found
        for gone in range(1, of):
            draft = max(0.0, self.target - gone * each)
            speeds = {
                row["k"]: self.speed_up(row["tokens"]["value"], row["k"], draft) for row in summary["k"]
            }
            best = max(speeds, key=lambda k: speeds[k])
            if speeds[best] > 1:
                return {**found, "removed": gone, "k": best}
        return found


def best(by_k: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of `Latency.by_k` the fastest; of equals the one with fewer proposed tokens."""
    return dict(max(by_k, key=lambda row: row["value"]))
