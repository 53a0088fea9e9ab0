"""Rows as a parquet file that is whole or absent: what stages write once and others read.

Beside json_lines.py, for rows that come one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BATCH = 1024  # rows of a file that are read at once


def write(path: Path, rows: Sequence[Mapping[str, Any]], schema: Any = None) -> None:
    """Writes all rows, in folders that need not exist.

    Args:
        path: of the file.
        rows: each with the same names.
        schema: pyarrow's; None for what the values are.
    """
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows], schema), beside)
    beside.replace(path)


def rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, of which a batch is in memory at a time."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=list(columns)):
            yield from batch.to_pylist()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows
