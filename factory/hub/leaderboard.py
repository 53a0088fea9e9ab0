"""The leaderboard: records of models from runs and Hubs, as a dataset and as a page that needs no server.

board_sources.py (whose records) -> board_rows.py (a row a model, checked) -> here -> board_dataset.py,
board_page.py. Built from records alone, in an order of its own: from the same ones it is the same again, byte
by byte. A record that is damaged or of another version costs its own row, is told and is counted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from factory.errors import FactoryError
from factory.hub import board_dataset, board_page, ledger
from factory.hub.board_row import Row
from factory.hub.board_rows import rows
from factory.hub.board_sources import Samples, Skipped, found
from factory.hub.session import Patience
from factory.run.store import writable_folder


@dataclass
class Built:
    """What came of it.

    Attributes:
        out: the folder, with `dataset` and `page`.
        models: how many rows.
        apart: how many of them are shown apart.
        doubles: models that were met again, in another run or place.
        skipped: what was left out, with the reason.
        lacking: runs some of whose models came without scored documents, with the reason.
    """

    out: Path
    models: int = 0
    apart: int = 0
    doubles: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    lacking: list[tuple[str, str]] = field(default_factory=list)


def build(
    sources: Sequence[str],
    out: Path,
    patience: Patience,
    told: Callable[[str, str], None] = lambda a, b: None,
) -> Built:
    """Collects, and writes the dataset and the page.

    Args:
        sources: folders, users or organisations of the Hub.
        out: the folder to make, or one that an earlier call made.
        patience: with the Hub.
        told: called with a place and what is left out there, and why, as it is met.

    Raises:
        FactoryError: a source is none, nothing can be shown, or the folder is taken or cannot be written.
    """
    _refuse_foreign(out)
    built = Built(out)

    def skipped(where: str, why: str) -> None:
        built.skipped.append((where, why))
        told(where, f"left out: {why}")

    def lacking(where: str, why: str) -> None:
        built.lacking.append((where, why))
        told(where, why)

    models = _named(_once(_collected(sources, skipped, lacking, patience), built))
    if not models:
        left = f"; {len(built.skipped)} were left out" if built.skipped else ""
        mend = "Run a recipe to its end, or name another source"
        raise FactoryError(f"there is no model to show{left}", where=", ".join(sources), mend=mend)
    built.models, built.apart = len(models), sum(bool(row.apart) for row, _ in models)
    _write(models, out)
    return built


def _collected(
    sources: Sequence[str], skipped: Skipped, lacking: Skipped, patience: Patience
) -> Iterable[tuple[Row, Samples | None]]:
    for source in sources:
        for one in found(source, skipped, patience):
            try:
                yield from list(rows(one, lacking))
            except FactoryError as error:
                skipped(error.where or one.where, error.what)
            except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
                said = " ".join(str(error).split())[:160]
                skipped(one.where, f"its records are of another version ({type(error).__name__}: {said})")


def _once(models: Iterable[tuple[Row, Samples | None]], built: Built) -> list[tuple[Row, Samples | None]]:
    """Each model once: of one evaluation what is published, else what can be compared, else the first."""
    kept: dict[str, tuple[Row, Samples | None]] = {}
    for row, samples in models:
        there = kept.get(row.key)
        built.doubles += there is not None
        better = there is not None and (row.repository is not None, samples is not None) > (
            there[0].repository is not None,
            there[1] is not None,
        )
        if there is None or better:
            kept[row.key] = (row, samples or (there[1] if there else None))
    return list(kept.values())


def _named(models: list[tuple[Row, Samples | None]]) -> list[tuple[Row, Samples | None]]:
    """In an order that does not depend on that of the sources; no name twice."""
    ordered = sorted(models, key=lambda one: (one[0].name, one[0].key))
    names = [row.name for row, _ in ordered]
    taken: set[str] = set()
    found = []
    for row, samples in ordered:
        name = row.name if names.count(row.name) == 1 else f"{row.name} ({row.key[:6]})"
        name = name if name not in taken else f"{row.name} ({row.key})"
        taken.add(name)
        found.append((row.model_copy(update={"name": name}), samples))
    return found


def _refuse_foreign(out: Path) -> None:
    """Refuses a folder with anything else than an earlier leaderboard in it."""
    ours = {board_dataset.FOLDER, board_page.FOLDER, ledger.FOLDER}
    if out.exists() and (not out.is_dir() or any(path.name not in ours for path in out.iterdir())):
        mend = "Name a new folder, or one that this command made"
        raise FactoryError("there is something else here", where=str(out), mend=mend)


def _write(models: list[tuple[Row, Samples | None]], out: Path) -> None:
    """Beside its place, then renamed: a page is never half of one build and half of another."""
    writable_folder(out.absolute().parent)
    partial = out.absolute().with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    board_dataset.write(models, partial / board_dataset.FOLDER)
    board_page.write(models, partial / board_page.FOLDER)
    if (out / ledger.FOLDER).exists():
        (out / ledger.FOLDER).rename(partial / ledger.FOLDER)
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
