"""Measures of the hidden states between blocks: one pass of the backbone, without the language-model head.

Hooks see the state entering the first block and the one leaving every block: raw, before the final norm
(the model's own `hidden_states[-1]` is behind it). Sums stay on the device; what is read back at the end is
one small tensor, however many texts there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from factory.metrics.batches import Batch, Texts

if TYPE_CHECKING:
    from factory.stages import Progress

CHUNK = 512  # tokens whose Gram matrices are held in float64 at once


def angular(model: Any, blocks: Any, texts: Texts, progress: Progress) -> dict[str, Any]:
    """d(l, n) = arccos(cos(x_l, x_{l+n})) / pi at the last token of each text, averaged over texts.

    x_l is the state entering block l. Gromov et al. 2024, "The Unreasonable Ineffectiveness of the Deeper
    Layers", equation 7. All pairs come from one Gram matrix a text.

    Returns:
        `distances[n - 1][start]` for n = 1..L-1 and start = 0..L-n, in half turns (0 to 1).
    """
    import torch

    total = _square(model, blocks)

    def last(hidden: Any, batch: Batch) -> Any:
        return hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]

    def add(states: list[Any], batch: Batch) -> None:
        total.add_(_angles(states))

    _pass(model, blocks, texts, progress, last, add)
    return {"distances": _by_length(total / texts.rows)}


def angular_tokens(model: Any, blocks: Any, texts: Texts, progress: Progress) -> dict[str, Any]:
    """As `angular`, averaged over every token instead of the last of each text.

    The definition is that of Gromov et al. 2024; the average over tokens is that of Men et al. 2024
    (ShortGPT) and of PruneMe's block similarity.

    Returns:
        As `angular`.
    """
    total = _square(model, blocks)

    def add(states: list[Any], batch: Batch) -> None:
        for parts in zip(*(state.split(CHUNK) for state in states), strict=True):
            total.add_(_angles(parts))

    _pass(model, blocks, texts, progress, _real, add)
    return {"distances": _by_length(total / texts.tokens)}


def block_influence(model: Any, blocks: Any, texts: Texts, progress: Progress) -> dict[str, Any]:
    """BI_l = 1 - E[cos(x_l, x_{l+1})] over all tokens: how far a block turns the stream.

    Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
    equation 1.

    Returns:
        `scores[l]`, from 0 (the block changes no direction) to 2.
    """
    import torch

    total = torch.zeros(len(blocks), dtype=torch.float64, device=model.device)

    def real(hidden: Any, batch: Batch) -> Any:
        # Two states are compared at a time, so that no more are held.
        state = _real(hidden, batch).float()
        return torch.nn.functional.normalize(state, dim=-1)

    before: list[Any] = []

    def seen(index: int, state: Any) -> None:
        if index:
            total[index - 1] += (before.pop() * state).sum(dim=-1).double().sum()
        before[:] = [state]

    _pass(model, blocks, texts, progress, real, seen=seen)
    return {"scores": (1 - total / texts.tokens).tolist()}


def _square(model: Any, blocks: Any) -> Any:
    import torch

    return torch.zeros(len(blocks) + 1, len(blocks) + 1, dtype=torch.float64, device=model.device)


def _real(hidden: Any, batch: Batch) -> Any:
    """The states of all tokens of a batch, of shape (tokens, width); padding has none."""
    return hidden.flatten(0, 1).index_select(0, batch.places)


def _angles(states: Sequence[Any]) -> Any:
    """The angles between all pairs of states, summed over tokens, in half turns.

    Args:
        states: L + 1 of shape (tokens, width).
    """
    import torch

    # float64, because arccos near 1 turns an error of 1e-7 in the cosine into 1e-4. It is the products that
    # are brought to length 1, not the states: they are fewer.
    exact = torch.stack(list(states)).double().transpose(0, 1)
    products = exact @ exact.transpose(1, 2)
    shrink = products.diagonal(dim1=1, dim2=2).clamp(min=1e-24).rsqrt()
    cosines = products.mul_(shrink[:, :, None]).mul_(shrink[:, None, :])
    return cosines.clamp_(-1, 1).arccos_().sum(dim=0) / torch.pi


def _by_length(mean: Any) -> list[list[float]]:
    found, blocks = mean.tolist(), len(mean) - 1  # the one transfer
    return [[found[start][start + n] for start in range(blocks - n + 1)] for n in range(1, blocks)]


def _pass(
    model: Any,
    blocks: Any,
    texts: Texts,
    progress: Progress,
    take: Callable[[Any, Batch], Any],
    add: Callable[[list[Any], Batch], None] | None = None,
    seen: Callable[[int, Any], None] | None = None,
) -> None:
    """One pass over the texts.

    Args:
        model: a decoder's backbone.
        blocks: its blocks.
        texts: what goes through it.
        progress: told the texts done.
        take: what is wanted of a state of shape (texts, tokens, width).
        add: given what was taken of all L + 1 states of a batch; without it nothing is kept.
        seen: given the index of a state and what was taken of it, at once.
    """
    import torch

    states: list[Any] = []
    current: list[Batch] = []

    def told(index: int, hidden: Any) -> None:
        taken = take(hidden, current[0])
        if add is not None:
            states.append(taken)
        if seen is not None:
            seen(index, taken)

    def entering(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        told(0, args[0] if args else kwargs["hidden_states"])

    def leaving(index: int) -> Any:
        return lambda module, args, output: told(
            index, output[0] if isinstance(output, tuple | list) else output
        )

    hooks = [blocks[0].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [block.register_forward_hook(leaving(index)) for index, block in enumerate(blocks, 1)]
    try:
        with torch.inference_mode():
            for batch in texts.batches():
                current[:] = [batch]
                model(input_ids=batch.ids, use_cache=False)
                if add is not None:
                    add(states, batch)
                states.clear()
                done = texts.rows + len(batch.ids)
                progress(done, max(done, texts.expected or 0), "texts")
    finally:
        for hook in hooks:
            hook.remove()
