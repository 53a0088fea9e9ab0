"""A recipe's own folder, `<runs>/<recipe>/`: links with human names into the store, logs, run.json.

Between store.py (where artifacts have keys for names) and run.py, which writes here as steps finish;
`factory status` and `factory show` read run.json back.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from factory.errors import FactoryError
from factory.plan import Step
from factory.stages import Frozen
from factory.store import Lock, Store, point, writable_folder, write_atomically

RUN = "run.json"
_REPORT = ("report.md", "examples.md", "report.json", "importance.png", "recovery.png", "lighteval")
LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    # stage: (link in the run's folder, path in the artifact); {} is the last part of the step's name
    "importance": (("importance.json", "importance.json"),),
    "prune": (("models/pruned", "model"),),
    "regenerate": (("data/{}", "."),),
    "train": (("models/{}", "model"),),
    "merge": (("models/{}", "model"),),
    "evaluate": (("scores/{}", "."),),
    "report": tuple((name, name) for name in _REPORT),
}


class StepLine(Frozen):
    """A step as run.json tells it; `seconds` is what making it took, whenever and for whomever that was."""

    name: str
    stage: str
    key: str
    done: bool
    seconds: float | None


class RunPage(Frozen):
    """run.json: the recipe as resolved, its steps, and when it ran. `finished` is None until it did."""

    name: str
    factory: str
    recipe: dict[str, Any]
    steps: tuple[StepLine, ...]
    jobs: int
    machine: dict[str, Any]
    started: str
    finished: str | None
    seconds: float


class RunFolder:
    """The folder of one recipe under `runs_dir`. Nothing is written before `prepare`."""

    def __init__(self, runs_dir: Path, name: str, store: Store) -> None:
        self.path = runs_dir / name
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
        """Give a step's artifact its human names, if it is there."""
        if self.store.has(step.stage, step.key):
            for link, target in self._links(step).items():
                point(link, target)

    def clear(self, steps: Iterable[Step]) -> None:
        """Take away links left by an earlier form of the recipe: they would pass for this one's results."""
        wanted = {link: target for step in steps for link, target in self._links(step).items()}
        store = self.store.root.resolve()
        for link in [*self.path.glob("*"), *self.path.glob("*/*")]:
            if link.is_symlink() and link.resolve().is_relative_to(store):
                target = wanted.get(link)
                if target is None or target.resolve() != link.resolve():
                    link.unlink()

    def write(self, page: RunPage) -> None:
        """Replace run.json in one step."""
        write_atomically(self.path / RUN, page.model_dump_json(indent=2) + "\n")

    def read(self) -> RunPage | None:
        """run.json, or None where there is none.

        Raises:
            FactoryError: it is there, but cannot be read.
        """
        path = self.path / RUN
        try:
            return RunPage.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is damaged, or of another version"
            mend = "Run the recipe again to write it anew: finished steps are kept"
            raise FactoryError(f"cannot read {RUN}: {said}", where=str(path), mend=mend) from None

    def _links(self, step: Step) -> dict[Path, Path]:
        place = self.store.folder(step.stage, step.key)
        name = step.name.rpartition("/")[2]
        return {self.path / link.format(name): place / path for link, path in LINKS.get(step.stage, ())}


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """Every run under `runs_dir`, by name."""
    store = Store(runs_dir / "store")
    return [RunFolder(runs_dir, path.parent.name, store) for path in sorted(runs_dir.glob(f"*/{RUN}"))]


def open_run(run: str, runs_dir: Path) -> tuple[RunFolder, RunPage, Store]:
    """The run that a person means by a recipe's name or by the run's folder.

    Raises:
        FactoryError: there is none.
    """
    folder = Path(run) if (Path(run) / RUN).is_file() else runs_dir / run
    store = Store(folder.parent / "store")
    found = RunFolder(folder.parent, folder.name, store)
    page = found.read()
    if page is None:
        names = ", ".join(there.path.name for there in find_runs(runs_dir))
        mend = f"Runs here: {names}" if names else "Start one with factory run RECIPE"
        raise FactoryError(f'there is no run "{run}"', where=str(runs_dir), mend=mend)
    return found, page, store
