"""What is found at each token of a response: small functions of the logits in front of it. For reader.py.

Each takes the tokens that stand there, (n,), and of every model its logits, float32 (n, vocabulary), which it
may overwrite; it gives figures by name, (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

Found = Mapping[str, torch.Tensor]
Measure = Callable[..., Found]

ROUNDINGS = {torch.float32: 512.0}
"""Units in the last place by which two logits may be off together. In half precision each is off by one: half
of it the head's rounding of a sum, half that of the states summed up. In float32 it is the sums themselves,
over hundreds of terms in an order that the batch decides."""
_HALF = 2.0


def tie(model: Any) -> float:
    """The gap between a model's two likeliest tokens that says nothing, as a share of the larger logit.

    In bfloat16, of 8 significant bits, 2 / 128: 0.25 at a logit of 16; in float32 0.00006.
    """
    return float(torch.finfo(model.dtype).eps) * ROUNDINGS.get(model.dtype, _HALF)


def surprise(tokens: torch.Tensor, logits: torch.Tensor) -> Found:
    """`nll`: -log p of the token, in nats."""
    return {"nll": logits.logsumexp(-1) - _at(logits, tokens)}


def divergence(tokens: torch.Tensor, base: torch.Tensor, other: torch.Tensor) -> Found:
    """How far two distributions over the same tokens are apart, from log-softmaxes in float32.

    `nll_base` and `nll`: -log p of the token under each, in nats; `kl`: KL(base || other) over the whole
    vocabulary, in nats, summed in float64; `agreed`: 1 where both find the same token likeliest, else 0.
    """
    p, q = base.log_softmax(-1), other.log_softmax(-1)
    del base, other
    weights = p.exp()
    # Where the first gives nothing its term is 0, whatever the second gives.
    terms = torch.where(weights > 0, weights * (p - q), 0.0)
    return {
        "nll_base": -_at(p, tokens),
        "nll": -_at(q, tokens),
        "kl": terms.sum(-1, dtype=torch.float64).clamp_min(0.0),  # less than 0 only by rounding
        "agreed": p.argmax(-1) == q.argmax(-1),
    }


def proposed(near: float) -> Measure:
    """Whether a draft proposes greedily what stands there.

    `accept`: 1 where it does, else 0; `ties`: 1 where its two likeliest logits lie closer than the share
    `near` of the larger in size.
    """

    def measure(tokens: torch.Tensor, draft: torch.Tensor) -> Found:
        two = draft.topk(min(2, draft.shape[-1]), dim=-1)
        close = _tied(two.values[:, 0], two.values[:, -1], near)
        return {"accept": two.indices[:, 0] == tokens, "ties": close}

    return measure


def kept(temperature: float) -> Measure:
    """What the rejection rule keeps of a draft's proposals, both drawing from softmax(logits / temperature).

    `accept`: min(1, q / p) of the token that stands there; `rate`: the sum of min(p, q), the chance that a
    proposed token is kept; see `factory/drafts/speculative.py`. Where one has more logits than the other,
    those are for no token: they take part in its softmax and cannot be accepted.
    """

    def measure(tokens: torch.Tensor, target: torch.Tensor, draft: torch.Tensor) -> Found:
        p, q = target.div_(temperature).softmax(-1), draft.div_(temperature).softmax(-1)
        del target, draft
        shared = min(p.shape[-1], q.shape[-1])
        return {
            "accept": (_at(q, tokens) / _at(p, tokens).clamp_min(1e-37)).clamp_(max=1.0),
            "rate": torch.minimum(p[:, :shared], q[:, :shared]).sum(-1).clamp_(max=1.0),
        }

    return measure


def greedily(near: float) -> Measure:
    """`greedy`: 1 where the token is the likeliest, or its logit within the share `near` of that; else 0."""

    def measure(tokens: torch.Tensor, logits: torch.Tensor) -> Found:
        most, own = logits.amax(-1), _at(logits, tokens)
        return {"greedy": (own == most) | _tied(most, own, near)}

    return measure


def _tied(most: torch.Tensor, other: torch.Tensor, near: float) -> torch.Tensor:
    return most - other < near * torch.maximum(most.abs(), other.abs())


def _at(values: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return values.gather(-1, tokens[:, None])[:, 0]
