"""The `sandbox/...` datasets as folders in the usual Hugging Face layout: parquet files and a README.

The scored splits of the six benchmark-shaped sets, and the `test` splits of the training sets, are
drawn from combinations that no training text of the sandbox is built from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from factory.sandbox import corpus, dialogues, skills
from factory.sandbox.world import SUBJECTS

SCORED_ROWS = 240
SHOT_ROWS = 200
TRAINING_ROWS = 2000
TEST_ROWS = 200
CORPUS_ROWS = 512

Row = dict[str, Any]
Splits = dict[tuple[str, str], list[Row]]  # (config, split) -> rows
Maker = Callable[..., Row]


def _distinct(maker: Maker, key: str, count: int, name: str, *, scored: bool, **more: Any) -> list[Row]:
    """`count` rows of one side, no two with the same `key` column."""
    rng = random.Random(f"dataset|{name}|{scored}|{more}")
    found: dict[str, Row] = {}
    while len(found) < count:
        row = maker(rng, scored=scored, **more)
        found.setdefault(row[key], row)
    return list(found.values())


def _benchmark(maker: Maker, key: str, name: str, shots: str, split: str, config: str = "default") -> Splits:
    return {
        (config, shots): _distinct(maker, key, SHOT_ROWS, name, scored=False),
        (config, split): _distinct(maker, key, SCORED_ROWS, name, scored=True),
    }


def _subjects() -> Splits:
    splits: Splits = {}
    for subject in SUBJECTS:
        for split, count in (("dev", 5), ("test", SCORED_ROWS // len(SUBJECTS))):
            scored = split == "test"
            splits[subject, split] = _distinct(
                skills.subjects, "question", count, "subjects", scored=scored, subject=subject
            )
    return splits


def _dialogue_rows(maker: Callable[..., dialogues.Dialogue]) -> Maker:
    def row(rng: random.Random, *, scored: bool) -> Row:
        made = maker(rng, scored=scored)
        return {
            "instruction": made.instruction,
            "context": made.context,
            "response": made.human,
            "answer": made.answer,
        }

    return row


def _training(maker: Callable[..., dialogues.Dialogue], name: str) -> Splits:
    row = _dialogue_rows(maker)
    return {
        ("default", "train"): _distinct(row, "instruction", TRAINING_ROWS, name, scored=False),
        ("default", "test"): _distinct(row, "instruction", TEST_ROWS, name, scored=True),
    }


def _corpus() -> Splits:
    documents = corpus.stream(random.Random("dataset|corpus"))
    rows = [{"text": corpus.text(next(documents)[1])} for _ in range(CORPUS_ROWS)]
    return {("default", "train"): rows}


MAKERS: dict[str, Callable[[], Splits]] = {
    "science": lambda: _benchmark(skills.science, "question", "science", "train", "test"),
    "endings": lambda: _benchmark(skills.endings, "ctx", "endings", "train", "validation"),
    "subjects": _subjects,
    "myths": lambda: {
        ("multiple_choice", "validation"): _distinct(
            skills.myths, "question", SCORED_ROWS, "myths", scored=True
        )
    },
    "blanks": lambda: _benchmark(skills.blanks, "sentence", "blanks", "train", "validation"),
    "arithmetic": lambda: _benchmark(
        skills.arithmetic_row, "question", "arithmetic", "train", "test", "main"
    ),
    "math": lambda: _training(dialogues.math, "math"),
    "instruct": lambda: _training(dialogues.instruct, "instruct"),
    "corpus": _corpus,
}
EXTRA_FILES = {"myths": {"preamble.txt": corpus.preamble}}


def _front_matter(paths: list[tuple[str, str, str]]) -> Iterator[str]:
    yield "---"
    yield "license: apache-2.0"
    yield "configs:"
    for config in dict.fromkeys(config for config, _, _ in paths):
        yield f"- config_name: {config}"
        yield "  data_files:"
        for owner, split, path in paths:
            if owner == config:
                yield f"  - split: {split}"
                yield f"    path: {path}"
    yield "---"


def write(name: str, folder: Path) -> None:
    """Writes one dataset.

    Args:
        name: a key of `MAKERS`.
        folder: created if need be.

    Raises:
        KeyError: there is no such dataset.
    """
    import pyarrow
    import pyarrow.parquet

    paths = []
    for (config, split), rows in MAKERS[name]().items():
        path = f"{config}/{split}.parquet"
        (folder / config).mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / path)
        paths.append((config, split, path))
    for file, text in EXTRA_FILES.get(name, {}).items():
        (folder / file).write_text(text(), encoding="utf-8")
    about = f"# sandbox/{name}\n\nMade up by the factory's sandbox; nothing in it is true of our world."
    (folder / "README.md").write_text("\n".join([*_front_matter(paths), "", about, ""]), encoding="utf-8")
