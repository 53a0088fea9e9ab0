"""Time and memory of the stage drift over the number of held-out prompts, with the sandbox model.

    python tests/benchmarks/drift.py --rows 1000 10000

The base and the base without blocks 7..9, one thread each, as `factory run` starts them on two cores: first
the base's step, then two models against it side by side. A line a step with what its parts took; the last
line of each number of rows has the wall time of all three, and their CPU time, which a busy machine stretches
less. Prompts are the sandbox's dialogues, no two alike. What a prompt costs in memory is the growth of the
peak from the least to the largest number of rows.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from factory import machine, sandbox
from factory.data.rows import DataSpec
from factory.drift.heldout import HeldOut
from factory.run import child
from factory.sandbox import dialogues
from factory.sources import materialise, resolve_dataset
from factory.stages import drift

REMOVED = range(7, 10)
UNITS = {"responses": "answering", "texts read": "reading", "responses compared": "embedding"}


def write(folder: Path, rows: int) -> None:
    """So many distinct prompts as the split `test`, and one more to train on."""
    rng, found = random.Random(0), dict[str, dict[str, str]]()
    while len(found) <= rows:
        maker = dialogues.math if len(found) % 4 else dialogues.instruct
        made = maker(rng, scored=bool(rng.getrandbits(1)))
        row = {"instruction": made.instruction, "context": made.context, "response": made.human}
        found.setdefault(made.instruction + made.context, row)
    first, *others = found.values()
    folder.mkdir()
    for split, some in (("train", [first]), ("test", others)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


def without_blocks(folder: Path) -> None:
    """The sandbox's base without the blocks that go."""
    from factory.models import load

    base = sandbox.model_folder()
    model = load.causal_lm(base)
    for block in reversed(REMOVED):
        del model.model.layers[block]
    for index, block in enumerate(model.model.layers):
        block.self_attn.layer_idx = index
    model.config.num_hidden_layers = len(model.model.layers)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[: len(model.model.layers)]
    model.save_pretrained(folder)
    for path in base.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
            shutil.copy(path, folder / path.name)


def step(
    settings: drift.Settings, inputs: Mapping[str, Path], out: Path
) -> tuple[child.Result, dict[str, float]]:
    """One step in a process of its own; what it found, and the seconds of its parts."""
    out.mkdir()
    times: list[tuple[str, float]] = [("", time.perf_counter())]

    def progress(done: int, total: int, unit: str, note: str = "") -> None:
        if unit != times[-1][0]:
            times.append((unit, time.perf_counter()))

    result = child.run_stage(
        "factory.stages.drift", settings, inputs, out, progress, log=out.with_suffix(".log"), threads=1
    )
    times.append(("", time.perf_counter()))
    # Loading is counted with the part that follows; the first begins when the process is started.
    starts = [(unit, begun) for unit, begun in times[1:]]
    starts[0] = (starts[0][0], times[0][1])
    return result, {unit: end - begun for (unit, begun), (_, end) in pairwise(starts)}


def main() -> None:
    """Prints a table for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--max-new-tokens", type=int, default=96)
    options = parser.parse_args()
    load = machine.load_per_core()
    print(f"Load a core before: {load:.2f}" if load is not None else "Load unknown", file=sys.stderr)
    parts = " | ".join(UNITS.values())
    print(f"| prompts | step | tokens read | seconds | {parts} | peak memory | KL |")
    print("|---:|---|---:|---:|" + "---:|" * len(UNITS) + "---:|---:|")
    peaks: dict[str, list[tuple[int, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        without_blocks(place / "pruned")
        corpus = materialise(
            resolve_dataset("sandbox/corpus", None, "", place, drift_text()), place / "sources"
        )
        for rows in options.rows:
            here = place / str(rows)
            here.mkdir()
            write(here / "data", rows)
            spec = DataSpec(name="dialogues")
            asked = HeldOut(data=spec.model_copy(update={"split": "test"}), seen=spec, rows=rows)
            text = {
                "data": {"name": "general text", "rows": 128},
                "max_tokens": 512,
                "called": "sandbox/corpus",
            }
            common: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "text": text}
            base = {"base": sandbox.model_folder(), "text": corpus}
            data = {"held_out.dialogues": here / "data", "trained.dialogues": here / "data"}
            began, before = time.perf_counter(), _computed()
            told = [
                ("base", *step(drift.Settings(held_out=(asked,), **common), {**base, **data}, here / "base"))
            ]
            with ThreadPoolExecutor(2) as pool:
                made = [
                    pool.submit(
                        step, drift.Settings(**common),
                        {**base, "model": place / "pruned", "drift": here / "base"}, here / f"model{number}",
                    )
                    for number in (1, 2)
                ]  # fmt: skip
                told += [(f"pruned, {number} of 2", *one.result()) for number, one in enumerate(made, 1)]
            wall, computed = time.perf_counter() - began, _computed() - before
            for called, result, seconds in told:
                peaks.setdefault(called, []).append((rows, result.peak_memory))
                kl = result.facts.get("kl")
                cells = [
                    f"{rows:,}", called, f"{result.facts['tokens']:,}", f"{sum(seconds.values()):.1f}",
                    *(f"{seconds.get(unit, 0.0):.1f}" for unit in UNITS),
                    f"{result.peak_memory / 1e6:.0f} MB", f"{kl['value']:.3f}" if kl else "",
                ]  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)
            print(
                f"| {rows:,} | all three, CPU {computed:.1f} | | {wall:.1f} |" + " |" * (len(UNITS) + 2),
                flush=True,
            )
    if len(options.rows) > 1:
        for called, found in peaks.items():
            (few, least), (many, most) = found[0], found[-1]
            print(f"- {called}: {(most - least) / (many - few):.0f} bytes of peak memory a prompt")


def _computed() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def drift_text() -> Any:
    """Which part of the sandbox's corpus is read."""
    from factory.data.files import Wanted

    return Wanted(None, ("train",))


if __name__ == "__main__":
    main()
