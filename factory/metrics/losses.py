"""Measures of the loss: what the model loses without a block, and how its loss leans on a block's weights.

Slower than streams.py: logits are needed, and a pass for every block or the gradients. The loss is that
of predicting each next token of the calibration texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from factory.metrics.batches import Batch, Texts
from factory.models.load import tuple_length

if TYPE_CHECKING:
    from factory.stages import Progress


def perplexity(model: Any, blocks: Any, texts: Texts, progress: Progress) -> dict[str, Any]:
    """What perplexity gains when one block is left out, for each block of the whole model.

    Kim et al. 2024, "Shortened LLaMA: A Simple Depth Pruning for Large Language Models" (criterion PPL);
    the first step of `perplexity_iterative`.

    Returns:
        `scores[l]`, the increase, and `perplexity`, that of the whole model.
    """
    *without, whole = _perplexities(model, blocks, texts, (), range(len(blocks)), progress, 0, 1)
    return {"scores": [found - whole for found in without], "perplexity": whole}


def perplexity_iterative(
    model: Any,
    blocks: Any,
    texts: Texts,
    progress: Progress,
    rounds: int = 1,
    exclude: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Removes the block whose absence costs the least perplexity, scores the rest anew, and so on.

    Song et al. 2024, "SLEB: Streamlining LLMs through Redundancy Verification and Elimination of
    Transformer Blocks", algorithm 1. The first blocks of a longer sequence are the shorter sequence.

    Args:
        model: a causal language model.
        blocks: its blocks.
        texts: the calibration texts.
        progress: told the texts done, over all rounds.
        rounds: blocks to remove.
        exclude: blocks at the beginning and at the end that stay.

    Returns:
        `order`, the blocks as they go; `scores[i]`, the increase of perplexity once the first i + 1 of
        them are gone; `perplexity`, that of the whole model.
    """
    order: list[int] = []
    scores: list[float] = []
    whole = 0.0
    for turn in range(rounds):
        left = [block for block in range(exclude[0], len(blocks) - exclude[1]) if block not in order]
        *found, before = _perplexities(model, blocks, texts, order, left, progress, turn, rounds)
        whole = whole if turn else before
        best = min(range(len(left)), key=found.__getitem__)
        order.append(left[best])
        scores.append(found[best] - whole)
    return {"order": order, "scores": scores, "perplexity": whole}


def taylor(model: Any, blocks: Any, texts: Texts, progress: Progress) -> dict[str, Any]:
    """The sum of |w * dL/dw| over a block's weights: to first order, what the loss changes without them.

    L is the mean loss over all calibration tokens. Kim et al. 2024, "Shortened LLaMA" (criterion
    Taylor), after Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning".

    Returns:
        `scores[l]`, in nats.
    """
    import torch

    model.requires_grad_(False)
    blocks.requires_grad_(True)
    predicted = 0
    try:
        for batch in texts.batches():
            _loss(model, batch).backward()  # gradients add up in place
            predicted += len(batch.ids)
            done = texts.rows + len(batch.ids)
            progress(done, max(done, texts.expected or 0), "texts")
        tokens = texts.tokens - predicted
        sums = []
        for block in blocks:
            # Experts that no token went to have no gradient.
            weights = [w for w in block.parameters() if w.grad is not None]
            sums.append(sum((w.detach() * w.grad).abs().sum(dtype=torch.float64) for w in weights) / tokens)
        return {"scores": [float(found) for found in sums]}
    finally:
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)


def _loss(model: Any, batch: Batch) -> Any:
    """The summed loss of all tokens of a batch but the first of each text, in nats."""
    import torch

    logits = model(input_ids=batch.ids, use_cache=False).logits
    wanted = batch.ids[:, 1:].masked_fill(~batch.real()[:, 1:], -100)
    # The last place predicts nothing; without it the logits, the largest thing here, would be copied.
    wanted = torch.nn.functional.pad(wanted, (0, 1), value=-100)
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
    )


def _perplexities(
    model: Any,
    blocks: Any,
    texts: Texts,
    gone: Sequence[int],
    tried: Sequence[int],
    progress: Progress,
    turn: int,
    turns: int,
) -> list[float]:
    """Perplexities without some blocks, in one pass over the texts.

    Returns:
        Without `gone` and one more block, for each of `tried`, which ascend; last, without `gone` alone.
    """
    import torch

    total = torch.zeros(len(tried) + 1, dtype=torch.float64, device=model.device)
    values = tuple_length(model, blocks)
    with torch.inference_mode():
        for batch in texts.batches():
            for i, loss in enumerate(_without(model, blocks, batch, gone, tried, values)):
                total[i] += loss
            done = texts.rows + len(batch.ids)
            each = max(done, texts.expected or 0)
            progress(turn * each + done, turns * each, "texts")
    means = (total / (texts.tokens - texts.rows)).tolist()
    return [math.exp(mean) if mean < 700 else math.inf for mean in means]


def _without(
    model: Any, blocks: Any, batch: Batch, gone: Sequence[int], tried: Sequence[int], values: int
) -> Iterator[Any]:
    """The losses of one batch, in the order of `_perplexities`.

    What enters a block is the same for all candidates behind it. So each forward pass begins with the state
    that the one before has left, and only the blocks behind the candidate are computed anew: of L blocks
    L / 2 a candidate. One state is held.
    """
    held: list[Any] = []

    def fork(block: int) -> Callable[..., Any]:
        """Goes round the block, and leaves what it would have given to the next candidate."""
        compute = blocks[block].forward

        def forward(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
            entering = held.pop() if held else hidden_states
            given = compute(entering.clone(), *args, **kwargs)  # a clone: it may be added to in place
            held.append(given[0] if values else given)
            return _as_given(entering, values)

        return forward

    def join(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return _as_given(held[0], values)

    for block in tried:
        past = range(block) if held else ()
        with _instead(blocks, {**_passing((*gone, *past), values), block: fork(block)}):
            loss = _loss(model, batch)
        yield loss
    last = tried[-1]
    with _instead(blocks, {**_passing((*gone, *range(last)), values), last: join}):
        loss = _loss(model, batch)
    yield loss


def _passing(gone: Iterable[int], values: int) -> dict[int, Callable[..., Any]]:
    """Lets the stream pass by some blocks; they compute nothing."""

    def forward(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return _as_given(hidden_states, values)

    return dict.fromkeys(gone, forward)


def _as_given(hidden: Any, values: int) -> Any:
    """A state as a block gives it: by itself, or in a tuple of so many values."""
    return (hidden, *[None] * (values - 1)) if values else hidden


@contextmanager
def _instead(blocks: Any, forwards: Mapping[int, Callable[..., Any]]) -> Iterator[None]:
    """Other functions in the place of some blocks' own, which keep their place and attributes."""
    try:
        for index, forward in forwards.items():
            blocks[index].forward = forward
        yield
    finally:
        for index in forwards:
            vars(blocks[index]).pop("forward", None)
