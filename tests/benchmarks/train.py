"""Our train stage beside TRL's SFTTrainer, on the same rows of GSM8K: tokens a second and peak memory.

    python tests/benchmarks/train.py --data DIR [--rows 96] [--rounds 3] [--threads 2] [--processes 2]
    python tests/benchmarks/train.py --data DIR --device cuda --size 1b --rows 2000

`--data` holds openai__gsm8k/main/train.parquet. The model has random weights, the tokenizer is trained on the
rows. Each way is a process of its own, and they take turns:

    factory          the stage as `factory run` starts it, defaults but for what all share
    factory, N       the same with `--processes N`, one thread each
    TRL, defaults    SFTTrainer with SFTConfig's defaults (on a CPU bf16 and activation checkpointing, too)
    TRL, float32     the same without those two: what somebody who knows them would set

All share rows and their order, model, LoRA, epochs, rows a step, learning rate and schedule. Tokens are those
of the rows, padding left out; seconds are those of training, without imports, tokenizing and saving. The
loss curves are compared: the same work has been done. On a GPU the factory packs rows, and curves differ by
that. Memory is the peak of the whole process, of several processes their sum; on a GPU that of its allocator.
Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIZES = {  # hidden, inner, blocks, heads, key-value heads, vocabulary
    "tiny": (64, 128, 2, 4, 2, 2048),
    "small": (512, 1408, 8, 8, 8, 32000),
    "1b": (2048, 8192, 16, 32, 8, 128256),
}
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"}
SHARED = {"learning_rate": 1e-4, "lr_scheduler_type": "cosine", "logging_steps": 1}
TRL = {
    "TRL, defaults": {},
    "TRL, float32": {"bf16": False, "gradient_checkpointing": False},
}
SEED = 0


def prepare(data: Path, work: Path, size: str, count: int) -> None:
    """Writes the model, with a tokenizer of its own, and the rows."""
    import pyarrow.parquet
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    rows = pyarrow.parquet.read_table(data / "openai__gsm8k" / "main" / "train.parquet").to_pylist()
    hidden, inner, blocks, heads, shared, vocabulary = SIZES[size]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(32000, vocabulary),
        special_tokens=["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((row["question"] + row["answer"] for row in rows), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer.save_pretrained(work / "model")
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=blocks,
        num_attention_heads=heads, num_key_value_heads=shared, max_position_embeddings=1024,
        bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    model.save_pretrained(work / "model")
    (work / "data").mkdir()
    lines = [{"instruction": row["question"], "response": row["answer"]} for row in rows[:count]]
    (work / "data" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def factory_side(work: Path, batch: int, epochs: float, threads: int, processes: int) -> dict[str, Any]:
    """The stage, as run.py starts it."""
    from factory.data.rows import DataSpec
    from factory.run.child import run_stage
    from factory.stages import train

    sft = {**SHARED, "num_train_epochs": epochs, "save_strategy": "no"}
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "0"):
        sft["per_device_train_batch_size"] = batch
    settings = train.Settings(
        data=(DataSpec(name="math", prompt="math"),), targets="original", lora=LORA, sft=sft, seed=SEED,
        processes=processes,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=work) as folder:
        out = Path(folder) / "out"
        out.mkdir()
        inputs = {"model": work / "model", "data.math": work / "data"}
        result = run_stage(
            "factory.stages.train", settings, inputs, out, lambda *report: None,
            log=Path(folder) / "log", threads=max(1, threads // processes), processes=processes,
        )  # fmt: skip
    facts = result.facts
    return {
        "seconds": facts["measured"]["seconds"],
        "tokens": facts["tokens"] * epochs,
        "losses": [loss for _, loss in facts["losses"]],
        "memory": result.peak_memory,
        "gpu": facts["measured"].get("gpu_memory"),
    }


def trl_side(work: Path, side: str, batch: int, epochs: float) -> dict[str, Any]:
    """SFTTrainer, in this process; the rows are given as the stage gives them: as tokens, in its order."""
    import datasets
    import torch
    import transformers
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from factory import prompts

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    cuda = torch.cuda.is_available()
    rows = []
    for line in (work / "data" / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        completion = [{"role": "assistant", "content": row["response"]}]
        rows.append({"prompt": prompts.messages("math", row["instruction"]), "completion": completion})
    dataset = datasets.Dataset.from_list(rows).shuffle(seed=SEED)
    transformers.set_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(work / "model", dtype="auto" if cuda else "float32")
    arguments = SFTConfig(
        output_dir=str(work / "trl"), per_device_train_batch_size=batch, num_train_epochs=epochs, seed=SEED,
        data_seed=SEED, report_to="none", use_cpu=not cuda, disable_tqdm=True, save_strategy="no",
        **{**SHARED, **TRL[side]},
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(work / "model"),
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )  # fmt: skip
    started = time.monotonic()
    trainer.train()
    ended = time.monotonic()
    history = trainer.state.log_history
    return {
        "seconds": ended - started,
        "tokens": [entry["num_tokens"] for entry in history if "num_tokens" in entry][-1],
        "losses": [entry["loss"] for entry in history if "loss" in entry],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "gpu": torch.cuda.max_memory_allocated() if cuda else None,
    }


def started(side: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One way, in a process of its own."""
    words = ["--data", str(options.data), "--work", str(work), "--side", side, "--batch", str(options.batch)]
    words += ["--epochs", str(options.epochs), "--threads", str(options.threads)]
    threads = {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    shown = {} if options.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, __file__, *words], env={**os.environ, **threads, **shown, **path},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _range(values: list[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _table(found: dict[str, list[dict[str, Any]]], device: str) -> None:
    ours = found["factory"]
    speed = {side: [one["tokens"] / one["seconds"] for one in rounds] for side, rounds in found.items()}
    memory = "gpu" if device == "cuda" else "memory"
    print("| way | tokens a second | factory's to it | peak memory, MB | largest loss apart |")
    print("|---|---:|---:|---:|---:|")
    for side, rounds in found.items():
        times = [mine / theirs for mine, theirs in zip(speed["factory"], speed[side], strict=True)]
        both = list(zip(ours[0]["losses"], rounds[0]["losses"], strict=False))
        same = len(ours[0]["losses"]) == len(rounds[0]["losses"])
        apart = f"{max(abs(a - b) for a, b in both):.1e}" if same else "other steps"
        peak = statistics.median(one[memory] for one in rounds) / 1e6
        share = "" if side == "factory" else _range(times, 2)
        print(f"| {side} | {_range(speed[side])} | {share} | {peak:,.0f} | {apart} |")
    print(f"\n{ours[0]['tokens']:,.0f} tokens, {len(ours[0]['losses'])} losses a run.")


def main() -> None:
    """Runs the ways in turns, or with `--side` one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="more: once more with so many")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if options.side in TRL:
            told = trl_side(options.work, options.side, options.batch, options.epochs)
        else:
            count = int(options.side.partition(", ")[2] or 1)
            told = factory_side(options.work, options.batch, options.epochs, options.threads, count)
        print(json.dumps(told))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(options.data, work, options.size, options.rows)
        sides = ["factory", *([f"factory, {options.processes}"] if options.processes > 1 else []), *TRL]
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        before = os.getloadavg()[0]
        for _ in range(options.rounds):
            for side in sides:
                found[side].append(started(side, options, work))
        load = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"Size {options.size}, {options.rows} rows, {options.batch} a step, {options.threads} threads;")
    print(
        f"{options.rounds} rounds in turns, medians (slowest to fastest); {load}, {datetime.date.today()}.\n"
    )
    _table(found, options.device)


if __name__ == "__main__":
    main()
