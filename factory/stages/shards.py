"""Datasets on disk as the stages write them: parquet shards in order, a README, and what they add up to.

Under regenerate.py, beside generations.py; curate.py writes its rows here too. A shard is written whole or
not at all, so a run that was killed goes on with the next one; sums and examples are read back from the
shards, one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory import parquet
from factory.data import selection

COLUMNS = {
    "instruction": ("string", "the task"),
    "context": ("string", "further input, may be empty; of a chat the turns before, as JSON"),
    "original": ("string", "the response of the source dataset"),
    "regenerated": ("string", "what the base model wrote; of several samples the one `reason` speaks of"),
    "response": ("string", "the one selected, to be trained on"),
    "kept": ("string", "`regenerated` or `original`: which of the two `response` is"),
    "reason": ("string", f"what was found about `regenerated`: {', '.join(selection.REASONS)}"),
    "new_tokens": ("int64", "tokens of `regenerated`, its end included"),
    "samples": ("int64", "samples drawn for the row"),
    "likelihood_original": (
        "double",
        "of `original` under the base, mean nats a token; only `likeliest`, where the model has room",
    ),
    "likelihood_regenerated": ("double", "the same of `regenerated`; in both the reference is not in sight"),
}
EXAMPLES = {"regenerated": 3, "original": 2}
"""Of each reason, how many examples of rows that kept that response."""
SHOWN = (
    "instruction", "context", "original", "regenerated", "kept", "reason", "likelihood_original",
    "likelihood_regenerated",
)  # fmt: skip


def path(out: Path, number: int) -> Path:
    """Where a shard stands."""
    return out / "data" / f"train-{number:05}.parquet"


def write(
    out: Path,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, tuple[str, str]] = COLUMNS,
) -> None:
    """Writes a shard, all of it or nothing.

    Args:
        out: the artifact's folder.
        number: of the shard.
        rows: with these columns.
        columns: for each its type and what it holds.
    """
    import pyarrow

    types = {"string": pyarrow.string(), "int64": pyarrow.int64(), "double": pyarrow.float64()}
    schema = pyarrow.schema([(column, types[kind]) for column, (kind, _) in columns.items()])
    parquet.write(path(out, number), rows, schema)


def facts(out: Path) -> dict[str, Any]:
    """Rows, those that kept the regenerated response, reasons, outcomes and examples, from the shards."""
    reasons: Counter[str] = Counter()
    outcomes: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _rows(out):
        outcome = (row["kept"], row["reason"])
        outcomes[outcome] += 1
        reasons[row["reason"]] += 1
        shown = examples.setdefault(outcome, [])
        if len(shown) < EXAMPLES[row["kept"]]:
            shown.append(row)
    regenerated = sum(count for (which, _), count in outcomes.items() if which == "regenerated")
    # What was kept first, then what was not, the most frequent reason first.
    order = sorted(examples, key=lambda outcome: (outcome[0] != "regenerated", -outcomes[outcome], outcome))
    return {
        "rows": outcomes.total(),
        "kept_regenerated": regenerated,
        "reasons": dict(reasons.most_common()),
        "outcomes": [
            {"kept": kept, "reason": reason, "rows": outcomes[kept, reason]} for kept, reason in order
        ],
        "examples": [row for outcome in order for row in examples[outcome]],
    }


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    for shard in sorted((out / "data").glob("train-*.parquet")):
        with pyarrow.parquet.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=500, columns=list(SHOWN)):
                yield from batch.to_pylist()


def readme(out: Path, name: str, made: str, reasons: Mapping[str, int]) -> None:
    """Writes the README of a regenerated dataset.

    Args:
        out: the artifact's folder.
        name: of the dataset.
        made: how the responses were made, as sentences.
        reasons: rows by reason.
    """
    card(out, f"{name}, regenerated", made, COLUMNS, ("reason", "rows"), reasons)


def card(
    out: Path,
    title: str,
    made: str,
    columns: Mapping[str, tuple[str, str]],
    head: tuple[str, str],
    counts: Mapping[str, int],
) -> None:
    """Writes a README that `datasets.load_dataset` and people understand.

    Args:
        out: the artifact's folder.
        title: what it is.
        made: how the rows were made, as sentences.
        columns: for each its type and what it holds.
        head: of the table of counts.
        counts: what was counted.
    """
    text = f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
# {title}

{made}

| column | holds |
|---|---|
{chr(10).join(f"| {column} | {meaning} |" for column, (_, meaning) in columns.items())}

| {" | ".join(head)} |
|---|---|
{chr(10).join(f"| {what} | {count} |" for what, count in counts.items())}
"""
    (out / "README.md").write_text(text, encoding="utf-8")
