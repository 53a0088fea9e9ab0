"""Regenerate: the unpruned base rewrites every training response in its own words; train reads the result.

The teacher sees the instruction and, with `sees: reference`, the original response (self-data
distillation, arXiv 2410.09982, section 3; SDFT). A rewritten response that fails its check gives way to
the original, with the reason; no row is dropped. The training prompt never holds the reference.

Raw generations are appended to `generations.jsonl` as they finish, one whole line a row. A run that was
killed goes on behind the last whole line; choosing and the parquet file come at the end, in file order.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory import checks, engines, prompts
from factory.data import DataSpec, load_rows
from factory.engines import Generated, Request, Sampling
from factory.seeds import stream
from factory.stages import Frozen, Progress

VERSION = 2
LIBRARIES = ("torch", "transformers", "tokenizers")

COLUMNS = {
    "instruction": "the task",
    "context": "further input, may be empty",
    "original": "the response of the source dataset",
    "regenerated": "what the base model wrote",
    "response": "the one selected, to be trained on",
    "kept": "`regenerated` or `original`: which of the two `response` is",
    "reason": f"why: {', '.join(checks.REASONS)}",
    "new_tokens": "tokens the base model wrote",
}
EXAMPLES = 3


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the dataset, its prompt kind and its check.
        sees: whether the teacher is shown the original response.
        temperature: 0 takes the likeliest token; above, rows are sampled, each from its own seed.
        max_new_tokens: a response that is longer counts as truncated.
        batch_size: rows in work at once.
        seed: of the sampling.
        engine: who generates, one of `factory.engines.NAMES`.
    """

    data: DataSpec
    sees: Literal["reference", "question"] = "reference"
    temperature: float = Field(default=0.0, ge=0.0)
    max_new_tokens: int = Field(default=512, ge=1)
    batch_size: int = Field(default=64, ge=1)
    seed: int = 0
    engine: Literal["transformers"] = "transformers"


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes data/train-00000.parquet and a README that `datasets.load_dataset` understands.

    Args:
        settings: see `Settings`.
        inputs: `base`, the teacher's model folder with a chat template; `data`, a dataset folder.
        out: may hold generations.jsonl of an interrupted run of the same step; its rows are kept.
        progress: told the rows done, with the tokens a second.

    Returns:
        Rows, how many kept the regenerated response, counts by reason, examples, new tokens and tokens a
        second (over all sessions of the step, loading excluded).

    Raises:
        FactoryError: the dataset or the model cannot be used.
    """
    rows: list[dict[str, str]] = load_rows(inputs["data"], settings.data).to_list()
    journal = _Journal(out / "generations.jsonl")
    requests = [
        Request(i, tuple(_messages(settings, row)), stream(settings.seed, "row", str(i)))
        for i, row in enumerate(rows)
        if i not in journal.lines
    ]
    progress(len(journal.lines), len(rows), "rows")
    if requests:
        engine = engines.load(settings.engine, inputs["base"], settings.batch_size)
        sampling = Sampling(settings.max_new_tokens, settings.temperature)
        for _ in journal.record(engine.generate(requests, sampling)):
            progress(len(journal.lines), len(rows), "rows", f"{journal.speed():.0f} tokens/s")
    generations = [journal.lines[i] for i in range(len(rows))]
    table = _table(settings, rows, generations)
    _write(settings, table, out)
    journal.path.unlink()
    return {
        "rows": len(rows),
        "kept_regenerated": table["kept"].count("regenerated"),
        "reasons": dict(Counter(table["reason"]).most_common()),
        "examples": _examples(table),
        "new_tokens": sum(table["new_tokens"]),
        "tokens_per_second": round(journal.speed(), 1),
    }


def _messages(settings: Settings, row: Mapping[str, str]) -> list[dict[str, str]]:
    reference = row["response"] if settings.sees == "reference" else None
    return prompts.messages(settings.data.prompt, row["instruction"], row["context"], reference=reference)


class _Journal:
    """Generations on disk, one JSON line each, in the order in which they finished."""

    def __init__(self, path: Path) -> None:
        """Reads what is there; a last line that a kill tore is cut off."""
        self.path = path
        self.lines: dict[int, Generated] = {}
        self.tokens, self.seconds = 0, 0.0
        whole = b""
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                with path.open("r+b") as file:
                    file.truncate(len(whole))
        for text in whole.splitlines():
            fields = json.loads(text)
            seconds = fields.pop("seconds")  # since the line before it
            self._add(Generated(**fields), seconds)

    def record(self, generations: Iterator[Generated]) -> Iterator[Generated]:
        """Hands generations on, each once its line has left the process."""
        with self.path.open("ab") as file:
            before = time.monotonic()
            for generated in generations:
                seconds = round(time.monotonic() - before, 6)
                before += seconds
                file.write(json.dumps({**asdict(generated), "seconds": seconds}).encode() + b"\n")
                file.flush()  # from here on the line outlives a kill
                self._add(generated, seconds)
                yield generated

    def _add(self, generated: Generated, seconds: float) -> None:
        self.lines[generated.id] = generated
        self.tokens += generated.new_tokens
        self.seconds += seconds

    def speed(self) -> float:
        """New tokens a second, over all sessions."""
        return self.tokens / max(self.seconds, 1e-9)


def _table(
    settings: Settings, rows: list[dict[str, str]], generations: list[Generated]
) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for row, generated in zip(rows, generations, strict=True):
        chosen = checks.select(row, generated, settings.data.check)
        values = (
            row["instruction"], row["context"], row["response"], generated.text,
            chosen.response, chosen.kept, chosen.reason, generated.new_tokens,
        )  # fmt: skip
        for column, value in zip(COLUMNS, values, strict=True):
            table[column].append(value)
    return table


def _examples(table: dict[str, list[Any]]) -> list[dict[str, str]]:
    """The first row of each of the most frequent reasons, filled up with further rows."""
    reasons = [reason for reason, _ in Counter(table["reason"]).most_common(EXAMPLES)]
    first = [table["reason"].index(reason) for reason in reasons]
    others = [i for i in range(len(table["reason"])) if i not in first]
    columns = ("instruction", "context", "original", "regenerated", "reason")
    return [{column: table[column][i] for column in columns} for i in [*first, *others][:EXAMPLES]]


def _write(settings: Settings, table: dict[str, list[Any]], out: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (out / "data").mkdir(exist_ok=True)
    types = [pyarrow.int64() if column == "new_tokens" else pyarrow.string() for column in COLUMNS]
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))
    pyarrow.parquet.write_table(pyarrow.table(table, schema), out / "data" / "train-00000.parquet")
    reasons = Counter(table["reason"]).most_common()
    readme = f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
# {settings.data.name}, regenerated

Responses that a base model wrote itself, seeing the {settings.sees} (temperature {settings.temperature:g},
at most {settings.max_new_tokens} tokens, check `{settings.data.check}`), with the originals beside them.

| column | holds |
|---|---|
{chr(10).join(f"| {column} | {meaning} |" for column, meaning in COLUMNS.items())}

| reason | rows |
|---|---|
{chr(10).join(f"| {reason} | {count} |" for reason, count in reasons)}
"""
    (out / "README.md").write_text(readme, encoding="utf-8")
