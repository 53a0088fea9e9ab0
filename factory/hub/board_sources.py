"""Finished runs with what is known of their models, from a folder or a Hub. First room of leaderboard.py.

A source is a folder of runs, one run, a folder of pulled models or one of them, or a user or an organisation
of the Hub. What cannot be read is told and left out; the rest is read. All of it was written by others.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub import card_run, documents
from factory.hub.card_run import BASE, Finished
from factory.hub.manifest import MANIFEST, read_manifest
from factory.hub.session import Patience, connect, look_up, patiently, refusal
from factory.nearest import nearest
from factory.paired import TaskSamples
from factory.run.folder import RUN, find_runs

HUB = "hf://"  # before a user or an organisation, for whom a folder has a like name
_LIKE = 0.7  # `rusn` is `runs`; from difflib's ratio
_NAMESPACE = re.compile(r"[A-Za-z0-9](?!.*--)[A-Za-z0-9._-]{0,95}")
_WANTED = (MANIFEST, "report.json", "config.json", documents.FILE, "records/*")
_MOST = 64 << 20  # bytes of all that is fetched of one repository: v1's documents take about one megabyte

Skipped = Callable[[str, str], None]  # where, why
Samples = Mapping[str, TaskSamples]


@dataclass(frozen=True)
class Repository:
    """Where a model is published: its id, its page and the commit that was read."""

    id: str
    url: str
    commit: str


@dataclass(frozen=True)
class Found:
    """A run, or what a published model tells of its own.

    Attributes:
        where: for messages.
        name: the run's; of a sweep's point `<sweep>/<point>`.
        run: the run, with the records that are there.
        models: the names in its report that this brings.
        samples: a model's scored documents by its name; None where there are none.
        configs: folders with a config.json, by a model's name.
        repositories: of published models, by their name.
    """

    where: str
    name: str
    run: Finished
    models: tuple[str, ...]
    samples: Callable[[str], Samples | None]
    configs: Mapping[str, Path] = field(default_factory=dict)
    repositories: Mapping[str, Repository] = field(default_factory=dict)


def found(source: str, skipped: Skipped, patience: Patience) -> Iterator[Found]:
    """Everything that a source has.

    Args:
        source: a folder, or a user or an organisation of the Hub, `hf://` before it or not.
        skipped: told what was left out, and why.
        patience: with the Hub.

    Raises:
        FactoryError: it is neither, or a misspelt folder; or the Hub cannot be asked.
    """
    folder, name = Path(source), source.removeprefix(HUB)
    if folder.is_dir():
        return _of_folder(folder, skipped)
    could_be = _NAMESPACE.fullmatch(name) is not None
    if name == source and (like := _folder_like(folder)):
        mend = f"Write '{like}', if that is meant"
        mend += f", or '{HUB}{name}' for a user or an organisation of the Hub" if could_be else ""
        raise FactoryError(f"there is no folder '{source}'", where="--from", mend=mend)
    if not could_be:
        mend = "Name a folder of runs, or a user or an organisation of the Hub"
        raise FactoryError(f"there is no folder '{source}'", where="--from", mend=mend)
    return _of_namespace(name, skipped, patience)


def _folder_like(missing: Path) -> Path | None:
    """The folder beside that is named much like one that is not there, if it is a source."""
    try:
        beside = [path for path in missing.parent.iterdir() if path.is_dir()]
    except (OSError, ValueError):  # its parent is not there either
        return None
    sources = [path.name for path in beside if _runs_in(path) or _pulled_in(path)]
    like = nearest(missing.name, sources, _LIKE)
    return missing.parent / like if like else None


# ---------------------------------------------------------------- folders


def _of_folder(folder: Path, skipped: Skipped) -> Iterator[Found]:
    for run in _runs_in(folder):
        yield from _tried(str(run), skipped, partial(_runs, run))
    for place in _pulled_in(folder):
        yield from _tried(str(place), skipped, lambda place=place: [_pulled(place, None)])  # type: ignore[misc]


def _runs_in(folder: Path) -> list[Path]:
    return [folder] if (folder / RUN).is_file() else [run.path for run in find_runs(folder)]


def _pulled_in(folder: Path) -> list[Path]:
    files = (folder / MANIFEST, *sorted(folder.glob(f"*/{MANIFEST}")))
    return [path.parent for path in files if path.is_file()]


def _tried(where: str, skipped: Skipped, read: Callable[[], list[Found]]) -> Iterator[Found]:
    try:
        yield from read()
    except FactoryError as error:
        skipped(error.where or where, error.what)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        said = " ".join(str(error).split())[:160]
        skipped(where, f"its records are damaged, or of another version ({type(error).__name__}: {said})")


def _runs(folder: Path) -> list[Found]:
    """The run in a folder; nothing of a sweep, whose points are runs of their own."""
    content = json.loads((folder / RUN).read_bytes())
    if content.get("points"):
        return []
    run = card_run.finished(folder)
    names = tuple(model["name"] for model in run.report["models"])
    if not names:
        raise FactoryError("its report names no model", where=str(folder))
    made = {name: run.model_folder(name) for name in run.variants}
    if (base := run.base.folder) is not None:
        made[BASE] = base

    def samples(name: str) -> Samples:
        return documents.read_samples(run.artifacts[f"evaluate/{name}"])

    return [Found(str(folder), str(content["name"]), run, names, samples, made)]


def _pulled(folder: Path, repository: Repository | None) -> Found:
    """A published model in a folder; of its run it brings itself, the base and the pruned model."""
    manifest = read_manifest((folder / MANIFEST).read_bytes(), repository.id if repository else str(folder))
    where = repository.id if repository else str(folder)
    if manifest.kind != "model":
        raise FactoryError("this is a dataset", where=where)
    report = json.loads((folder / "report.json").read_bytes())
    steps = folder / "records"
    records = {
        path.relative_to(steps).with_suffix("").as_posix(): json.loads(path.read_bytes())
        for path in sorted(steps.rglob("*.json"))
    }
    run = Finished(folder, {"name": manifest.recipe}, report, records, {})
    columns = {BASE: BASE, "pruned": "pruned", manifest.name: "model"}
    names = tuple(name for name in columns if f"evaluate/{name}" in records)
    if manifest.name not in names:
        raise FactoryError(f"there is no record of the evaluation of {manifest.name}", where=where)

    def samples(name: str) -> Samples | None:
        path = folder / documents.FILE
        return documents.unpacked(path, columns[name]) if path.is_file() else None

    places = {manifest.name: repository} if repository else {}
    return Found(where, manifest.recipe, run, names, samples, {manifest.name: folder}, places)


# ---------------------------------------------------------------- a Hub


def _of_namespace(name: str, skipped: Skipped, patience: Patience) -> Iterator[Found]:
    from huggingface_hub.utils import disable_progress_bars

    api = connect(patience)
    disable_progress_bars()
    try:
        look_up(api, patience)
        listed = patiently(lambda: list(api.list_models(author=name, full=True)), patience)
    except Exception as error:
        told = refusal(error, name, sending=False)
        what = f"there is no folder of that name, and {told.what}"
        raise FactoryError(what, where=f"--from {name}", mend=told.mend) from error
    ours = [one for one in listed if any(file.rfilename == MANIFEST for file in one.siblings or ())]
    if not ours:
        there = f"{len(listed)} models there, none" if listed else "no models there"
        mend = (
            "Look at the name, whether HF_ENDPOINT is the Hub you mean, and whether your token may see them"
        )
        what = f"there is no folder of that name, and on the Hub {there} published by the factory"
        raise FactoryError(what, where=f"--from {name}", mend=mend)
    for one in sorted(ours, key=lambda model: str(model.id)):
        yield from _fetched(api, str(one.id), str(one.sha), skipped, patience)


def _fetched(api: Any, name: str, commit: str, skipped: Skipped, patience: Patience) -> Iterator[Found]:
    """Only the records are fetched; the folder is there until the next model is asked for."""
    with tempfile.TemporaryDirectory(prefix="factory-board-") as place:
        try:
            tree = partial(api.list_repo_tree, name, revision=commit, recursive=True)
            sizes = {one.path: getattr(one, "size", 0) for one in patiently(lambda: list(tree()), patience)}
            wanted = [path for path in sizes if path in _WANTED or path.startswith("records/")]
            if sum(sizes[path] for path in wanted) > _MOST:
                skipped(name, f"its records take more than {_MOST >> 20} MB")
                return
            words: dict[str, Any] = {"revision": commit, "local_dir": place, "allow_patterns": list(_WANTED)}
            patiently(lambda: api.snapshot_download(name, **words), patience)
        except Exception as error:
            skipped(name, refusal(error, name).what)
            return
        repository = Repository(name, f"{api.endpoint}/{name}", commit)
        yield from _tried(name, skipped, lambda: [_pulled(Path(place), repository)])
