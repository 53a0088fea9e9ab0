"""Stages on a folder, without a recipe and without a store. Between commands/model.py and the stages."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import machine
from factory.errors import FactoryError
from factory.models import blocks
from factory.run.child import is_disk_full
from factory.run.store import RECORD, disk_full, sync_tree
from factory.stages import Progress


def prune(model: Path, drop: str, out: Path, proof: bool, progress: Progress) -> dict[str, Any]:
    """Writes `model` without some blocks to the new folder `out`, whole or not at all, with a record.

    Args:
        model: a stock model folder, or `sandbox/base`.
        drop: the blocks as a person writes them (see `blocks.parse`).
        out: a folder that does not exist, or is empty.
        proof: whether to compare the result with the base.
        progress: told the megabytes copied, then the steps of the proof.

    Returns:
        What went, sizes and the proof: the record's facts.

    Raises:
        FactoryError: blocks that make no sense, a model that cannot be pruned, an `out` that is taken, or a
            result that is not the base without those blocks.
    """
    from factory.stages import prune as stage

    gone, base = blocks.parse(drop), model_folder(model)
    if base.resolve() in (out.resolve(), *out.resolve().parents):
        what = "this is inside the model that is to be pruned"
        raise FactoryError(what, where=str(out), mend="Name a folder elsewhere")
    began, started = time.perf_counter(), datetime.now(UTC)
    with new_folder(out) as beside:
        dropped, proved = stage.cut(base, beside / "model", gone, proof, progress)
        facts = {
            "blocks": list(dropped.blocks),
            "of": len(dropped.blocks) + len(dropped.kept),
            "sentence": blocks.in_words(gone, len(dropped.blocks) + len(dropped.kept)),
            "parameters": {"base": dropped.base_parameters, "pruned": dropped.pruned_parameters},
            "bytes": dropped.written,
            "files": {"carried": list(dropped.carried), "left": list(dropped.left)},
            "left_out": list(dropped.left_out),
            "proof": {**proved.facts(), "sentence": proved.sentence()},
        }
        record = {
            "stage": "prune",
            "base": str(base.resolve()),
            "facts": facts,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 2),
            "machine": machine.facts(),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (beside / "model" / RECORD).write_text(text, encoding="utf-8")
    return facts


def sandbox_base() -> Path:
    """The folder of the sandbox's model."""
    from factory import sandbox

    return sandbox.model_folder()


def model_folder(model: Path) -> Path:
    """The folder of a model that a person named.

    Args:
        model: a stock model folder, or `sandbox/base`.

    Raises:
        FactoryError: there is no such folder, or it is a file.
    """
    if model == Path("sandbox/base") and not model.is_dir():
        return sandbox_base()
    if not model.is_dir():
        what = "this is a file, not a model folder" if model.exists() else "there is no such folder"
        mend = "Name a folder with config.json and safetensors; `hf download ID --local-dir FOLDER` makes one"
        raise FactoryError(what, where=str(model), mend=mend)
    return model


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, whose `model` becomes `out` once the block ends well; else nothing stays.

    Raises:
        FactoryError: `out` is a file or has something in it, somebody else is writing it, or it cannot be
            written.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that is to be refused
    if out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir())):
        mend = "Name a new folder, or remove this one first"
        raise FactoryError("there is something already", where=str(out), mend=mend)
    beside = out.with_name(f".{out.name}.partial")
    absent = [parent for parent in out.parents if not parent.exists()]
    try:
        beside.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_RDONLY)
    except OSError as error:
        _remove_empty(absent)
        what = f"the folder cannot be made: {error.strerror}"
        raise FactoryError(what, where=str(out), mend="Name another folder") from error
    try:
        fcntl.flock(
            descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # what a killed run left may go, not a living one's
    except BlockingIOError:
        os.close(descriptor)
        what = "another command is writing this folder"
        raise FactoryError(what, where=str(out), mend="Wait for it, or name another folder") from None
    try:
        yield beside
        sync_tree(beside)
        (beside / "model").rename(out)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(out) from error
        raise
    except FactoryError as error:
        if str(beside) not in f"{error.where} {error.what}":
            raise
        # A person knows `out`; the hidden folder is gone when this is read.
        what = error.what.replace(str(beside / "model"), str(out)).replace(str(beside), str(out.parent))
        where = str(out) if error.where and str(beside) in error.where else error.where
        raise type(error)(what, where=where, mend=error.mend) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(descriptor)
        _remove_empty(absent)


def _remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, the deepest first, as long as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # not empty, or never made
            return


def left_behind(out: Path) -> list[Path]:
    """What killed commands (SIGKILL, a crash) left hidden beside `out`; `out`'s own is taken over."""
    out = Path(os.path.abspath(out))  # noqa: PTH100 - as above
    found = []
    for path in sorted(out.parent.glob(".*.partial")):
        if path.name == f".{out.name}.partial":
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if [inside.name for inside in path.iterdir()] == ["model"]:
                found.append(path)
        except OSError:  # somebody is writing it
            pass
        finally:
            os.close(descriptor)
    return found
