"""Makes one step of a plan: run.py, which says when -> here -> child.py, which works, and store.py."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from factory import __version__, machine
from factory.errors import FactoryError, StageFailed
from factory.plan.places import placed
from factory.plan.plan import Plan, Ref, Source, Step
from factory.run import child
from factory.run.events import Event, Events
from factory.run.folder import RunFolder
from factory.run.store import Lock, Store, disk_full
from factory.sources import materialise
from factory.wording import duration

RESUME = "Its end says why; once that is mended, run the same command again: finished steps are kept"
SMALL_MODEL = 20_000_000  # parameters; below it, on a busy machine, one thread is 8 to 25 times faster

Load = Callable[[str], ModuleType]


@dataclass
class Maker:
    """Makes steps, several at a time, each in a thread that waits for its child process.

    Args:
        plan: whose steps they are.
        store: where the artifacts go.
        folder: the recipe's own, for the logs.
        jobs: how many steps may be made at a time: they share the cores.
        tell: told what happens.
        load: from a stage's name to its module.
        stop: when set, all end.
    """

    plan: Plan
    store: Store
    folder: RunFolder
    jobs: int
    tell: Events
    load: Load
    stop: threading.Event

    def __post_init__(self) -> None:
        self._steps = {step.name: step for step in self.plan.steps}
        self._sources = threading.Lock()

    def alone(self, step: Step) -> bool:
        """Whether a step measures the machine, so that nothing may run beside it."""
        return getattr(self.load(step.stage), "ALONE", False)

    def make(self, step: Step) -> bool:
        """Make one artifact, or wait for another run that is making it. True when it was made here."""
        began = time.monotonic()

        def waits(who: str) -> None:
            self.tell(Event("waiting", step.name, note=f"{who} is making it"))

        try:
            with self.store.claim(step.stage, step.key, waits, self.stop) as lock:
                mine = not self.store.has(step.stage, step.key)
                if mine:
                    self._work(step, lock)
        except (OSError, child.ChildFailed) as error:
            raise self._explain(step, error) from error
        except FactoryError as error:  # a stage names keys; the recipe knows their lines
            raise placed(self.plan, step, error) from error
        seconds = time.monotonic() - began
        note = self._said(step, seconds) if mine else "made by another run"
        self.tell(Event("done", step.name, note=note, seconds=seconds))
        return mine

    def _work(self, step: Step, lock: Lock) -> None:
        self.tell(Event("started", step.name))
        out = self.store.begin(step.stage, step.key)
        resumed = any(out.iterdir())
        module = self.load(step.stage)
        inputs = {role: self._place(place) for role, place in step.inputs.items()}
        processes = getattr(step.settings, "processes", 1)
        jobs = 1 if self.alone(step) else self.jobs
        threads = max(1, threads_for(inputs.values(), jobs) // processes)
        started, began = now(), time.monotonic()

        def progress(done: int, total: int, unit: str, note: str = "") -> None:
            self.tell(Event("progress", step.name, done, total, unit, note, time.monotonic() - began))

        result = child.run_stage(
            module.__name__,
            step.settings,
            inputs,
            out,
            progress,
            log=self.folder.log(step.name),
            threads=threads,
            processes=processes,
            hold=(lock.descriptor,),
            stop=self.stop,
        )
        if finish := getattr(module, "finish", None):  # what only the planner can tell: the artifact's key
            finish(out, step.key)
        record = {
            "stage": step.stage,
            "name": step.local,  # a sweep's artifact serves other recipes too
            "key": step.key,
            "version": module.VERSION,
            "settings": step.settings.model_dump(mode="json"),
            "inputs": {
                role: self._described(place)
                for role, place in step.inputs.items()
                if role not in step.saving  # another run may find the artifact without them
            },
            "libraries": {name: version(name) for name in module.LIBRARIES},
            "facts": result.facts,
            "started": started,
            "seconds": round(time.monotonic() - began, 2),
            "resumed": resumed,
            "threads": threads,
            "peak_memory": result.peak_memory,
            **({"peak_memory_each": list(result.peaks)} if processes > 1 else {}),
            "machine": result.machine,
            "factory": __version__,
        }
        self.store.commit(step.stage, step.key, record)

    def _said(self, step: Step, seconds: float) -> str:
        """What a stage has to tell a person beside its artifact, such as rows that it left out."""
        said = self.store.record(step.stage, step.key)["facts"].get("said", ())
        return "; ".join([f"done in {duration(seconds)}", *said]) if said else ""

    def _place(self, place: Ref | Source) -> Path:
        if isinstance(place, Ref):
            step = self._steps[place.step]
            return self.store.folder(step.stage, step.key) / place.path
        with self._sources:  # two steps may want the same download
            return materialise(place, self.store.root / "sources")

    def _described(self, place: Ref | Source) -> str:
        if isinstance(place, Ref):
            return self._steps[place.step].key
        return f"{place.kind}:{place.reference}@{place.fingerprint}"

    def _explain(self, step: Step, error: OSError | child.ChildFailed) -> FactoryError:
        # Some libraries only say that writing failed: a disk with nothing left tells the rest.
        stuffed = shutil.disk_usage(self.store.root).free < 1 << 16
        if isinstance(error, child.DiskFull) or child.is_disk_full(error) or stuffed:
            return disk_full(self.store.partial(step.stage, step.key))
        log = str(self.folder.log(step.name))
        return StageFailed(f"{step.name} failed: {error}", where=log, mend=RESUME)


def threads_for(folders: Iterable[Path], jobs: int) -> int:
    """How many threads the numeric libraries of a process do best with.

    Args:
        folders: what it reads; the largest model among them counts.
        jobs: how many such processes share the machine.
    """
    parameters = max((count_parameters(folder) for folder in folders), default=0)
    return 1 if parameters < SMALL_MODEL else max(1, machine.cores() // jobs)


def count_parameters(folder: Path) -> int:
    """Parameters of a model folder, from the headers of its safetensors files; 0 for other folders."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def now() -> str:
    """This moment in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
