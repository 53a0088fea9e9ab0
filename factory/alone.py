"""Stages on a folder, without a recipe and without a store. Between model_commands.py and the stages."""

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

from factory import machine, metrics
from factory.child import is_disk_full
from factory.dataset_files import Wanted
from factory.errors import FactoryError
from factory.models import blocks
from factory.models.checkpoint import read_config, stored_tensors
from factory.sources import at_hand, resolve_dataset
from factory.stages import Progress
from factory.store import RECORD, disk_full, sync_tree, write_atomically


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


def importance(
    model: Path,
    data: str | None,
    rows: int,
    metric: metrics.Name,
    drop: int | None,
    exclude: tuple[int, int],
    out: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """Scores the blocks of a model, without a recipe.

    Args:
        model: a stock model folder, or `sandbox/base`.
        data: a dataset folder or `sandbox/<name>`; None stands for sandbox/corpus, for sandbox/base only.
        rows: texts read at most.
        metric: one of `factory.metrics.METRICS`.
        drop: how many blocks would go; by default 3 of 16, the paper's 6 of 32, or all that may.
        exclude: blocks at the beginning and at the end that stay.
        out: a file that is to hold importance.json.
        progress: told the texts done.

    Returns:
        importance.json's content, the blocks that would go, a sentence that says so, the ten best, and
        tokens a second.

    Raises:
        FactoryError: no such model, dataset or place for `out`, or what the stage refuses.
    """
    from factory.data import TextSpec
    from factory.metrics import choice
    from factory.models.architectures import architecture_of, block_count
    from factory.stages import importance as stage

    base = model_folder(model)
    if data is None and base != _sandbox_base():
        mend = "Name a dataset folder with --data, or sandbox/corpus"
        raise FactoryError("importance is measured over texts, and none are named", mend=mend)
    if out is not None and (out.exists() or not out.absolute().parent.is_dir()):
        what = "there is something already" if out.exists() else "there is no folder to write this file in"
        raise FactoryError(what, where=str(out), mend="Name a new file in a folder that exists")
    config = read_config(base)
    row = architecture_of(config, base, [tensor.name for tensor in stored_tensors(base)])
    blocks = block_count(config, row, base)
    room = min(blocks - sum(exclude), blocks - 1)
    drop = max(1, min(blocks * 3 // 16, room)) if drop is None else drop
    if not 1 <= drop <= room:
        kept = f", of which {exclude[0]} at the beginning and {exclude[1]} at the end stay," * any(exclude)
        fewer = "Exclude fewer" if any(exclude) else None
        raise FactoryError(
            f"{drop} of {blocks} blocks{kept} cannot be removed",
            where=str(model),
            mend=f"Say --drop 1 to {room}" if room > 0 else fewer,
        )
    spec = TextSpec(name="calibration", rows=rows)
    rounds = drop if metrics.METRICS[metric].shape == "order" else None
    chosen = stage.Settings(data=spec, max_tokens=1024, metric=metric, rounds=rounds, exclude=exclude)
    source = resolve_dataset(
        data or "sandbox/corpus", None, "--data", Path.cwd(), Wanted(None, (spec.split,))
    )
    with at_hand(source) as folder:
        if folder is None:
            mend = "Download it first: `hf download ID --repo-type dataset --local-dir FOLDER`"
            raise FactoryError(f"'{data}' is no folder", where="--data", mend=mend)
        table, seconds = stage.score(chosen, {"base": base, "calibration": folder}, progress)
    if out is not None:
        write_atomically(out, json.dumps(table, indent=1) + "\n")
    best = choice.choose(table, drop, exclude)
    return {
        **table,
        "drop": list(best.blocks),
        "score": best.score,
        "sentence": choice.sentence(table, best, exclude),
        "ranking": choice.ranking(table, drop, exclude, best.blocks),
        "tokens_per_second": round(table["tokens"] / seconds, 1),
    }


def _sandbox_base() -> Path:
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
        return _sandbox_base()
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
        if error.where is None or beside not in (where := Path(error.where), *where.parents):
            raise
        # A person knows `out`; the hidden folder is gone when this is read.
        raise type(error)(error.what, where=str(out), mend=error.mend) from error
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
