"""Speed and memory of the draft stages on the sandbox model: the target writes texts, a draft reads them.

    OMP_NUM_THREADS=1 python tests/benchmarks/draft.py [--responses 10000] [--assisted 40]

Half of the responses are greedy and half sampled, behind questions of mathematics and instructions. Each
stage runs in a process of its own, as in a run; the times are whole, with the models loaded and, for the
draft, latencies and the timed prompts. A tenth of the responses stands beside, for what a response costs.
Then, on some of the prompts, acceptance for K = 1..8 by reading is timed beside what it takes the place of:
assisted generation, once a K. Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from factory import machine, sandbox
from factory.data.rows import DataSpec
from factory.drafts import assisted, speculative
from factory.models import load
from factory.run import child
from factory.sandbox import dialogues
from factory.stages import Frozen, draft, respond
from factory.texts import text as files
from factory.texts.measures import proposed, tie
from factory.texts.reader import Reader

KEPT = (0, 1, 10, 11)  # blocks of the draft, of twelve
NEW_TOKENS = 96


def questions(folder: Path, count: int) -> None:
    """So many rows of questions, mathematics and instructions in turns."""
    rng = random.Random("benchmark|draft")
    makers = (dialogues.math, dialogues.instruct)
    with (folder / "train.jsonl").open("w") as file:
        for i in range(count):
            made = makers[i % 2](rng, scored=False)
            file.write(json.dumps({"instruction": made.instruction, "response": made.human}) + "\n")


def small(folder: Path) -> Path:
    """The base with two thirds of its blocks gone, untrained: how good a draft is changes little here."""
    import torch

    shutil.copytree(sandbox.model_folder(), folder)
    model = load.causal_lm(sandbox.model_folder())
    model.model.layers = torch.nn.ModuleList(model.model.layers[i] for i in KEPT)
    model.config.num_hidden_layers, model.config.layer_types = len(KEPT), None
    model.save_pretrained(folder)
    return folder


def stage(name: str, settings: Frozen, inputs: dict[str, Path], out: Path) -> tuple[float, child.Result]:
    """Seconds of a stage in a process of its own, and what it found."""
    out.mkdir(parents=True)
    began = time.perf_counter()
    found = child.run_stage(
        f"factory.stages.{name}", settings, inputs, out, lambda *told: None, log=out.parent / f"{name}.log"
    )
    return time.perf_counter() - began, found


def both(work: Path, responses: int, model: Path) -> dict[str, Any]:
    """The two stages over so many responses."""
    place = work / str(responses)
    (place / "data").mkdir(parents=True)
    questions(place / "data", responses // 2)
    base = sandbox.model_folder()
    writing = respond.Settings(data=DataSpec(name="asked"), rows=responses // 2, max_new_tokens=NEW_TOKENS)
    wrote, texts = stage("respond", writing, {"target": base, "data": place / "data"}, place / "texts")
    reading = draft.Settings(sets=(draft.Set(name="asked", kind="instruct"),), max_new_tokens=NEW_TOKENS)
    inputs = {"target": base, "model": model, "responses.asked": place / "texts"}
    read, found = stage("draft", reading, inputs, place / "read")
    tokens = sum(texts.facts[mode]["tokens"] for mode in files.MODES)
    told = {
        "responses": responses,
        "tokens": tokens,
        "wrote": wrote,
        "read": read,
        "others": found.facts["others"],
    }
    return {**told, "peak_wrote": texts.peak_memory, "peak_read": found.peak_memory}


def beside(texts: Path, model: Path, count: int) -> tuple[float, float, int]:
    """Seconds of reading and of assisted generation for all K, over so many prompts, and differing lists."""
    target, helper = load.causal_lm(sandbox.model_folder()), load.causal_lm(model)
    some = [text for piece in files.read(texts, "greedy") for text in piece][:count]
    decoder = assisted.Decoder(target, helper, [0])
    decoder.assisted(some[0].prompt, 8, 2)
    began = time.perf_counter()
    lists = {
        (text.row, k): speculative.step_list((read["accept"] > 0.5).tolist(), k)
        for text, read in Reader(proposed(tie(helper)), helper, where="draft").read(some)
        for k in range(1, speculative.MOST + 1)
    }
    reading = time.perf_counter() - began
    began, other = time.perf_counter(), 0
    for text in some:
        for k in range(1, speculative.MOST + 1):
            other += decoder.assisted(text.prompt, NEW_TOKENS, k).steps != lists[text.row, k]
    return reading, time.perf_counter() - began, other


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--responses", type=int, default=10_000)
    parser.add_argument("--assisted", type=int, default=40, help="prompts that are decoded for every K")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = small(work / "model")
        rows = [both(work, n, model) for n in (max(20, options.responses // 10), options.responses)]
        reading, decoding, other = beside(work / str(options.responses) / "texts", model, options.assisted)
    facts, load_now = machine.facts(), os.getloadavg()[0]
    print(f"{facts['cpu']}, {facts['cores']} cores, one thread a process; load {load_now:.1f} at the end\n")
    print("| responses | tokens | written, s | peak, GB | read and timed, s | peak, GB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        peaks = [f"{row[name] / 1e9:.2f}" for name in ("peak_wrote", "peak_read")]
        print(
            f"| {row['responses']:,} | {row['tokens']:,} | {row['wrote']:.1f} | {peaks[0]} "
            f"| {row['read']:.1f} | {peaks[1]} |"
        )
    times = f"{reading:.2f} s by reading, {decoding:.1f} s by assisted generation"
    lists = f"{other} of {speculative.MOST * options.assisted} step lists differ"
    print(
        f"\nK = 1..8 over {options.assisted} greedy texts: {times}, "
        f"{decoding / reading:,.0f} times as long; {lists}."
    )


if __name__ == "__main__":
    main()
