"""Tokens a second of the transformers engine beside a plain padded `generate` loop in file order, in one run.

    OMP_NUM_THREADS=2 python tests/benchmarks/generate.py
    python tests/benchmarks/generate.py --device cuda --size 8b

A random Llama and prompts of mixed length; rows end at different times, as real answers do, because several
hundred tokens of the random model's vocabulary end a turn. Both decode greedily, in the same dtype, and write
rows of the same lengths (checked). The plain loop is `model.generate` on padded batches as the rows come.
On a GPU the share of the bound is printed that memory bandwidth sets: every decoding step has to read the
weights and the rows' keys and values once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from factory.engines import Request, Sampling
from factory.engines.transformers import TransformersEngine

SIZES: dict[str, dict[str, int]] = {
    "38m": {"hidden_size": 512, "intermediate_size": 1920, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": 16_384},
    "8b": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256},
}  # fmt: skip
BANDWIDTH = {
    "H100": 3.35e12,
    "H200": 4.8e12,
    "A100": 2.04e12,
    "L40S": 0.864e12,
}  # bytes a second, data sheets


def folder_of(size: str, stops: int, where: Path) -> Path:
    """A model folder with random weights, a tokenizer of words and `stops` stop tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    config = LlamaConfig(
        **SIZES[size], max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=list(range(2, 2 + stops)), pad_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    words = {f"w{i}": i for i in range(config.vocab_size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w2", pad_token="w1")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = config.eos_token_id
    model.to(torch.bfloat16).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


def prompts(count: int, vocabulary: int, stops: int) -> list[Request]:
    """Log-normal lengths around 90 tokens, as word problems have with a reference, some far longer."""
    draw = random.Random(0)
    requests = []
    for i in range(count):
        length = min(512, max(16, int(draw.lognormvariate(4.5, 0.6))))
        text = " ".join(f"w{draw.randrange(2 + stops, vocabulary)}" for _ in range(length))
        requests.append(Request(i, ({"role": "user", "content": text},)))
    return requests


def plain(
    model: Any, engine: TransformersEngine, requests: list[Request], batch: int, tokens: int
) -> dict[int, int]:
    """The plain loop; new tokens by request, those behind a stop token not counted."""
    found = {}
    stops = engine.chats.stops
    for start in range(0, len(requests), batch):
        part = requests[start : start + batch]
        rows = [engine.chats.prompt(request.messages) for request in part]
        width = max(map(len, rows))
        ids = torch.tensor([[1] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        output = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=1
        )
        for request, row in zip(part, output[:, width:].tolist(), strict=True):
            end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
            found[request.id] = end
    return found


def bound(
    model: Any, requests: list[Request], lengths: dict[int, int], engine: Any, batch: int
) -> float | None:
    """Tokens a second if a step only read weights and caches once; None on unknown devices."""
    name = torch.cuda.get_device_name()
    speed = next((value for key, value in BANDWIDTH.items() if key in name), None)
    if speed is None:
        return None
    config = model.config
    head = config.hidden_size // config.num_attention_heads
    position = 2 * config.num_hidden_layers * config.num_key_value_heads * head * model.dtype.itemsize
    held = statistics.mean(
        len(engine.chats.prompt(request.messages)) + lengths[request.id] / 2 for request in requests
    )
    step = model.get_memory_footprint() + batch * held * position
    return batch * speed / step


def main() -> None:
    """Prints a table for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="38m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--stops", type=int, default=300, help="stop tokens in the vocabulary")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if (options.device == "cuda") != torch.cuda.is_available():
        parser.error("the engine takes the GPU where there is one: --device cuda there, cpu elsewhere")
    with tempfile.TemporaryDirectory() as place:
        folder = folder_of(options.size, options.stops, Path(place) / "model")
        engine = TransformersEngine(folder, options.batch)
        dtype = "float32" if options.device == "cpu" else "bfloat16"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(options.device).eval()
        requests = prompts(options.prompts, model.config.vocab_size, options.stops)
        sampling = Sampling(options.tokens)
        list(engine.generate(requests[:8], Sampling(4)))
        plain(model, engine, requests[:8], 8, 4)
        speeds: dict[str, list[float]] = {}
        lengths: dict[int, int] = {}
        for _ in range(options.rounds):
            for name in ("plain", f"ours, {options.batch}", "ours, measured"):
                began = time.perf_counter()
                if name == "plain":
                    lengths = plain(model, engine, requests, options.batch, options.tokens)
                    total = sum(lengths.values())
                else:
                    engine.batch_size = None if name.endswith("measured") else options.batch
                    results = list(engine.generate(requests, sampling))
                    total = sum(result.new_tokens for result in results)
                    same = sum(lengths[result.id] == result.new_tokens for result in results)
                    print(f"{name}: {same} of {len(results)} rows as long as in the plain loop")
                speeds.setdefault(name, []).append(total / (time.perf_counter() - began))
        count = sum(p.numel() for p in model.parameters())
        print(
            f"\n{count / 1e6:.1f} M parameters, {len(requests)} prompts, "
            f"{sum(lengths.values()):,} new tokens,"
        )
        mean, most = statistics.mean(lengths.values()), max(lengths.values())
        print(f"a row has {mean:.0f} in the mean, {most} at most; {torch.get_num_threads()} threads\n")
        print("| | new tokens a second, rounds | against the plain loop |\n|---|---|---:|")
        for name, values in speeds.items():
            ratio = statistics.mean(values) / statistics.mean(speeds["plain"])
            print(f"| {name} | {', '.join(f'{value:.0f}' for value in values)} | {ratio:.2f} |")
        if options.device == "cuda":
            limit = bound(model, requests, lengths, engine, options.batch)
            reached = statistics.mean(speeds[f"ours, {options.batch}"])
            print(
                f"\nmemory-bandwidth bound: {limit:.0f} tokens/s, reached {reached / limit:.1%}"
                if limit
                else ""
            )


if __name__ == "__main__":
    main()
