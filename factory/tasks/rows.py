"""Finds the rows of a benchmark in a dataset folder: the first thing the evaluate stage does.

The layouts of the Hugging Face Hub are understood: a README.md with a `configs:` block;
`<config>/<split>.parquet`; shards `<split>-00000-of-00002.parquet`; the same directly in the folder or
under `data/`, which makes the one configuration `default`. Files may be parquet, jsonl, json or csv.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import FactoryError

_KINDS = (".parquet", ".jsonl", ".json", ".csv")
_SPLIT_OF_NAME = re.compile(r"(?P<split>.+?)(-\d{5}-of-\d{5}.*)?$")

Layout = dict[str, dict[str, tuple[Path, ...]]]
"""Configuration -> split -> its files in order."""


def layout(folder: Path) -> Layout:
    """What a dataset folder holds.

    Raises:
        FactoryError: there is no such folder, or it holds no data files.
    """
    if not folder.is_dir():
        raise FactoryError("no such dataset folder", where=str(folder), mend="Correct the dataset's name")
    found = _from_readme(folder) or _from_names(folder)
    if not found:
        raise FactoryError(
            "no data files found", where=str(folder), mend="Put `<config>/<split>.parquet` files there"
        )
    return found


def read(files: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of some files, in order.

    Raises:
        FactoryError: a file cannot be read.
    """
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            rows.extend(_read(file))
        except (ValueError, OSError) as error:
            message = f"cannot be read ({str(error).splitlines()[0]})"
            raise FactoryError(message, where=str(file), mend="Write the file anew") from error
    return rows


def _read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.ParquetFile(file).read().to_pylist())
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return list(csv.DictReader(text.splitlines(keepends=True)))
    if file.suffix == ".json" and text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _from_readme(folder: Path) -> Layout:
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    from huggingface_hub import metadata_load

    found: Layout = {}
    for config in (metadata_load(readme) or {}).get("configs", []):
        name = str(config.get("config_name", "default"))
        root = folder / config.get("data_dir", ".")
        splits: dict[str, tuple[Path, ...]] = {}
        for split, patterns in _patterns(config.get("data_files", "*")):
            files = sorted({file for pattern in patterns for file in root.glob(pattern)})
            data = tuple(file for file in files if file.suffix in _KINDS)
            if split is None:  # files without a named split: each tells its own
                splits.update(_by_split(data))
            elif data:
                splits[split] = data
        if splits:
            found[name] = splits
    return found


def _patterns(data_files: Any) -> Iterator[tuple[str | None, list[str]]]:
    """(split, glob patterns) of a README's `data_files`, in any of its spellings."""
    if isinstance(data_files, Mapping):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    elif isinstance(data_files, str):
        data_files = [data_files]
    for entry in data_files:
        if isinstance(entry, str):
            yield None, [entry]
        else:
            path = entry["path"]
            yield str(entry["split"]), [path] if isinstance(path, str) else list(path)


def _from_names(folder: Path) -> Layout:
    found: Layout = {}
    flat = _by_split([*_files(folder), *_files(folder / "data")])
    if flat:
        found["default"] = flat
    for config in sorted(path for path in folder.iterdir() if path.is_dir()):
        splits = _by_split(_files(config))
        if splits and config.name != "data":
            found[config.name] = splits
    return found


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _KINDS)


def _by_split(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    splits: dict[str, tuple[Path, ...]] = {}
    for file in files:
        named = _SPLIT_OF_NAME.match(file.stem)
        split = named.group("split") if named else file.stem
        splits[split] = (*splits.get(split, ()), file)
    return splits
