"""A model's scores without a recipe: `factory evaluate`. Between commands/model.py and the evaluate stage.

Beside stage.py, which holds the other stages that work on a folder. The stage runs in a process of its own,
as in a run, and its artifact has the same key as in a run, so that no score is ever another model's: an
output folder goes on only where weights, tokenizer, rows, shots and all else are the same.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory import __version__
from factory.errors import FactoryError, StageFailed
from factory.plan.benchmarks import find_benchmarks, shots_of
from factory.plan.keys import libraries, stage_key
from factory.recipe.parts import Evaluate
from factory.run import child
from factory.run.make import threads_for
from factory.run.store import FILES, RECORD, Lock, disk_full, write_atomically
from factory.sources import Source, materialise, resolve_model
from factory.stages import Progress
from factory.stages import evaluate as stage
from factory.tasks import lighteval_results
from factory.tasks.suites import SUITES

BEGUN = "begun.json"  # in an output folder that is not finished: what is being scored
LOG = "log.txt"
SAMPLES = "samples"  # there once the first documents are scored
_LOCK = ".lock"
_PATIENCE = 5.0  # seconds


@dataclass(frozen=True)
class Asked:
    """What is to be scored.

    Attributes:
        model: a model folder, `sandbox/base` or a Hub id.
        written: suite, tasks, limit, shots and batch size.
        revision: a branch, tag or commit of a Hub id.
        data: a folder with the rows, `<org>__<name>/<config>/<split>.parquet`; None for the suite's own.
    """

    model: str
    written: Evaluate
    revision: str | None = None
    data: Path | None = None


def evaluate(asked: Asked, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Scores a model.

    Args:
        asked: the model and what to score it on.
        out: folder that is to hold the artifact: record.json, scores.json, samples and lighteval's results;
            new or empty, or one that this function was interrupted in, or whose files were lost or changed:
            what is missing is made again. None keeps nothing.
        progress: told the documents done.

    Returns:
        What the stage found (see `factory.stages.evaluate.run`), with `model` and `key`.

    Raises:
        FactoryError: a model, suite, task or dataset that cannot be used, or an `out` that holds something
            else.
        StageFailed: scoring broke; what was scored is kept in `out`.
    """
    shots = shots_of(asked.written, _option)
    source = resolve_model(asked.model, asked.revision, "MODEL", Path.cwd(), prunable=False)
    benchmarks = find_benchmarks(_with_data(asked, shots), shots, Path.cwd(), _option)
    written = asked.written
    settings = stage.Settings(
        **stage.chosen(written.suite, shots, written.limit, batch_size=written.batch_size)
    )
    inputs = {"model": source, **{f"data.{name}": found for name, found in benchmarks.items()}}
    plan = {
        "stage": "evaluate",
        "key": stage_key("evaluate", settings, {role: one.fingerprint for role, one in inputs.items()}),
        "version": stage.VERSION,
        "settings": settings.model_dump(mode="json"),
        "inputs": {role: f"{one.kind}:{one.reference}@{one.fingerprint}" for role, one in inputs.items()},
        "libraries": libraries("evaluate"),
    }
    if out is None:
        with tempfile.TemporaryDirectory() as place:
            return _told(asked, _score(plan, settings, inputs, Path(place), (), source, progress))
    with _folder(out, plan) as (record, lock):
        if record is None:
            record = _score(plan, settings, inputs, out, (lock.descriptor,), source, progress)
    return _told(asked, record)


def _option(*path: str | int) -> str:
    """The option that says what a recipe has at a path."""
    return {"datasets": "--data"}.get(str(path[1]), f"--{path[1]}")


def _with_data(asked: Asked, shots: Mapping[str, int]) -> Evaluate:
    """What was asked, with the folders of `--data` as the datasets."""
    if asked.data is None:
        return asked.written
    if not asked.data.is_dir():
        raise FactoryError("there is no such folder", where=f"--data {asked.data}")
    folders = {}
    for name in shots:
        dataset = SUITES[asked.written.suite][name].dataset
        folder = asked.data.absolute() / dataset.replace("/", "__")
        if not folder.is_dir():
            what = f"task '{name}': there is no folder '{folder.name}' in it"
            mend = f"Put the rows of {dataset} there, or leave the task out with --tasks"
            raise FactoryError(what, where=f"--data {asked.data}", mend=mend)
        folders[name] = str(folder)
    return asked.written.model_copy(update={"datasets": folders})


