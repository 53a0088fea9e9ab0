"""Peak memory of the regenerate stage over the number of rows: bounded by the batch, not the dataset.

    OMP_NUM_THREADS=1 python tests/benchmarks/stream.py --rows 10000 40000 160000
    OMP_NUM_THREADS=1 python tests/benchmarks/stream.py --rows 100000 1000000 --written

Each number of rows runs in a process of its own: a dataset of synthetic rows (JSONL), a real model of one
block that writes one token a row, and the whole stage: reading, rendering, generating, choosing, writing
shards. With `--written` the generations are put on disk first, through the stage's own journal, and what is
measured is the rest of the stage: reading, resuming, choosing, writing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generate import SIZES, folder_of

SIZES["one-block"] = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 256,
}  # fmt: skip


def measure(place: Path, rows: int, written: bool) -> None:
    """One run; prints its figures as JSON. Peaks in bytes."""
    from factory.data.rows import DataSpec
    from factory.engines import Generated
    from factory.stages import regenerate
    from factory.stages.generations import Journal

    out = place / "out"
    out.mkdir()
    with (place / "data" / "train.jsonl").open("w") as file:
        for i in range(rows):
            text = " ".join(f"w{2 + (i * k) % 250}" for k in range(3, 15 + i % 20))
            file.write(json.dumps({"instruction": text, "response": f"w3 {i} " + text}) + "\n")
    if written:
        journal = Journal(out / "generations")
        for i in range(rows):
            text = f"w3 {i} " + "so it is " * (10 + i % 20)
            journal.add(i, 0, Generated(i, text, "stop" if i % 7 else "length", 20, 30, -40.0))
    peaks: list[tuple[int, int]] = []

    def progress(done: int, total: int, unit: str, note: str = "") -> None:
        if done % max(1, total // 8) == 0:
            peaks.append((done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))

    settings = regenerate.Settings(data=DataSpec(name="synthetic"), max_new_tokens=1, batch_size=256)
    began = time.perf_counter()
    facts = regenerate.run(settings, {"base": place / "model", "data": place / "data"}, out, progress)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shards = len(list((out / "data").iterdir()))
    found = {"rows": facts["rows"], "seconds": seconds, "peak": peak, "shards": shards, "peaks": peaks}
    print(json.dumps(found), flush=True)


def main() -> None:
    """Prints a table for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 40_000, 160_000])
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.rows[0], options.written)
        return
    print(
        "| rows | seconds | shards | peak memory | at each eighth of generation |\n|---:|---:|---:|---:|---|"
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "data").mkdir()
            folder_of("one-block", 8, place / "model")
            command = [sys.executable, __file__, "--one", str(place), "--rows", str(rows)]
            command += ["--written"] * options.written
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        steps = ", ".join(f"{peak / 1e6:.0f}" for _, peak in found["peaks"][1:])
        print(
            f"| {found['rows']:,} | {found['seconds']:.0f} | {found['shards']} | {found['peak'] / 1e6:.0f} MB"
            f" | {steps or '-'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
