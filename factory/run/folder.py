"""A recipe's own folder, `<runs>/<recipe>/`: links with human names into the store, logs, run.json.

Between store.py (where artifacts have keys for names) and run.py, which writes here as steps finish;
`factory status` and `factory show` read run.json back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from factory.errors import FactoryError
from factory.nearest import suggest
from factory.plan.plan import Planned, Step
from factory.run.store import Lock, Store, point, writable_folder, write_atomically
from factory.stages import Frozen

RUN = "run.json"
_REPORT = (
    "report.md", "examples.md", "report.json", "importance.png", "learning_curves.png", "recovery.png",
    "recovery_drift.png", "similarity.png", "draft.png", "lighteval",
)  # fmt: skip
LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    # stage: (link in the run's folder, path in the artifact); {} is the last part of the step's name
    "importance": (("importance.json", "importance.json"),),
    "prune": (("models/pruned", "model"),),
    "curate": (("curated/{}", "."),),
    "regenerate": (("data/{}", "."),),
    "train": (("models/{}", "model"),),
    "merge": (("models/{}", "model"),),
    "evaluate": (("scores/{}", "."),),
    "drift": (("drift/{}", "."),),
    "respond": (("responses/{}", "."),),
    "draft": (("drafts/{}", "."),),
    "report": tuple((name, name) for name in _REPORT),
    "sweep": tuple(
        (name, name) for name in ("report.md", "report.json", "recovery.png", "recovery_drift.png")
    ),
}


class StepLine(Frozen):
    """A step as run.json tells it; `seconds` is what making it took, whenever and for whomever that was."""

    name: str
    stage: str
    key: str
    done: bool
    seconds: float | None


class RunPage(Frozen):
    """run.json: the recipe as resolved, its steps, and when it ran. `finished` is None until it did.

    A sweep's names its `points`: each has a page of its own in a folder of that name.
    """

    name: str
    factory: str
    recipe: dict[str, Any]
    steps: tuple[StepLine, ...]
    jobs: int
    machine: dict[str, Any]
    started: str
    finished: str | None
    seconds: float
    points: tuple[str, ...] = ()


class RunFolder:
    """The folder of one recipe under `runs_dir`. Nothing is written before `prepare`.

    Of a sweep it holds the sweep's report, and for each point a folder like that of a run of its own.
    """

    def __init__(self, runs_dir: Path, name: str, store: Store, points: Sequence[Planned] = ()) -> None:
        self.path = runs_dir / name
        self._points = [(point, RunFolder(self.path, point.name, store)) for point in points]
        self.lock = Lock(self.path / ".lock")
        self.store = store
        if self.path.absolute() == store.root:
            mend = "That folder holds the artifacts: choose another name"
            raise FactoryError(f'a recipe cannot be named "{name}"', mend=mend)

    def prepare(self) -> None:
        """Make the folder and lock it against a second run.

        Raises:
            FactoryError: it cannot be written, or somebody holds the lock.
        """
        writable_folder(self.path)
        if not self.lock.take():
            mend = "Wait for it, or give one of the two another --runs-dir"
            who = self.lock.holder()
            raise FactoryError(f"{who} is running this recipe already", where=str(self.path), mend=mend)

    def log(self, step: str) -> Path:
        """Where the child process of a step writes."""
        return self.path / "logs" / f"{step}.log"

    def link(self, step: Step) -> None:
        """Give a step's artifact its human names, if it is there; in a sweep, in every point that has it."""
        if self.store.has(step.stage, step.key):
            for link, target in self._links(step).items():
                if target.exists():  # a run that trains nothing has no learning curves
                    point(link, target)
            for its, folder in self._points:
                for own in its.plan.steps:
                    if (own.stage, own.key) == (step.stage, step.key):
                        folder.link(own)

    def clear(self, steps: Iterable[Step]) -> None:
        """Take away links left by an earlier form of the recipe: they would pass for this one's results.

        So would the page of a point that is no longer one.
        """
        wanted = {link: target for step in steps for link, target in self._links(step).items()}
        store = self.store.root.resolve()
        patterns = {str(Path(link).parent / "*") for links in LINKS.values() for link, _ in links}
        for link in (found for pattern in patterns for found in self.path.glob(pattern)):
            if link.is_symlink() and link.resolve().is_relative_to(store):
                target = wanted.get(link)
                if target is None or target.resolve() != link.resolve():
                    link.unlink()
        for its, folder in self._points:
            folder.clear(its.plan.steps)
        now = {folder.path for _, folder in self._points}
        for page in self.path.glob(f"*/{RUN}"):
            if page.parent not in now:
                RunFolder(self.path, page.parent.name, self.store).clear(())
                page.unlink()

    def write(self, page: RunPage) -> None:
        """Replace run.json in one step; in a sweep, those of the points too."""
        write_atomically(self.path / RUN, page.model_dump_json(indent=2) + "\n")
        lines = {(line.stage, line.key): line for line in page.steps}
        for its, folder in self._points:
            steps = (lines[s.stage, s.key].model_copy(update={"name": s.name}) for s in its.plan.steps)
            change = {
                "name": f"{page.name}/{its.name}",
                "recipe": its.plan.recipe.model_dump(mode="json"),
                "steps": tuple(steps),
                "points": (),
            }
            folder.path.mkdir(exist_ok=True)
            folder.write(page.model_copy(update=change))

    def read(self) -> RunPage | None:
        """run.json, or None where there is none, or a point has none.

        Raises:
            FactoryError: it is there, but cannot be read.
        """
        path = self.path / RUN
        if not all((folder.path / RUN).is_file() for _, folder in self._points):
            return None
        try:
            return RunPage.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is damaged, or of another version"
            mend = "Run the recipe again to write it anew: finished steps are kept"
            raise FactoryError(f"cannot read {RUN}: {said}", where=str(path), mend=mend) from None

    def _links(self, step: Step) -> dict[Path, Path]:
        if self._points and step.stage != "sweep":
            return {}  # they stand in the points' folders
        place = self.store.folder(step.stage, step.key)
        name = step.name.rpartition("/")[2]
        return {self.path / link.format(name): place / path for link, path in LINKS.get(step.stage, ())}


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """Every run under `runs_dir`, by name; behind a sweep, its points."""
    store = Store(runs_dir / "store")
    pages = [*runs_dir.glob(f"*/{RUN}"), *runs_dir.glob(f"*/*/{RUN}")]
    return [RunFolder(path.parents[1], path.parent.name, store) for path in sorted(pages, key=_in_order)]


