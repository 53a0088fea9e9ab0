"""What importance costs beside a bare forward pass of the backbone over the same batches.

    python tests/benchmarks/importance.py [--model sandbox|100m|all] [--rounds 5] [--metrics angular ...]

Both are taken in turns in one process, over batches that are made beforehand; the first turn of each is not
counted. Ratios are of sums over the rounds; the range is over single rounds. Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from factory import machine, sandbox
from factory.metrics import METRICS
from factory.metrics.batches import Batch, Texts
from factory.models import load

QUIET_LOAD = 1.0  # runnable processes besides this one that count as a quiet machine


@dataclass
class Made(Texts):
    """Texts whose batches are at hand."""

    made: tuple[Batch, ...] = ()

    def batches(self) -> Any:
        self.rows = self.tokens = 0
        for batch in self.made:
            yield batch
            self.rows += len(batch.ids)
            self.tokens += int(batch.lengths.sum())


def made_of(vocabulary: int, rows: int, longest: int, least: int, batch_tokens: int) -> Made:
    """Random texts of 16 to `longest` tokens."""
    drawn = torch.Generator().manual_seed(0)
    lengths = torch.randint(16, longest + 1, (rows,), generator=drawn).tolist()
    tokens = [torch.randint(5, vocabulary, (n,), generator=drawn).tolist() for n in lengths]

    def encode(texts: list[str], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
        return {"input_ids": [tokens[int(text)] for text in texts]}

    texts = Texts(lambda: map(str, range(rows)), encode, longest, batch_tokens, least=least)
    return Made(texts.source, encode, longest, batch_tokens, made=tuple(texts.batches()))


def timed(act: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - processor


def compare(name: str, model: Any, metrics: list[str], rounds: int, rows: int, longest: int) -> list[str]:
    """Lines of a table: one a metric."""
    lines = []
    backbone, blocks = model.base_model, model.base_model.layers
    for metric in metrics:
        row = METRICS[metric]
        texts = made_of(model.config.vocab_size, rows, longest, 2 if row.head else 1, row.batch_tokens)

        def bare(texts: Made = texts) -> None:
            with torch.inference_mode():
                for batch in texts.batches():
                    backbone(input_ids=batch.ids, use_cache=False)

        def scored(texts: Made = texts, row: Any = row) -> None:
            row.load()(model if row.head else backbone, blocks, texts, lambda *a, **k: None)

        taken: dict[str, list[tuple[float, float]]] = {"bare": [], "scored": []}
        for turn in range(rounds + 1):
            both = [("bare", bare), ("scored", scored)]
            for kind, act in both if turn % 2 else both[::-1]:
                found = timed(act)
                if turn:
                    taken[kind].append(found)
        wall, processor = (
            [scored[i] / bare[i] for bare, scored in zip(taken["bare"], taken["scored"], strict=True)]
            for i in (0, 1)
        )
        sums = {kind: [sum(one[i] for one in found) for i in (0, 1)] for kind, found in taken.items()}
        tokens = sum(int(batch.lengths.sum()) for batch in texts.made)
        lines.append(
            f"| {name} | {metric} | {tokens:,} | {sums['bare'][0] / rounds:.3f} s | "
            f"{sums['scored'][0] / rounds:.3f} s | {sums['scored'][0] / sums['bare'][0]:.3f} "
            f"({min(wall):.3f} to {max(wall):.3f}) | {sums['scored'][1] / sums['bare'][1]:.3f} "
            f"({min(processor):.3f} to {max(processor):.3f}) |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Prints the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["sandbox", "100m", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--metrics", nargs="+", choices=list(METRICS), default=["angular"])
    chosen = parser.parse_args()
    load_before, facts, lines = os.getloadavg()[0], machine.facts(), []
    torch.manual_seed(0)
    if chosen.model in ("sandbox", "all"):
        model = load.causal_lm(Path(sandbox.model_folder()))
        lines += compare("sandbox base", model, chosen.metrics, chosen.rounds, 64, 256)
    if chosen.model in ("100m", "all"):
        config = LlamaConfig(
            vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
            num_attention_heads=12, num_key_value_heads=12, tie_word_embeddings=True,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
        size = sum(w.numel() for w in model.parameters()) / 1e6
        lines += compare(f"Llama, {size:.0f} M", model, chosen.metrics, chosen.rounds, 24, 384)
    busy = "busy" if load_before > QUIET_LOAD else "quiet"
    print(f"\n## Importance beside a bare forward pass ({datetime.date.today()})\n")
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    print(f"{facts['cpu']}, {facts['cores']} cores, {threads}, torch {torch.__version__}, float32;")
    print(f"the machine was {busy} (load average {load_before:.1f} before).\n")
    print("| model | metric | tokens | bare forward | importance | ratio, wall | ratio, processor time |")
    print("|---|---|---:|---:|---:|---:|---:|")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
