"""Angular distances the way PruneMe takes them, to measure ours beside it.

Written anew from what compute_block_similarity of https://github.com/arcee-ai/PruneMe (commit 279c6b1) does:
texts in the order in which they come, 8 at a time, padded to the longest; the whole causal language model,
with logits of every token and all hidden states kept; the last real token looked up text by text and state by
state; runs of one length, their distances read back one by one; the first state left out, the last one behind
the final norm; a batch that is not full dropped. Left out: its quantisation to 4 bits, so that both measure
one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

BATCH = 8  # as in its run_layer_similarity.sh


def distances(model: Any, texts: Sequence[Sequence[int]], n: int) -> list[float]:
    """Of each run of `n` blocks the mean angle between its ends' states, in half turns.

    Args:
        model: a causal language model.
        texts: token ids of each text.
        n: length of the runs.

    Returns:
        For the states leaving blocks 0, 1, .. L-n-1.
    """
    sums = [0.0] * (model.config.num_hidden_layers - n)
    batches = [texts[i : i + BATCH] for i in range(0, len(texts) - BATCH + 1, BATCH)]
    for batch in batches:
        ids = [torch.tensor(text) for text in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(model.device)
        lengths = torch.tensor([len(text) for text in batch])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long().to(model.device)
        with torch.no_grad():
            given = model(input_ids=padded, attention_mask=mask, output_hidden_states=True, use_cache=False)
        last = []
        for state in given.hidden_states[1:]:
            places = [int(row.nonzero().max()) for row in mask]
            last.append(torch.stack([state[row, place] for row, place in enumerate(places)]))
        for start in range(len(sums)):
            cosine = torch.cosine_similarity(last[start], last[start + n], dim=-1)
            sums[start] += (cosine.clamp(-1, 1).arccos() / torch.pi).mean().item()
    return [total / len(batches) for total in sums]