def _in_order(page: Path) -> list[Any]:
    """Sorts `drop=2` before `drop=10`."""
    words = re.split(r"([0-9]+)", str(page.parent))
    return [int(word) if i % 2 else word for i, word in enumerate(words)]


def open_run(run: str, runs_dir: Path) -> tuple[RunFolder, RunPage, Store]:
    """The run that a person means by a recipe's name, by a sweep's and its point's, or by the run's folder.

    Raises:
        FactoryError: there is none.
    """
    folder = Path(run) if (Path(run) / RUN).is_file() else runs_dir / run
    above = folder.parent
    # The folder of a point stands in the folder of its sweep.
    store = Store((above.parent if (above / RUN).is_file() else above) / "store")
    found = RunFolder(folder.parent, folder.name, store)
    page = found.read()
    if page is None:
        names = [str(there.path.relative_to(runs_dir)) for there in find_runs(runs_dir)]
        mend = suggest(run, names) if names else "Start one with factory run RECIPE"
        raise FactoryError(f'there is no run "{run}"', where=str(runs_dir), mend=mend)
    return found, page, store


def open_finished(run: str, runs_dir: Path) -> tuple[RunFolder, RunPage, Store]:
    """As `open_run`, of a run whose every step is there: for its cards and its publication.

    Raises:
        FactoryError: there is none, it is a sweep, or it is not at its end.
    """
    folder, page, store = open_run(run, runs_dir)
    where = str(folder.path)
    if page.points:
        mend = f"Name one of its points: {', '.join(f'{page.name}/{point}' for point in page.points)}"
        raise FactoryError(f'the run "{page.name}" is a sweep, which is several runs', where=where, mend=mend)
    missing = [step.name for step in page.steps if not store.has(step.stage, step.key)]
    if missing or page.finished is None:
        of = f": {missing[0]} is missing" if missing else ""
        mend = "Run its recipe to the end"
        raise FactoryError(f'the run "{page.name}" is not finished{of}', where=where, mend=mend)
    return folder, page, store
