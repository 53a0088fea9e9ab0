"""Speed and memory of the curate stage over the number of rows, beside reading the same rows alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/curate.py --rows 10000 100000 1000000
    OMP_NUM_THREADS=1 python tests/benchmarks/curate.py --rows 100000 --peer

Every line of the table is a process of its own, over the same file of synthetic rows (JSONL; words drawn by
rank as in natural text, one row in ten a duplicate, one in a thousand with a benchmark question in it):
reading; duplicates; order; overlaps, alone and all together. The benchmarks are synthetic too, 10,000
documents. Rows found are counted against rows planted. What a row costs in memory is the growth of the peak
from the least to the largest number of rows.

`--peer` does what datatrove does in the place of each: its NGramsDecontFilter (12-grams, indexed as it
indexes them) over the same texts. It is not a dependency: pip install datatrove spacy
'xxhash<4'.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate, islice, product
from pathlib import Path
from typing import Any

DOCUMENTS = 10_000
KINDS: dict[str, dict[str, Any]] = {
    "duplicates": {"deduplicate": "questions"},
    "order": {"order": "random", "seed": 1},
    "overlaps": {"overlap": 13},
    "all": {"deduplicate": "questions", "overlap": 13, "order": "random", "seed": 1},
}


def texts(seed: int, count: int, least: int, most: int) -> Iterator[str]:
    """Texts of that many words, drawn from 30,000 by Zipf's law."""
    rng = random.Random(seed)
    names = ["".join(letters) for letters in islice(product("bdfgklmnprst", "aeiou", repeat=3), 30_000)]
    weights = list(accumulate(1 / (i + 2) for i in range(len(names))))
    for _ in range(count):
        yield " ".join(rng.choices(names, cum_weights=weights, k=rng.randint(least, most)))


def write(place: Path, rows: int) -> None:
    """The rows, and GSM8K's folder with the benchmark."""
    (place / "gsm8k" / "main").mkdir(parents=True)
    questions = list(texts(1, DOCUMENTS, 20, 60))
    with (place / "gsm8k" / "main" / "test.jsonl").open("w") as file:
        for question in questions:
            file.write(json.dumps({"question": question, "answer": "#### 1"}) + "\n")
    (place / "data").mkdir()
    before: list[str] = []
    asked, said = texts(2, rows, 10, 50), texts(3, rows, 20, 150)
    with (place / "data" / "train.jsonl").open("w") as file:
        for number, (question, response) in enumerate(zip(asked, said, strict=True)):
            if number % 10 == 9:
                question = before[number % len(before)].upper()
            elif len(before) < 1_000:
                before.append(question)
            if number % 1_000 == 500:
                response += f" Also: {questions[number % DOCUMENTS]}"
            file.write(json.dumps({"instruction": question, "response": response}) + "\n")


def measure(place: Path, kind: str) -> None:
    """One way over the rows; prints its figures as JSON. Peak in bytes."""
    from factory.data.rows import DataSpec, iterate_rows
    from factory.stages import curate

    spec, found = DataSpec(name="synthetic"), {}
    began = time.perf_counter()
    if kind == "reading":
        rows = sum(1 for _ in iterate_rows(place / "data", spec))
    elif kind == "datatrove":
        rows, found = peer(place)
    else:
        scored = {"suite": "openllm_v1", "tasks": ("gsm8k",), "versions": {"gsm8k": 1}}
        settings = curate.Settings(data=spec, **KINDS[kind], **(scored if "overlap" in KINDS[kind] else {}))
        inputs = {"data": place / "data", "data.gsm8k": place / "gsm8k"}
        with tempfile.TemporaryDirectory() as out:
            found = curate.run(settings, inputs, Path(out), lambda *told: None)
        rows = found["rows_read"]
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {key: found.get(key, 0) for key in ("duplicates", "overlaps")}
    print(json.dumps({"kind": kind, "rows": rows, "seconds": seconds, "peak": peak, **told}), flush=True)


def peer(place: Path) -> tuple[int, dict[str, int]]:
    """datatrove's filter over the same rows, in this process."""
    from datatrove.data import Document
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.hashing import HashConfig, create_hash_func
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    from factory.data.rows import DataSpec, iterate_rows

    config = NGramsDecontConfig()
    tokenizer, hashed = load_word_tokenizer("en"), create_hash_func(HashConfig())
    index: dict[int, str] = {}
    for line in (place / "gsm8k" / "main" / "test.jsonl").open():
        said = tokenizer.word_tokenize(simplify_text(json.loads(line)["question"], config.norm_config))
        for gram in ngrams(said, config.n_grams):
            index[hashed(" ".join(gram))] = "gsm8k"
    step = NGramsDecontFilter(str(place), config=config)
    step._index_hashes = index
    rows = removed = 0
    for number, row in enumerate(iterate_rows(place / "data", DataSpec(name="synthetic"))):
        rows += 1
        kept = step.filter(Document(text=f"{row['instruction']}\n{row['response']}", id=str(number)))
        removed += kept is not True
    return rows, {"overlaps": removed}


def main() -> None:
    """Prints a table for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(Path(options.one[0]), options.one[1])
        return
    print("| rows | what | seconds | rows/s | to reading alone | peak memory | duplicates | overlaps |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    peaks: dict[str, list[tuple[int, int]]] = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), rows)
            alone = 0.0
            for kind in ("reading", *KINDS, *(["datatrove"] if options.peer else [])):
                command = [sys.executable, __file__, "--one", name, kind]
                ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(ran.stdout.splitlines()[-1])
                alone = alone or found["seconds"]
                peaks.setdefault(kind, []).append((rows, found["peak"]))
                cells = [
                    f"{rows:,}",
                    kind,
                    f"{found['seconds']:.1f}",
                    f"{rows / found['seconds']:,.0f}",
                    f"{found['seconds'] / alone:.2f}",
                    f"{found['peak'] / 1e6:.0f} MB",
                    f"{found['duplicates']:,}",
                    f"{found['overlaps']:,}",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)
    if len(options.rows) > 1:
        for kind, found in peaks.items():
            (few, least), (many, most) = found[0], found[-1]
            print(f"- {kind}: {(most - least) / (many - few):.0f} bytes of peak memory a row")


if __name__ == "__main__":
    main()
