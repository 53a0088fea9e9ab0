"""Importance beside PruneMe's way, and perplexity without each block beside a whole forward pass for each.

    PYTHONPATH=. python tests/benchmarks/importance_peers.py [--rounds 3] [--parts pruneme sharing]

All ways in turns over the same texts in one process, the first turn not counted; peak memory of each from a
process of its own, less what it held before (Linux only). Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import peer_pruneme
import torch
from importance import Made, made_of, timed
from importance_memory import resident
from transformers import LlamaConfig, LlamaForCausalLM

from factory import machine, sandbox
from factory.metrics import METRICS
from factory.models import load

TEXTS, LONGEST = 32, 256


def quiet(*arguments: Any, **named: Any) -> None:
    """Progress that nobody sees."""


def model_of(part: str) -> Any:
    """A random Llama with a vocabulary of the usual size, or the sandbox's base."""
    torch.manual_seed(0)
    if part == "sharing":
        return load.causal_lm(Path(sandbox.model_folder()))
    config = LlamaConfig(
        vocab_size=32000, hidden_size=512, intermediate_size=1408, num_hidden_layers=12,
        num_attention_heads=8, num_key_value_heads=8,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def in_order(texts: Made) -> list[list[int]]:
    """The token ids of each text, as they come."""
    return texts.encode(list(texts.source()), True, LONGEST)["input_ids"]


def bare(model: Any, texts: Made) -> None:
    """The backbone alone."""
    with torch.inference_mode():
        for batch in texts.batches():
            model.base_model(input_ids=batch.ids, use_cache=False)


def naive(model: Any, texts: Made) -> list[float]:
    """Losses with one block less, by a forward pass of the whole model for each, and once with all."""
    blocks, sums = model.base_model.layers, []
    for gone in (*range(len(blocks)), None):
        if gone is not None:
            blocks[gone].forward = lambda hidden_states, **more: hidden_states
        total = 0.0
        with torch.inference_mode():
            for batch in texts.batches():
                logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
                wanted = batch.ids[:, 1:].masked_fill(~batch.real()[:, 1:], -100)
                total += torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
                ).item()
        if gone is not None:
            del blocks[gone].forward
        sums.append(total)
    return sums


def ways(part: str) -> dict[str, Callable[[], Any]]:
    """What is compared, by name."""
    model = model_of(part)
    metric = METRICS["angular" if part == "pruneme" else "perplexity"]
    # As many tokens in a batch as PruneMe has, so that memory compares.
    texts = made_of(model.config.vocab_size, TEXTS, LONGEST, 2, peer_pruneme.BATCH * LONGEST)
    blocks, compute = model.base_model.layers, metric.load()
    if part == "pruneme":
        return {
            "bare backbone": partial(bare, model, texts),
            "angular": partial(compute, model.base_model, blocks, texts, quiet),
            "PruneMe's way": partial(peer_pruneme.distances, model, in_order(texts), 2),
        }
    return {
        "bare backbone": partial(bare, model, texts),
        "perplexity": partial(compute, model, blocks, texts, quiet),
        "a whole pass for each block": partial(naive, model, texts),
    }


def peak(part: str, name: str) -> float:
    """MB over what the process held before; in a process that does nothing else."""
    torch.set_num_threads(1)
    act = ways(part)[name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    act()
    return (resident("VmHWM") - before) / 1e6


def alone(part: str, name: str) -> float:
    """`peak` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(peak, (part, name)))


def main() -> None:
    """Prints the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=["pruneme", "sharing"], default=["pruneme", "sharing"])
    chosen = parser.parse_args()
    print(f"## Importance beside other ways ({datetime.date.today()})\n")
    threads, busy = torch.get_num_threads(), os.getloadavg()[0]
    print(f"{machine.facts()['cpu']}, threads: {threads}, load average before: {busy:.1f}")
    for part in chosen.parts:
        print("\n| way | seconds (fastest to slowest) | ratio to bare, wall | processor time | peak memory |")
        print("|---|---:|---:|---:|---:|")
        acts = ways(part)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in acts}
        for turn in range(chosen.rounds + 1):
            for name in list(acts) if turn % 2 else list(acts)[::-1]:
                found = timed(acts[name])
                if turn:
                    taken[name].append(found)
        for name, times in taken.items():
            wall = [one[0] for one in times]
            ratios = [
                median(mine[i] / its[i] for mine, its in zip(times, taken["bare backbone"], strict=True))
                for i in (0, 1)
            ]
            print(
                f"| {name} | {median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) | {ratios[0]:.2f} | "
                f"{ratios[1]:.2f} | {median(alone(part, name) for _ in range(3)):.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