def _told(asked: Asked, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": asked.model, "key": record["key"], **record["facts"]}


@contextmanager
def _folder(out: Path, plan: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any] | None, Lock]]:
    """The output folder under lock, and its record if it is finished.

    Raises:
        FactoryError: it cannot be written, is in use, or holds something else than this evaluation.
    """
    lock = Lock(out / _LOCK)
    try:
        _known(out)
        out.mkdir(parents=True, exist_ok=True)
        # The child of a command that was killed takes a moment to go.
        until = time.monotonic() + _PATIENCE
        while not (taken := lock.take()) and time.monotonic() < until:
            time.sleep(0.1)
    except OSError as error:
        what = f"the folder cannot be written: {error.strerror}"
        raise FactoryError(what, where=str(out), mend="Name another folder") from error
    if not taken:
        mend = "Wait for it, or name another folder"
        raise FactoryError(f"{lock.holder()} is writing this folder", where=str(out), mend=mend)
    try:
        known = _known(out)
        # Nothing is lost where nothing was scored, as of a model that was refused and has been mended since.
        if known is None or (known == BEGUN and not (out / SAMPLES).exists()):
            write_atomically(out / BEGUN, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
        else:
            _same(out / known, plan)
        record = json.loads((out / RECORD).read_text(encoding="utf-8")) if known == RECORD else None
        if record is not None and not _whole(out, record):
            write_atomically(out / BEGUN, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
            (out / RECORD).unlink()
            record = None
        yield record, lock
    finally:
        lock.release()


def _whole(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether a finished folder holds what its record says; samples that it does not are removed.

    What is gone is then made again, and of what is left nothing is scored anew.
    """
    sizes: dict[str, int] = {name: size for name, size in record.get(FILES, {}).items() if name != LOG}
    changed = [name for name, size in sizes.items() if not _has_size(out / name, size)]
    for name in changed:
        if name.startswith(f"{SAMPLES}/"):
            (out / name).unlink(missing_ok=True)
    try:
        told = json.loads((out / "scores.json").read_text(encoding="utf-8"))
        return not changed and all(record["facts"].get(name) == value for name, value in told.items())
    except (OSError, ValueError, AttributeError):
        return False


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _known(out: Path) -> str | None:
    """The file that tells what an output folder holds; None for a new or empty one.

    Raises:
        FactoryError: it holds something, and nothing tells what.
    """
    there = {path.name for path in out.iterdir()} - {_LOCK} if out.exists() else set()
    known = next((name for name in (RECORD, BEGUN) if name in there), None)
    if there and known is None:
        mend = "Name a new folder, or remove this one first"
        raise FactoryError("there is something already", where=str(out), mend=mend)
    return known


def _same(file: Path, plan: Mapping[str, Any]) -> None:
    """Refuses a folder whose scores are of something else, and says of what."""
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        if there["key"] == plan["key"]:
            return
        differ = [
            name
            for part in ("settings", "inputs", "libraries")
            for name in {**there[part], **plan[part]}
            if there[part].get(name) != plan[part].get(name)
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        differ = []
    what = f"this folder holds another evaluation (other {', '.join(differ) or 'version'})"
    raise FactoryError(what, where=str(file.parent), mend="Name a new folder, or remove this one first")


def _score(
    plan: Mapping[str, Any],
    settings: stage.Settings,
    inputs: Mapping[str, Source],
    out: Path,
    hold: tuple[int, ...],
    model: Source,
    progress: Progress,
) -> dict[str, Any]:
    """Runs the stage in `out` and writes its record."""
    resumed = (out / SAMPLES).exists()
    started, began = datetime.now(UTC), time.monotonic()
    with tempfile.TemporaryDirectory() as cache:  # sandbox datasets are written there
        folders = {role: materialise(one, Path(cache)) for role, one in inputs.items()}
        threads = threads_for([folders["model"]], jobs=1)
        try:
            result = child.run_stage(
                stage.__name__, settings, folders, out, progress, log=out / LOG, threads=threads, hold=hold
            )
        except (child.ChildFailed, OSError) as error:
            if child.is_disk_full(error) or isinstance(error, child.DiskFull):
                raise disk_full(out) from error
            what = f"scoring failed: {error}"
            if not hold:
                raise StageFailed(
                    what, mend="Name a folder with --out to keep what is scored, and a log"
                ) from error
            mend = "Its end says why; run the same command again to go on: what was scored is kept"
            raise StageFailed(what, where=str(out / LOG), mend=mend) from error
    stage.finish(out, plan["key"])
    seconds = round(time.monotonic() - began, 2)
    name = model.reference if model.kind != "folder" else Path(model.reference).absolute().name
    shutil.rmtree(out / "results", ignore_errors=True)  # of a process that was killed right here
    text = (out / "lighteval.json").read_text(encoding="utf-8")
    lighteval_results.named(text, name, plan, started, seconds, out)
    (out / "lighteval.json").unlink()
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    record = {
        **plan,
        "facts": result.facts,
        "started": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "resumed": resumed,
        "threads": threads,
        "peak_memory": result.peak_memory,
        "machine": result.machine,
        "factory": __version__,
        FILES: {
            path.relative_to(out).as_posix(): path.stat().st_size
            for path in files
            if path.name not in (_LOCK, BEGUN, RECORD)
        },
    }
    write_atomically(out / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    (out / BEGUN).unlink(missing_ok=True)
    return record
