"""The rows of a dataset's files, as they stand there: parquet, JSON and CSV. Under rows.py; beside files.py.

Nothing here holds more than a batch of rows, but for a JSON file that is one list.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from factory.errors import FactoryError


def column_names(files: Sequence[Path]) -> list[str]:
    """The columns of the first file that has rows (of JSON: of its first row)."""
    for file in files:
        if file.name.endswith(".parquet"):
            return list(_parquet(file).schema_arrow.names)
        for row in read_rows([file], None, 1):
            return list(row)
    return []


def stored_rows(files: Sequence[Path]) -> int | None:
    """The number of rows in the files; None where it takes reading them all to know."""
    if not all(file.name.endswith(".parquet") for file in files):
        return None
    return sum(_parquet(file).metadata.num_rows for file in files)


def read_rows(
    files: Sequence[Path], columns: Sequence[str] | None, rows: int | None
) -> Iterator[dict[str, Any]]:
    """The first `rows` rows of the files in order, with the named columns (None: all).

    A value that a row does not have is None.

    Raises:
        FactoryError: a file that is not what its ending says, with its line where it has lines.
    """
    left = rows
    for file in files:
        if left is not None and left <= 0:
            return
        for row in _read(file, columns, left):
            yield row if columns is None else {name: row.get(name) for name in columns}
            if left is not None:
                left -= 1
                if left <= 0:
                    return


def _read(file: Path, columns: Sequence[str] | None, rows: int | None) -> Iterator[dict[str, Any]]:
    if file.name.endswith(".parquet"):
        batch_size = min(rows or 4096, 4096)
        for batch in _parquet(file).iter_batches(batch_size, columns=list(columns) if columns else None):
            yield from batch.to_pylist()
        return
    opened = gzip.open if file.name.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as stream:
            yield from _csv(file, stream) if ".csv" in file.suffixes else _json(file, stream)
    except UnicodeDecodeError:
        raise FactoryError("not UTF-8 text", where=str(file), mend="Save it as UTF-8") from None
    except (OSError, EOFError) as error:
        raise FactoryError(f"cannot be read ({error})", where=str(file), mend="Fetch it again") from None


def _parquet(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        mend = "Fetch it again (is it a Git LFS pointer?)"
        raise FactoryError("not a readable parquet file", where=str(file), mend=mend) from None


def _csv(file: Path, stream: IO[str]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(stream)
    try:
        for row in reader:
            yield {key: value for key, value in row.items() if key is not None}
    except csv.Error as error:
        where = f"{file}:{reader.line_num}"
        raise FactoryError(f"broken CSV ({error})", where=where, mend="Mend that line") from None


def _json(file: Path, stream: IO[str]) -> Iterator[dict[str, Any]]:
    first = stream.read(64).lstrip()[:1]
    stream.seek(0)
    if first == "[":  # one list of rows instead of a row a line
        try:
            rows = json.load(stream)
        except ValueError as error:
            raise FactoryError(f"broken JSON ({error})", where=str(file), mend="Mend it there") from None
        numbered: Iterable[tuple[int, Any]] = enumerate(rows, 1)
    else:
        numbered = _json_lines(file, stream)
    for number, row in numbered:
        if not isinstance(row, dict):
            mend = 'Write rows as {"column": value, ...}'
            raise FactoryError("a row is not an object", where=f"{file}:{number}", mend=mend)
        yield row


def _json_lines(file: Path, stream: IO[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError:
            mend = "Write one JSON object a line"
            raise FactoryError("the line is not JSON", where=f"{file}:{number}", mend=mend) from None
