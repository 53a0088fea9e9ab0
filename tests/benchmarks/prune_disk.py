"""Pruning against the disk: dropping blocks beside `cp` of the same bytes, and how little memory it takes.

    python tests/benchmarks/prune_disk.py [--folder DIR] [--rounds 5] [--only speed|memory] [--gigabytes 2]

`speed` makes a sharded Llama checkpoint of random bytes and drops 8 of its 32 blocks, in turns with `cp` of
as many bytes and with mergekit's passthrough. Every turn is taken twice: with the source just read (warm),
and with source and target thrown out of the page cache (cold: posix_fadvise, after a sync); and each time is
measured until the command ends and until the bytes are on the disk. `memory` drops 6 of 32 blocks of a 16 GB
checkpoint (sparse files: zeros that take no room until copied) in a process that may use 1 GB, and proves the
result block by block: its files in 1 GB too, then its outputs, for which embeddings and head stay in memory.
Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from factory import machine
from factory.models.surgery import drop_blocks

BLOCKS = 32
SHARD = 10**9
DROPPED = range(20, 28)  # of the speed part
LIMIT = 10**9  # bytes the memory part may use
# Runs beside a step: the most memory that is the process's own. Pages of files, which the rest counts too, go
# when others need the room.
WATCH = """
import re, threading, time
own = [0]
def watch():
    while True:
        status = open("/proc/self/status").read()
        own[0] = max(own[0], int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) * 1024)
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
"""
PEAK = "import resource\nprint(own[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"


def shapes(hidden: int, inner: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama checkpoint with grouped keys and values, in the order they are stored."""
    made: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for block in range(BLOCKS):
        p = f"model.layers.{block}."
        made |= {
            f"{p}input_layernorm.weight": (hidden,),
            f"{p}mlp.down_proj.weight": (hidden, inner),
            f"{p}mlp.gate_proj.weight": (inner, hidden),
            f"{p}mlp.up_proj.weight": (inner, hidden),
            f"{p}post_attention_layernorm.weight": (hidden,),
            f"{p}self_attn.k_proj.weight": (hidden // 4, hidden),
            f"{p}self_attn.o_proj.weight": (hidden, hidden),
            f"{p}self_attn.q_proj.weight": (hidden, hidden),
            f"{p}self_attn.v_proj.weight": (hidden // 4, hidden),
        }
    return made | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def make(folder: Path, hidden: int, inner: int, vocabulary: int, sparse: bool) -> int:
    """Writes a sharded bfloat16 checkpoint; returns the bytes of its tensors."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": BLOCKS, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": vocabulary, "tie_word_embeddings": False,
        "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes(hidden, inner, vocabulary).items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        if filled and filled + size > SHARD:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    weight_map, total = {}, 0
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header, end = {}, 0
        for tensor, shape in shard.items():
            size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
            weight_map[tensor] = name
            end += size
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(head)) + head)
            if sparse:
                file.truncate(8 + len(head) + end)
            else:
                for start in range(0, end, 2**24):
                    file.write(os.urandom(min(2**24, end - start)))
        total += end
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def forget(*folders: Path) -> None:
    """Throws files out of the page cache."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def warm(folder: Path) -> None:
    """Reads files once."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(2**24):
                    pass


def in_turns(
    ways: dict[str, Callable[[Path], object]], sources: dict[str, Path], out: Path, rounds: int, cold: bool
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each way, (until it ends, until its bytes are on the disk), the order turned every round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            shutil.rmtree(out, ignore_errors=True)
            if cold:
                forget(*set(sources.values()))
            else:
                os.sync()
                warm(sources[name])
            began = time.perf_counter()
            ways[name](out)
            ended = time.perf_counter()
            os.sync()
            taken[name].append((ended - began, time.perf_counter() - began))
            print(f"  {'cold' if cold else 'warm'} {name}: {taken[name][-1]}", file=sys.stderr, flush=True)
    shutil.rmtree(out, ignore_errors=True)
    return taken


def passthrough(base: Path, out: Path, scratch: Path) -> None:
    """mergekit's way, in a process of its own as people run it."""
    config = scratch / "mergekit.yaml"
    slices = [[0, DROPPED.start], [DROPPED.stop, BLOCKS]]
    parts = [{"sources": [{"model": str(base), "layer_range": part}]} for part in slices]
    config.write_text(json.dumps({"merge_method": "passthrough", "dtype": "bfloat16", "slices": parts}))
    code = (
        "import yaml\nfrom pathlib import Path\nfrom mergekit.config import MergeConfiguration\n"
        "from mergekit.merge import run_merge\nfrom mergekit.options import MergeOptions\n"
        f"config = MergeConfiguration.model_validate(yaml.safe_load(Path({str(config)!r}).read_text()))\n"
        "options = MergeOptions(write_model_card=False, quiet=True, copy_tokenizer=False)\n"
        f"run_merge(config, {str(out)!r}, options)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def command(base: Path, out: Path) -> None:
    """`factory prune` without the proof, in a process of its own, imports and syncing included."""
    drop = f"{DROPPED.start}:{DROPPED.stop}"
    arguments = [
        sys.executable,
        "-m",
        "factory.cli",
        "prune",
        str(base),
        "--drop",
        drop,
        str(out),
        "--no-proof",
    ]
    subprocess.run(arguments, check=True, capture_output=True)


def speed(scratch: Path, rounds: int, gigabytes: float) -> list[str]:
    """The lines of the speed part."""
    base, kept, out = scratch / "base", scratch / "kept", scratch / "out"
    width, vocabulary = 2048, 32000
    block = (gigabytes * 1e9 / 2 - 2 * width * vocabulary) / BLOCKS  # parameters
    inner = max(8, round((block - 2.5 * width**2) / (3 * width)))
    total = make(base, width, inner, vocabulary, sparse=False)
    written = drop_blocks(base, kept, DROPPED).written
    files = sorted(kept.glob("*.safetensors"))

    def copy(target: Path) -> None:
        target.mkdir()
        subprocess.run(["cp", *map(str, files), str(target)], check=True)

    ways: dict[str, Callable[[Path], object]] = {
        "cp": copy,
        "drop_blocks": lambda target: drop_blocks(base, target, DROPPED),
        "factory prune --no-proof": lambda target: command(base, target),
    }
    sources = {"cp": kept, "drop_blocks": base, "factory prune --no-proof": base, "mergekit": base}
    lines = [
        f"{total / 1e9:.2f} GB in {len(list(base.glob('*.safetensors')))} shards, {len(DROPPED)} of {BLOCKS} "
        f"blocks dropped, {written / 1e9:.2f} GB kept. Seconds, median of {rounds} rounds in turns (fastest "
        "to slowest); of mergekit, which is slow, of 2.",
        "",
        "| | cold, until it ends | cold, until on the disk | warm, until it ends | warm, until on the disk |",
        "|---|---|---|---|---|",
    ]
    results = {cold: in_turns(ways, sources, out, rounds, cold) for cold in (True, False)}
    try:
        import mergekit  # noqa: F401

        ways = {"mergekit": lambda target: passthrough(base, target, scratch)}
        for cold in (True, False):  # slow: fewer rounds, at the end
            results[cold] |= in_turns(ways, sources, out, min(rounds, 2), cold)
    except ImportError:
        print("mergekit is not installed: left out", file=sys.stderr)
    for name in results[True]:
        cells = []
        for cold in (True, False):
            for which in (0, 1):
                values = sorted(times[which] for times in results[cold][name])
                cells.append(f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratios = []
    for cold in (True, False):
        for which in (0, 1):
            ours, theirs = (
                statistics.median(times[which] for times in results[cold][name])
                for name in ("drop_blocks", "cp")
            )
            ratios.append(f"{ours / theirs:.2f}")
    lines.append(f"| drop_blocks / cp | {' | '.join(ratios)} |")
    return lines


def memory(scratch: Path) -> list[str]:
    """The lines of the memory part."""
    base, out = scratch / "base", scratch / "out"
    total = make(base, 4096, 14336, 128256, sparse=True)
    lines = ["| step | seconds | peak memory of its own | with pages of files |", "|---|---|---|---|"]
    drop = "from pathlib import Path\nfrom factory.models.surgery import drop_blocks\n"
    drop += f"print(drop_blocks(Path({str(base)!r}), Path({str(out)!r}), range(22, 28)).written)\n"
    check = "from pathlib import Path\nfrom factory.models.checkpoint import read_checkpoint\n"
    check += "from factory.models import file_proof, proof_plan, streamed_proof\n"
    check += f"base, out = read_checkpoint(Path({str(base)!r})), Path({str(out)!r})\n"
    check += "kept = (*range(22), *range(28, 32))\n"
    files = check + "file_proof.compare(base, out, kept)\n"
    run = check + "plan = proof_plan.Plan.of(base, 'bfloat16', 'cpu')\n"
    run += "streamed_proof.compare(base, out, kept, plan, lambda note: None)\n"
    parts = {
        "drop 6 of 32 blocks": (drop, LIMIT),
        "proof, its files": (files, LIMIT),
        "proof, its outputs block by block": (run, None),  # maps files, which such a limit counts
    }
    for what, (code, limit) in parts.items():
        began = time.perf_counter()

        # The process measures itself; a limit on its data makes it fail, not swap.
        def limited(limit: int | None = limit) -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        ran = subprocess.run(
            [sys.executable, "-c", WATCH + code + PEAK],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=limited,
        )
        rows = ran.stdout.split()
        own, most = (f"{int(row) / 1e6:,.0f} MB" for row in rows[-2:])
        lines.append(f"| {what} | {time.perf_counter() - began:.1f} | {own} | {most} |")
    written = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    shards = len(list(out.glob("*.safetensors")))
    head = f"{total / 1e9:.2f} GB in, {written / 1e9:.2f} GB in {shards} shards out; "
    return [head + "data of each process but the last limited to 1 GB (RLIMIT_DATA).", "", *lines]


def main() -> None:
    """Runs what was asked for and prints the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of the checkpoint of the speed part")
    parser.add_argument("--only", choices=["speed", "memory"])
    asked = parser.parse_args()
    facts = machine.facts()
    print(f"## Pruning at disk speed ({datetime.date.today()})\n")
    machine_is = f"{facts['cores']} cores ({facts['cpu']}), {facts['memory'] / 2**30:.0f} GiB"
    print(f"`python {' '.join(sys.argv)}` on {machine_is}, {platform.release()}.\n")
    parts = {"speed": lambda folder: speed(folder, asked.rounds, asked.gigabytes), "memory": memory}
    for name, part in parts.items():
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory(dir=asked.folder, prefix="prune-disk-") as scratch:
                print("\n".join(part(Path(scratch))) + "\n")


if __name__ == "__main__":
    main()
