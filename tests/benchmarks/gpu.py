"""Importance at the size of Llama-3.1-8B on a GPU, beside a bare forward pass and PruneMe's way.

    PYTHONPATH=. python tests/benchmarks/gpu.py [--size 8b|tiny] [--rounds 3] [--texts 128]

Needs torch and transformers; no network and no weights: they are drawn on the device, in bfloat16. All ways
are taken in turns over the same texts in one process; the first turn is not counted. Peak memory is what the
device's allocator handed out at most, less what was held before: the weights. `--size tiny` runs anywhere, to
try the script. Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import peer_pruneme
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from factory.metrics import METRICS
from factory.metrics.batches import Batch, Texts

# config.json of https://huggingface.co/meta-llama/Llama-3.1-8B
LLAMA_3_1_8B = {
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 128000, "eos_token_id": 128001,
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
TINY = {
    **LLAMA_3_1_8B, "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
BUDGET = 420.0  # seconds of turns; 10 minutes with loading and the slowest turn


class Made(Texts):
    """Texts whose batches lie on the device already, so that every way gets the same ones at no cost."""

    made: tuple[Batch, ...] = ()
    counts: tuple[int, ...] = ()

    def batches(self) -> Iterator[Batch]:
        self.rows = self.tokens = 0
        for batch, tokens in zip(self.made, self.counts, strict=True):
            yield batch
            self.rows += len(batch.ids)
            self.tokens += tokens


def built(size: str, device: str) -> Any:
    """A random model, made on the device in bfloat16; in float32 on a CPU."""
    config = LlamaConfig(**(LLAMA_3_1_8B if size == "8b" else TINY))  # type: ignore[arg-type]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def drawn(count: int, longest: int, vocabulary: int) -> list[list[int]]:
    """Token ids of random texts of longest / 16 to `longest` tokens."""
    source = torch.Generator().manual_seed(0)
    lengths = torch.randint(longest // 16, longest + 1, (count,), generator=source).tolist()
    return [torch.randint(5, vocabulary, (n,), generator=source).tolist() for n in lengths]


def batched(tokens: list[list[int]], longest: int, batch_tokens: int, device: str) -> Made:
    """The factory's own batches of them."""

    def encode(texts: list[str], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
        return {"input_ids": [tokens[int(text)] for text in texts]}

    def source() -> Iterator[str]:
        return map(str, range(len(tokens)))

    made = tuple(Texts(source, encode, longest, batch_tokens, device).batches())
    texts = Made(source, encode, longest, batch_tokens, device)
    texts.made, texts.counts = made, tuple(int(batch.lengths.sum()) for batch in made)
    return texts


@dataclass(frozen=True)
class Way:
    """One thing that is measured.

    Attributes:
        name: in the table.
        act: goes over all texts once.
        bare: name of the bare pass that it is compared with.
    """

    name: str
    act: Callable[[], Any]
    bare: str


def ways(model: Any, tokens: list[list[int]], longest: int, device: str) -> list[Way]:
    """What is compared; metrics with the same batches follow their bare pass."""
    backbone, found = model.model, []
    names = ("angular", "block_influence", "angular_tokens")
    for bound in sorted({METRICS[name].batch_tokens for name in names}, reverse=True):
        texts, bare = batched(tokens, longest, bound, device), f"bare backbone, batches of {bound:,} tokens"

        def passed(texts: Made = texts) -> None:
            with torch.inference_mode():
                for batch in texts.batches():
                    backbone(input_ids=batch.ids, use_cache=False)

        found.append(Way(bare, passed, bare))
        for name in names:
            if METRICS[name].batch_tokens == bound:
                arguments = (backbone, backbone.layers, texts, lambda *a, **k: None)
                found.append(Way(name, partial(METRICS[name].load(), *arguments), bare))
    n = max(1, len(backbone.layers) * 3 // 16)
    pruneme = partial(peer_pruneme.distances, model, tokens, n)
    return [*found, Way(f"PruneMe's way, runs of {n}", pruneme, found[0].name)]


def timed(act: Callable[[], Any], device: str) -> tuple[float, int]:
    """Seconds until the device is done, and its peak bytes over what was held before."""
    if device != "cuda":
        began = time.perf_counter()
        act()
        return time.perf_counter() - began, 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - began, torch.cuda.max_memory_allocated() - held


def main() -> int:
    """Prints the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["8b", "tiny"], default="8b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--longest", type=int, help="tokens; by default 1024, with --size tiny 64")
    chosen = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and chosen.size == "8b":
        print(
            "there is no GPU here: the 8B model needs one (24 GB at least). Try --size tiny", file=sys.stderr
        )
        return 2
    if chosen.texts % peer_pruneme.BATCH:
        print(f"--texts must be a multiple of {peer_pruneme.BATCH}: PruneMe drops the rest", file=sys.stderr)
        return 2
    longest = chosen.longest or (1024 if chosen.size == "8b" else 64)
    torch.manual_seed(0)
    model = built(chosen.size, device)
    tokens = drawn(chosen.texts, longest, model.config.vocab_size)
    found, count = ways(model, tokens, longest, device), sum(map(len, tokens))
    taken: dict[str, list[tuple[float, int]]] = {way.name: [] for way in found}
    began = time.perf_counter()
    for turn in range(chosen.rounds + 1):
        for way in found if turn % 2 else found[::-1]:
            figures = timed(way.act, device)
            if turn:
                taken[way.name].append(figures)
        if turn < chosen.rounds and turn and time.perf_counter() - began > BUDGET:
            print(f"stopped after {turn} rounds to keep within ten minutes", file=sys.stderr)
            break
    size = sum(weight.numel() for weight in model.parameters())
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    command = " ".join(["PYTHONPATH=. python tests/benchmarks/gpu.py", *sys.argv[1:]])
    kind = str(next(model.parameters()).dtype).removeprefix("torch.")
    print(f"## Importance at {size / 1e6:,.1f} M parameters ({datetime.date.today()})\n")
    print(f"`{command}`: {where}, torch {torch.__version__},")
    print(f"transformers {transformers.__version__}, {kind}, random weights; {chosen.texts} texts of")
    print(
        f"{min(map(len, tokens))} to {max(map(len, tokens))} tokens, {count:,} in all; "
        f"median of {len(taken[found[0].name])} rounds."
    )
    print(
        "Metrics are compared with the bare pass above them, PruneMe's way with the first; memory is without"
    )
    print("the weights.\n")
    print("| way | seconds (fastest to slowest) | tokens a second | ratio to bare | peak memory |")
    print("|---|---:|---:|---:|---:|")
    for way in found:
        seconds, bare = ([one[0] for one in taken[name]] for name in (way.name, way.bare))
        ratio = median(mine / its for mine, its in zip(seconds, bare, strict=True))
        peak = max(one[1] for one in taken[way.name])
        memory = f"{peak / 1e9:.2f} GB" if device == "cuda" else "not measured"
        print(
            f"| {way.name} | {median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) | "
            f"{count / median(seconds):,.0f} | {ratio:.3f} | {memory} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
