"""Does importance's memory grow with the number of texts? Each figure is from a process of its own.

    python tests/benchmarks/importance_memory.py [--metrics angular ...] [--rows 64 512 2048] [--repeats 3]

A random Llama of 8 blocks, width 512, over texts of the same lengths, encoded by the sandbox's tokenizer, in
batches of 256 tokens. What is printed is the peak of the resident memory while the metric is computed, less
what the process held before (model and libraries, after 8 texts to warm up): the median of the repeats. Linux
only. Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from factory import machine
from factory.metrics import METRICS

PRELOAD = ["torch", "transformers.models.llama.modeling_llama", "factory.sandbox", "factory.models.load"]


def texts(rows: int) -> Iterator[str]:
    """Texts of 4 to 12 words."""
    for row in range(rows):
        yield " ".join(["river", "stone"][row % 2] for _ in range(4 + row % 9))


def resident(name: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("/proc/self/status does not tell memory")
    return int(found[1]) * 1024


def one(metric: str, rows: int) -> tuple[int, int]:
    """Bytes over what was held before, and tokens; in a process that does nothing else."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from factory import sandbox
    from factory.metrics.batches import Texts
    from factory.models import load

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = load.tokenizer(Path(sandbox.model_folder()))
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=512, intermediate_size=1024, num_hidden_layers=8,
            num_attention_heads=8, num_key_value_heads=8,
        )
    ).eval()  # fmt: skip
    row = METRICS[metric]

    def compute(count: int) -> Texts:
        given = Texts(lambda: texts(count), tokenizer, 256, 256, least=2 if row.head else 1)
        row.load()(model if row.head else model.model, model.model.layers, given, lambda *a, **k: None)
        return given

    compute(8)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    given = compute(rows)
    return resident("VmHWM") - before, given.tokens


def alone(metric: str, rows: int) -> tuple[int, int]:
    """`one` in a new process."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with context.Pool(1, maxtasksperchild=1) as pool:
        found: tuple[int, int] = pool.apply(one, (metric, rows))
    return found


def main() -> None:
    """Prints the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", nargs="+", choices=list(METRICS), default=list(METRICS))
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 512, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    print(f"## Importance's memory over the number of texts ({datetime.date.today()})\n")
    print(
        f"{machine.facts()['cpu']}, one thread, median of {chosen.repeats}, MB over what the process held.\n"
    )
    print("| metric |" + "".join(f" {rows:,} texts |" for rows in chosen.rows))
    print("|---|" + "---:|" * len(chosen.rows))
    for metric in chosen.metrics:
        cells = []
        for rows in chosen.rows:
            taken = [alone(metric, rows)[0] / 1e6 for _ in range(chosen.repeats)]
            cells.append(f" {median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f}) |")
        print(f"| {metric} |" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
