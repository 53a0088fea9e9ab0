"""What a person means by a model that `factory compare` is told: its scored documents, wherever they are.

Under commands/leaderboard.py; factory/compare.py does the rest. A name is `RUN/variant` (also `RUN/base` and
`RUN/pruned`), a folder that `factory evaluate --out` or `factory pull` made, or the id of a published model;
`/base` or `/pruned` behind one of the last two is the model it came from. A base has one name, by which it is
found and told: its own, as on the leaderboard, for it is the same model in every run.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from factory.compare import Side
from factory.errors import FactoryError
from factory.hub import documents
from factory.hub.card_run import BASE, Origin
from factory.hub.session import Patience, connect, patiently, refusal
from factory.nearest import suggest
from factory.run.folder import RunFolder, StepLine, find_runs, open_run
from factory.wording import MINIATURE

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_BESIDE = (BASE, "pruned")  # columns of a published file besides the model's own


def side(name: str, runs_dir: Path) -> Side:
    """The model of that name.

    Raises:
        FactoryError: nothing has that name, it has no scored documents, or the Hub cannot be asked.
    """
    folder, below = Path(name), Path(name).name
    if folder.is_dir() and (folder / "samples").is_dir():
        return _evaluated(name, folder)
    if folder.is_dir() and (folder / "report.json").is_file() and not (folder / "run.json").is_file():
        return _published(name, folder, "model")
    if below in _BESIDE and (folder.parent / documents.FILE).is_file():
        return _published(name, folder.parent, below)
    run, _, variant = name.rpartition("/")
    if run and any((place / "run.json").is_file() for place in (runs_dir / run, Path(run))):
        return _of_run(name, run, variant, runs_dir)
    if known := _as_base(name, runs_dir):
        return known
    if _ID.fullmatch(name) or (below in _BESIDE and _ID.fullmatch(run)):
        return _of_hub(name, runs_dir)
    raise FactoryError(f"there is no model '{name}'", mend=_mend(name, runs_dir))


def _mend(name: str, runs_dir: Path) -> str:
    known = suggest(name, names(runs_dir))
    return f"{known}; or name a published id or a folder of `factory evaluate --out`"


def names(runs_dir: Path) -> list[str]:
    """Every model of every finished run, as `RUN/variant`."""
    return [name for name, _, _ in _models(runs_dir)]


def _models(runs_dir: Path) -> Iterator[tuple[str, RunFolder, StepLine]]:
    """Every model of every run: its name, the run, and the step that evaluates it."""
    for run in find_runs(runs_dir):
        try:
            page = run.read()
        except FactoryError:  # the others can still be told
            continue
        if page is not None and not page.points:  # a sweep's models are its points'
            for step in page.steps:
                if step.stage == "evaluate":
                    variant = step.name.removeprefix("evaluate/")
                    yield f"{run.path.relative_to(runs_dir)}/{variant}", run, step


def _as_base(name: str, runs_dir: Path) -> Side | None:
    """The base of that name of the runs here; None where none of them has it.

    Raises:
        FactoryError: runs evaluated it differently.
    """
    found: dict[str, tuple[str, Path]] = {}
    for known, run, step in _models(runs_dir):
        if step.name == f"evaluate/{BASE}" and run.store.has(step.stage, step.key):
            inputs = run.store.record(step.stage, step.key)["inputs"]
            if Origin.of(inputs["model"]).name == name:
                found.setdefault(step.key, (known, run.store.folder(step.stage, step.key)))
    if len(found) > 1:
        mend = f"Name it by a run: {', '.join(known for known, _ in found.values())}"
        raise FactoryError(f"runs here evaluated '{name}' in {len(found)} ways", mend=mend)
    return _evaluated(name, next(iter(found.values()))[1]) if found else None


def _of_run(name: str, run: str, variant: str, runs_dir: Path) -> Side:
    folder, page, store = open_run(run, runs_dir)
    known = {step.name.removeprefix("evaluate/"): step for step in page.steps if step.stage == "evaluate"}
    if variant not in known:
        mend = suggest(variant, known) if known else "Name one of its points, as SWEEP/drop=2/VARIANT"
        raise FactoryError(
            f'the run "{page.name}" has no model "{variant}"', where=str(folder.path), mend=mend
        )
    step = known[variant]
    if not store.has(step.stage, step.key):
        what = f'"{variant}" is not evaluated yet'
        raise FactoryError(what, where=str(folder.path), mend="Run its recipe to the end")
    if variant == BASE:
        name = Origin.of(store.record(step.stage, step.key)["inputs"]["model"]).name
    made = _evaluated(name, store.folder(step.stage, step.key))
    return replace(made, notes=(MINIATURE, *made.notes)) if page.recipe.get("miniature") else made


def _evaluated(name: str, folder: Path) -> Side:
    scores = _json(folder / "scores.json")
    samples = documents.read_samples(folder)
    suite, tasks = scores.get("suite"), scores.get("tasks")
    if not isinstance(suite, str) or not isinstance(tasks, dict) or not samples:
        what = "this folder holds no finished evaluation"
        raise FactoryError(what, where=str(folder), mend="Run `factory evaluate MODEL --out DIR` to its end")
    return Side(name, suite, documents.in_order(samples, tasks), _sentences(scores.get("why_not")))


def _published(name: str, folder: Path, column: str) -> Side:
    path, report = folder / documents.FILE, _json(folder / "report.json")
    found = documents.unpacked(path, column) if path.is_file() else None
    if found is None or not isinstance(report.get("suite"), str):
        who = "it" if column == "model" else f"its {column} model"
        what = f"{who} was published without scored documents that can be compared"
        raise FactoryError(what, where=name, mend="Publish it again with this version of the factory")
    if column == BASE and isinstance(report.get("base"), str):
        name = Origin.of(report["base"]).name
    notes = ((MINIATURE,) if report.get("miniature") else ()) + _sentences(report.get("deviations"))
    return Side(name, report["suite"], documents.in_order(found, report.get("tasks", {})), notes)


def _sentences(found: Any) -> tuple[str, ...]:
    """Notes of an evaluation, of a file that a stranger may have written."""
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def _of_hub(name: str, runs_dir: Path) -> Side:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    repo, column = name, "model"
    if name.count("/") == 2:
        repo, _, column = name.rpartition("/")
    patience = Patience(tries=3)
    api = connect(patience)
    with tempfile.TemporaryDirectory(prefix="factory-compare-") as folder:
        try:
            commit = patiently(lambda: api.model_info(repo), patience).sha
            for file in ("report.json", documents.FILE):
                fetch = partial(api.hf_hub_download, repo, file, revision=commit, local_dir=folder)
                patiently(fetch, patience)
        except RepositoryNotFoundError:
            what = f"there is no model '{name}', neither of a run nor on the Hub"
            raise FactoryError(what, mend=_mend(name, runs_dir)) from None
        except LocalEntryNotFoundError as error:  # the Hub did not answer
            raise _unasked(name, error, runs_dir) from error
        except EntryNotFoundError:
            what = "it was published without scored documents, or not by the factory"
            mend = "Evaluate it here: factory evaluate ID --suite SUITE --out DIR"
            raise FactoryError(what, where=name, mend=mend) from None
        except Exception as error:
            raise _unasked(name, error, runs_dir) from error
        return _published(name, Path(folder), column)


def _unasked(name: str, error: Exception, runs_dir: Path) -> FactoryError:
    """The name is of no run here, and the Hub did not tell whether it is one there."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    offline = isinstance(error, OfflineModeIsEnabled)
    hub = "HF_HUB_OFFLINE keeps the Hub from being asked" if offline else refusal(error, name).what
    return FactoryError(f"no run here has a model '{name}', and {hub}", mend=_mend(name, runs_dir))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise FactoryError(f"cannot be read: {said}", where=str(path), mend="Make it again") from None
    return content if isinstance(content, dict) else {}
