"""Importance: how far each run of blocks turns the hidden state. First stage; prune reads its table.

For every start l and run length n the angular distance d(l, n) = arccos(cos(x_l, x_{l+n})) / pi, where
x_l is the hidden state entering block l at the last real token, averaged over calibration texts
(Gromov et al. 2024, "The Unreasonable Ineffectiveness of the Deeper Layers"). The run with the smallest
distance changes the stream least and is the one to remove.

All pairs come from one pass of the backbone: the states of a batch give one Gram matrix a row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory.data import TextSpec, load_texts
from factory.errors import FactoryError
from factory.models.architectures import architecture_of
from factory.models.checkpoint import read_config
from factory.stages import Frozen, Progress

VERSION = 1
LIBRARIES = ("torch", "transformers", "tokenizers")


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the calibration set; of its `rows` texts blank ones do not count.
        max_tokens: texts are cut behind this many tokens.
        batch_tokens: bound on the tokens of a batch, padding included.
        metric: the measure of distance.
    """

    data: TextSpec
    max_tokens: int = Field(ge=1)
    batch_tokens: int = Field(default=8192, ge=1)
    metric: Literal["angular"] = "angular"


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes importance.json: the mean distance of every run of blocks.

    Args:
        settings: see `Settings`.
        inputs: `base`, a stock model folder; `calibration`, a dataset folder.
        out: receives importance.json.
        progress: told the texts done.

    Returns:
        Rows and tokens read, blocks, and tokens a second.

    Raises:
        FactoryError: no calibration text, a model that cannot be read, or a family that cannot be pruned.
    """
    from factory.models import load

    architecture_of(read_config(inputs["base"]), inputs["base"])  # refuses a family that cannot be pruned
    texts = load_texts(inputs["calibration"], settings.data)
    encode = load.tokenizer(inputs["base"])
    encoded = encode(texts, truncation=True, max_length=settings.max_tokens)["input_ids"]
    tokens = [ids for ids in encoded if ids]
    if not tokens:
        raise FactoryError(
            "the model's tokenizer makes no token of the calibration texts",
            where=str(inputs["calibration"]),
            mend="Name a set of texts in the model's language under prune.calibration",
        )
    model = load.backbone(inputs["base"])
    began = time.perf_counter()
    distances = angular_distances(model, tokens, settings.batch_tokens, progress)
    seconds = time.perf_counter() - began
    count = sum(map(len, tokens))
    table = {
        "metric": settings.metric,
        "blocks": len(model.layers),
        "distances": distances,
        "rows": len(tokens),
        "tokens": count,
    }
    (out / "importance.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return {
        "rows": len(tokens),
        "tokens": count,
        "blocks": len(model.layers),
        "tokens_per_second": round(count / seconds, 1),
    }


def angular_distances(
    model: Any, tokens: Sequence[Sequence[int]], batch_tokens: int, progress: Progress
) -> list[list[float]]:
    """The mean angular distance of every run of blocks, in half turns (0 to 1).

    Args:
        model: a decoder backbone with its blocks in `model.layers`.
        tokens: token ids of each text, none empty.
        batch_tokens: bound on the tokens of a batch, padding included; one text may exceed it.
        progress: told the texts done.

    Returns:
        `distances[n - 1][start]` for n = 1..L-1 and start = 0..L-n, L being the number of blocks.
    """
    import torch

    blocks = len(model.layers)
    states: list[Any] = []
    last: Any = None

    def entering(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states.append(hidden[torch.arange(len(hidden), device=hidden.device), last])

    def leaving(module: Any, args: tuple[Any, ...], output: Any) -> None:
        # The raw output: the model's own `hidden_states[-1]` is already behind the final norm.
        states.append(output[torch.arange(len(output), device=output.device), last])

    hooks = [model.layers[0].register_forward_pre_hook(entering, with_kwargs=True)]
    hooks += [block.register_forward_hook(leaving) for block in model.layers]
    total = torch.zeros(blocks + 1, blocks + 1, dtype=torch.float64, device=model.device)
    done = 0
    try:
        with torch.inference_mode():
            for batch in _batches(tokens, batch_tokens):
                states.clear()
                lengths = torch.tensor([len(ids) for ids in batch])
                padded = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
                for row, ids in enumerate(batch):
                    padded[row, : len(ids)] = torch.tensor(ids)
                last = (lengths - 1).to(model.device)
                # Padding stands on the right, where a causal model's real tokens cannot see it: no mask.
                model(input_ids=padded.to(model.device), use_cache=False)
                # float64, because arccos near 1 turns an error of 1e-7 in the cosine into 1e-4.
                unit = torch.nn.functional.normalize(torch.stack(states, dim=1).double(), dim=-1)
                cosine = (unit @ unit.transpose(1, 2)).clamp(-1, 1)
                total += (torch.arccos(cosine) / torch.pi).sum(dim=0)
                done += len(batch)
                progress(done, len(tokens), "texts")
    finally:
        for hook in hooks:
            hook.remove()
    mean = (total / len(tokens)).tolist()
    return [[mean[start][start + n] for start in range(blocks - n + 1)] for n in range(1, blocks)]


def _batches(tokens: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[Sequence[int]]]:
    """Texts of like length together, longest first, so that memory runs out at once or never."""
    batch: list[Sequence[int]] = []
    for ids in sorted(tokens, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
