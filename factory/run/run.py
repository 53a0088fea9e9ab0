"""Executes a plan: cli.py -> here -> make.py, which makes one step -> child.py -> stages.

Steps whose inputs are there run side by side, each in a child process, the longest remaining chain first.
What is in the store already is not made again, so running the same command again resumes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from factory import __version__, machine, stages
from factory.errors import FactoryError
from factory.plan.places import placed
from factory.plan.plan import Plan, Step
from factory.plan.select import depths, needs, select
from factory.run import child
from factory.run.events import Event, Events
from factory.run.folder import RunFolder, RunPage, StepLine
from factory.run.make import Load, Maker, now
from factory.run.store import Store, disk_full


@dataclass(frozen=True)
class Outcome:
    """What a run did: names of the steps it made, how many it chose, where the results are."""

    folder: Path
    made: tuple[str, ...]
    steps: int
    seconds: float


def run(
    plan: Plan,
    runs_dir: Path,
    *,
    jobs: int | None = None,
    only: Sequence[str] = (),
    events: Events = lambda event: None,
    load: Load = stages.load,
) -> Outcome:
    """Make what is missing of a plan.

    Args:
        plan: from `make_plan`.
        runs_dir: holds the store and one folder a recipe.
        jobs: steps at a time; by default two, or one on a single core.
        only: patterns of step names, see `select`.
        events: told what happens, from several threads but never two at once.
        load: from a stage's name to its module.

    Raises:
        FactoryError: a person's mistake, an unwritable folder, a full disk, a second run at once.
        StageFailed: a step broke; what was finished is kept.
    """
    chosen = select(plan, only)
    store = Store(runs_dir / "store")
    _refuse_unready(plan, [step for step in chosen if not store.has(step.stage, step.key)], load)
    folder = RunFolder(runs_dir, plan.recipe.name, store, plan.points)
    folder.prepare()
    try:
        store.prepare()
        return _Run(plan, chosen, store, folder, jobs or min(2, machine.cores()), events, load).execute()
    except OSError as error:
        if child.is_disk_full(error):
            raise disk_full(store.root) from error
        where = str(error.filename or folder.path)
        mend = "See that it is a folder or file that you may write, or choose another --runs-dir"
        raise FactoryError(error.strerror or str(error), where=where, mend=mend) from error
    finally:
        folder.lock.release()


@dataclass
class _Run:
    """One execution, in the main thread; steps are made in worker threads."""

    plan: Plan
    chosen: Sequence[Step]
    store: Store
    folder: RunFolder
    jobs: int
    events: Events
    load: Load

    def __post_init__(self) -> None:
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._maker = Maker(self.plan, self.store, self.folder, self.jobs, self._tell, self.load, self._stop)
        self._started, self._clock = now(), time.monotonic()

    def execute(self) -> Outcome:
        missing = [step for step in self.chosen if not self.store.has(step.stage, step.key)]
        self._tell(Event("planned", done=len(self.chosen) - len(missing), total=len(self.chosen)))
        self.folder.clear(self.plan.steps)
        for step in self.plan.steps:
            self.folder.link(step)
        if missing:
            self._write_page(finished=None)
        made, problem = self._make_all(missing)
        if problem is not None:
            raise problem
        if missing or not self._page_is_current():
            self._write_page(finished=now())
        seconds = self._elapsed()
        self._tell(Event("finished", done=len(made), total=len(self.chosen), seconds=seconds))
        return Outcome(self.folder.path, tuple(made), len(self.chosen), seconds)

    def _make_all(self, missing: Sequence[Step]) -> tuple[list[str], BaseException | None]:
        """Names of the steps made here, and the first thing that went wrong.

        After a failure nothing new starts; what is running is finished, for it has to be made anyway.
        """
        waiting = {step.name: step for step in missing}
        running: dict[Future[bool], Step] = {}
        depth = depths(self.chosen)
        made: list[str] = []
        problem: BaseException | None = None
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="step") as pool:
            try:
                while running or (waiting and problem is None):
                    undone = waiting.keys() | {step.name for step in running.values()}
                    ready = [
                        step for step in waiting.values() if problem is None and not needs(step) & undone
                    ]
                    ready.sort(key=lambda step: -depth[step.name])
                    for step in self._may_start(ready, list(running.values())):
                        running[pool.submit(self._maker.make, waiting.pop(step.name))] = step
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        step = running.pop(future)
                        if (error := future.exception()) is not None:
                            self._tell(Event("failed", step.name, note=str(error)))
                            problem = problem or error
                            continue
                        if future.result():
                            made.append(step.name)
                        with contextlib.suppress(OSError) if problem else contextlib.nullcontext():
                            self.folder.link(step)
                            self._write_page(finished=None)
            except BaseException:  # Ctrl-C lands here: end the children before the pool waits for them
                self._stop.set()
                raise
        return made, problem

    def _may_start(self, ready: Sequence[Step], running: Sequence[Step]) -> Sequence[Step]:
        """Which of the ready steps begin now: those that measure the machine when nothing else runs."""
        if any(self._maker.alone(step) for step in running):
            return ()
        beside = [step for step in ready if not self._maker.alone(step)]
        return beside[: self.jobs - len(running)] if beside or running else ready[:1]

    # ------------------------------------------------------------ telling

    def _tell(self, event: Event) -> None:
        with self._lock:
            self.events(event)

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._clock, 2)

    def _line(self, step: Step) -> StepLine:
        done = self.store.has(step.stage, step.key)
        seconds = self.store.record(step.stage, step.key)["seconds"] if done else None
        return StepLine(name=step.name, stage=step.stage, key=step.key, done=done, seconds=seconds)

    def _page(self, finished: str | None) -> RunPage:
        return RunPage(
            name=self.plan.recipe.name,
            factory=__version__,
            recipe=self.plan.recipe.model_dump(mode="json"),
            steps=tuple(self._line(step) for step in self.plan.steps),
            jobs=self.jobs,
            machine=machine.facts(),
            started=self._started,
            finished=finished,
            seconds=self._elapsed(),
            points=tuple(point.name for point in self.plan.points),
        )

    def _write_page(self, finished: str | None) -> None:
        self.folder.write(self._page(finished))

    def _page_is_current(self) -> bool:
        """Whether run.json says all there is to say, so that a run that makes nothing writes nothing."""
        try:
            old, new = self.folder.read(), self._page(finished=None)
        except FactoryError:  # damaged: to be written anew
            return False
        return bool(old and old.finished and (old.recipe, old.steps) == (new.recipe, new.steps))


def _refuse_unready(plan: Plan, missing: Sequence[Step], load: Load) -> None:
    """Asks the stages of steps that are to be made for what this machine lacks, before anything starts."""
    for step in missing:
        try:
            if ready := getattr(load(step.stage), "ready", None):
                ready(step.settings)
        except FactoryError as error:
            raise placed(plan, step, error) from error
