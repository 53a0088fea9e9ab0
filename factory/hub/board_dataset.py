"""The leaderboard as a dataset: three parquet files and a card that `datasets.load_dataset` reads.

`models` has a row a model, `answers` a row a model and task with every document's score, `documents` a row a
set of documents. Two answers with the same `documents` can be compared document by document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.compare import documents
from factory.hub.board_row import MORE, Figure, Row
from factory.hub.board_sources import Samples

Models = Sequence[tuple[Row, Samples | None]]
FOLDER = "dataset"
CONFIGS = {
    "models": "a row a model",
    "answers": "a row a model and task: every document's score, for paired comparisons",
    "documents": "a row a set of documents: which they are, and in which order the scores stand",
}


@dataclass(frozen=True)
class Column:
    """A column of a configuration: its type in pyarrow's words, and what it means."""

    kind: str
    meaning: str


def columns(tasks: Sequence[str]) -> dict[str, dict[str, Column]]:
    """Every column by configuration, with tasks as they occur."""
    models = {
        "key": Column("string", "of the evaluation: the same key is the same model with the same scores"),
        "name": Column("string", "the repository, or `<run>/<variant>`; of a base model its id"),
        "run": Column("string", "the recipe's name"),
        "variant": Column("string", "the model's name in the recipe, `base` or `pruned`"),
        "base": Column("string", "the base model"),
        "revision": Column("string", "the base's commit, or the hash of its content"),
        "method": Column("string", "base, pruned, SFT, self-distilled or merged"),
        "how": Column("string", "more of it: how it was trained, or merged from what"),
        "targets": Column(
            "string", "of a trained model: its responses were `original` or its base's (`self`)"
        ),
        "data": Column("list<string>", "datasets of the recipe that it was trained on"),
        "rows": Column("int64", "rows that it, or what it is merged from, was trained on"),
        "blocks": Column("int64", "decoder blocks"),
        "removed": Column("int64", "blocks fewer than the base's"),
        "removed_blocks": Column("string", "which, 0-based, both ends included"),
        "parameters": Column("int64", "elements of all tensors"),
        "parameters_removed": Column("double", "share of the base's that went"),
        "flops": Column("int64", "of a forward pass for one token, attention to other tokens left out"),
        "suite": Column("string", "that scored it"),
        "limit": Column("int64", "documents a task or subject, where it was limited"),
        "apart": Column("list<string>", "why its scores are no benchmark's; empty where they are whole"),
    }
    for name, meaning in {
        "average": "mean over the tasks",
        "recovery": "average / the base's",
        **{task: f"score on {task}" for task in tasks},
        **{name: more.title for name, more in MORE.items()},
        "tokens_per_second": "of generating, median round",
    }.items():
        rounds = name in ("tokens_per_second", "latency", "speed_up")
        ends = "lowest and highest round" if rounds else "ends of the 95 % interval"
        models[name] = Column("double", meaning)
        models |= {f"{name}_low": Column("double", ends), f"{name}_high": Column("double", "see above")}
    models |= {
        "measured_on": Column("string", "where tokens_per_second was measured"),
        "shots": Column("string", "solved examples, by task (JSON)"),
        "metrics": Column("string", "by task (JSON)"),
        "repository": Column("string", "where it is published"),
        "commit": Column("string", "what was read of it"),
        "evaluated": Column("string", "when scoring began"),
        "seed": Column("int64", "the recipe's"),
        "factory": Column("string", "the version that made it"),
    }
    answers = {
        "key": Column("string", "of the model"),
        "task": Column("string", "of its suite"),
        "documents": Column("string", "of the set of documents that were answered"),
        "scores": Column("list<double>", "of every document, 0 to 1, by the task's metric"),
        "correct": Column("list<bool>", "whether it was answered rightly; empty where only scores are known"),
    }
    sets = {
        "documents": Column("string", "of this set: a hash of the columns below"),
        "index": Column("list<int64>", "rows of the scored split"),
        "group": Column("list<string>", "MMLU's subjects, else the task"),
        "prompt": Column("list<string>", "hash of all that was read before the answer, shots included"),
    }
    return {"models": models, "answers": answers, "documents": sets}


def tasks_of(models: Models) -> list[str]:
    """Every task, in the order of the first row that has it."""
    return list(dict.fromkeys(task for row, _ in models for task in row.scores))


def documents_id(samples: Any) -> str:
    """What tells a set of documents from others."""
    content = json.dumps(documents(samples), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(models: Models, out: Path) -> None:
    """Writes the dataset's folder."""
    told = columns(tasks_of(models))
    answers, sets = [], {}
    for row, samples in models:
        for task, of in (samples or {}).items():
            name = documents_id(of)
            sets[name] = dict(zip(("index", "group", "prompt"), documents(of), strict=True))
            answer = {"scores": list(of.score), "correct": list(of.correct)}
            answers.append({"key": row.key, "task": task, "documents": name, **answer})
    rows = {
        "models": [_flat(row) for row, _ in models],
        "answers": answers,
        "documents": [{"documents": name, **content} for name, content in sets.items()],
    }
    for config, content in rows.items():
        _write(content, told[config], out / config / "train-00000-of-00001.parquet")
    (out / "README.md").write_text(_card(models, told), encoding="utf-8")


def _flat(row: Row) -> dict[str, Any]:
    plain = row.model_dump(
        mode="json", exclude={"scores", "average", "recovery", "tokens_per_second", "url", "more"}
    )
    own: dict[str, Figure | None] = {
        "average": row.average, "recovery": row.recovery,
        "tokens_per_second": row.tokens_per_second, **row.more, **row.scores,
    }  # fmt: skip
    for name, one in own.items():
        ends = (None, None, None) if one is None else (one.value, one.low, one.high)
        plain |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    plain["shots"] = json.dumps({task: score.shots for task, score in row.scores.items()})
    plain["metrics"] = json.dumps({task: score.metric for task, score in row.scores.items()})
    return plain


def _write(rows: Sequence[Mapping[str, Any]], told: Mapping[str, Column], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "string": pa.string(), "int64": pa.int64(), "double": pa.float64(),
        "list<string>": pa.list_(pa.string()), "list<double>": pa.list_(pa.float64()),
        "list<int64>": pa.list_(pa.int64()), "list<bool>": pa.list_(pa.bool_()),
    }  # fmt: skip
    schema = pa.schema([(name, kinds[column.kind]) for name, column in told.items()])
    path.parent.mkdir(parents=True)
    table = pa.Table.from_pylist([{name: row.get(name) for name in told} for row in rows], schema=schema)
    pq.write_table(table, path, compression="zstd")


def _card(models: Models, told: Mapping[str, Mapping[str, Column]]) -> str:
    import yaml

    from factory.hub import card_words
    from factory.hub.card_metadata import size_category

    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*.parquet"}]}
        for name in CONFIGS
    ]
    metadata = {
        "pretty_name": "Leaderboard of the model factory",
        "license": "apache-2.0",
        "size_categories": [size_category(len(models))],
        "tags": ["leaderboard", "self-data-distillation", "depth-pruning"],
        "configs": [{**configs[0], "default": True}, *configs[1:]],
    }
    values = {
        "metadata": yaml.safe_dump(metadata, sort_keys=False).strip(),
        "configs": CONFIGS,
        "columns": told,
        "models": len(models),
        "apart": sum(bool(row.apart) for row, _ in models),
        "suites": sorted({row.suite for row, _ in models}),
    }
    return card_words.render("leaderboard.md.jinja", values)
