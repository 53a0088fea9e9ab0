"""Work shared between machines that have no disk in common: artifacts go to a place, and come from one.

Around run.py, between the store of this machine and a place: a folder (which something else carries from
machine to machine) or a private repository of the Hub. Before a run what it needs is fetched, where it is
there; while it runs each artifact goes out as it is finished, and what unfinished steps have so far every few
minutes. So a machine that is lost loses minutes, and another goes on.

In a place stands one tar a key: `<stage>/<key>.tar` of an artifact, `<stage>/<key>.partial.tar` of a step
under way. Tars hold a store's own files; what comes out of one counts only if the store finds it whole.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from factory.errors import FactoryError
from factory.plan.plan import Plan, Step
from factory.plan.select import select
from factory.run.ending import orderly
from factory.run.events import Event, Events
from factory.run.packed import Tree, packed, tree, unpack
from factory.run.run import Outcome, run
from factory.run.store import Store
from factory.wording import counted

HUB = "hf://datasets/"
EVERY = 600.0  # seconds between two looks at what unfinished steps have so far


class Place(Protocol):
    """Where tars are kept, by name."""

    def names(self) -> set[str]:
        """What is there."""

    def fetch(self, name: str, to: Path) -> None:
        """Write one of them to a file."""

    def put(self, files: Mapping[str, Path], gone: Collection[str]) -> None:
        """Add some, or replace them, and take others away where they are there."""


@dataclass(frozen=True)
class Folder:
    """A folder as a place."""

    path: Path

    def names(self) -> set[str]:
        """What is there."""
        return {path.relative_to(self.path).as_posix() for path in self.path.glob("*/*.tar")}

    def fetch(self, name: str, to: Path) -> None:
        """Write one of them to a file."""
        shutil.copyfile(self.path / name, to)

    def put(self, files: Mapping[str, Path], gone: Collection[str]) -> None:
        """Add some, or replace them, and take others away where they are there."""
        for name, file in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}.new")
            shutil.copyfile(file, fresh)
            fresh.replace(target)
        for name in gone:
            (self.path / name).unlink(missing_ok=True)


def place_of(address: str) -> Place:
    """The place that a person names: a folder, or `hf://datasets/<namespace>/<name>`.

    Raises:
        FactoryError: it is another kind of address.
    """
    if address.startswith(HUB):
        from factory.hub.shared import Repository

        return Repository.named(address.removeprefix(HUB))
    if "://" in address:
        mend = f"Name a folder, or a private dataset repository as {HUB}<namespace>/<name>"
        raise FactoryError(f"'{address}' is no place to share work in", mend=mend)
    return Folder(Path(address))


def run_shared(
    plan: Plan,
    runs_dir: Path,
    jobs: int | None,
    only: Sequence[str],
    events: Events,
    fetch: str | None,
    share: str | None,
) -> tuple[Outcome, str]:
    """`run`, with work from and for other machines.

    Args:
        plan: see `run`, as are `runs_dir`, `jobs`, `only` and `events`.
        runs_dir: holds the store and one folder a recipe.
        jobs: steps at a time.
        only: patterns of step names.
        events: told what happens.
        fetch: the place where finished work is looked for, if any.
        share: the place where work goes, if any.

    Returns:
        What the run did, and a line on what was shared; empty where that is nothing.

    Raises:
        FactoryError: as `run`; a place does not answer or refuses.
        StageFailed: as `run`; what was finished is sent on all the same.
    """
    source, target = (place_of(place) if place else None for place in (fetch, share))
    if source is None and target is None:
        return run(plan, runs_dir, jobs=jobs, only=only, events=events), ""
    # A machine that is taken away says so with SIGTERM: what is unfinished is to be sent before the end.
    steps = select(plan, only)
    own = [
        s.name for s in steps if not only or any(fnmatchcase(n, p) for n in (s.name, s.local) for p in only)
    ]
    with orderly(), sharing(steps, own, Store(runs_dir / "store"), source, target, events) as both:
        shared, told = both
        outcome = run(plan, runs_dir, jobs=jobs, only=only, events=told)
    words = (("fetched", shared.fetched), ("took over", shared.resumed), ("shared", shared.kept))
    return outcome, ", ".join(f"{verb} {counted(len(steps), 'step')}" for verb, steps in words if steps)


@dataclass
class Shared:
    """What went to and fro: names of steps."""

    fetched: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@contextlib.contextmanager
def sharing(
    steps: Sequence[Step],
    own: Collection[str],
    store: Store,
    source: Place | None,
    target: Place | None,
    events: Events,
    every: float = EVERY,
) -> Iterator[tuple[Shared, Events]]:
    """Fetches what the steps need; within it what they make is sent on.

    Args:
        steps: those of the run.
        own: of these, what the run is for: it goes out even if it was made before. The rest goes out if it is
            made here.
        store: of this machine.
        source: where artifacts come from, if anywhere.
        target: where they go, if anywhere.
        events: told of the run.
        every: seconds between two looks at unfinished steps.

    Yields:
        What was shared so far, and whom the run is to tell what happens.

    Raises:
        FactoryError: the place does not answer, or something could not be sent.
    """
    shared = Shared()
    if source is not None:
        _fetch(steps, store, source, shared)
    if target is None:
        yield shared, events
        return
    sender = _Sender({step.name: step for step in steps}, own, store, target, shared, every)
    sender.start()

    def told(event: Event) -> None:
        events(event)
        if event.kind == "done":
            sender.done.put(event.step)

    try:
        yield shared, told
    finally:
        sender.finish()
    if sender.problem is not None:
        raise sender.problem


def _fetch(steps: Sequence[Step], store: Store, source: Place, shared: Shared) -> None:
    missing = [step for step in steps if not store.has(step.stage, step.key)]
    if not missing:
        return
    there = source.names()
    store.prepare()
    for step in missing:
        with store.claim(step.stage, step.key, lambda who: None, threading.Event()):
            if store.has(step.stage, step.key):
                continue
            whole, partial = _names(step)
            with tempfile.TemporaryDirectory(
                prefix=f".{step.key}.fetched-", dir=store.root / step.stage
            ) as at:
                if whole in there:
                    store.adopt(step.stage, step.key, _unpacked(source, whole, Path(at)))
                    if store.has(step.stage, step.key):
                        shared.fetched.append(step.name)
                elif partial in there and not store.partial(step.stage, step.key).exists():
                    _unpacked(source, partial, Path(at)).rename(store.partial(step.stage, step.key))
                    shared.resumed.append(step.name)


def _names(step: Step) -> tuple[str, str]:
    """The tar of a step's artifact, and of what there is before it."""
    return f"{step.stage}/{step.key}.tar", f"{step.stage}/{step.key}.partial.tar"


def _unpacked(source: Place, name: str, at: Path) -> Path:
    tar, folder = at / "tar", at / "folder"
    source.fetch(name, tar)
    unpack(tar, folder, name)
    tar.unlink()
    return folder


class _Sender:
    """Sends on what is finished, from a thread of its own, so that no step waits for the network."""

    def __init__(
        self,
        steps: Mapping[str, Step],
        own: Collection[str],
        store: Store,
        target: Place,
        shared: Shared,
        every: float,
    ) -> None:
        self.done: queue.Queue[str | None] = queue.Queue()
        self.problem: FactoryError | None = None
        self._steps, self._own, self._store, self._target = steps, own, store, target
        self._shared = shared
        self._every, self._seen = every, dict[str, Tree]()
        self._thread = threading.Thread(target=self._work, name="share", daemon=True)

    def start(self) -> None:
        """Begins with what is finished here and not there: an earlier run may not have come so far."""
        self._thread.start()

    def finish(self) -> None:
        """Waits until all is sent."""
        self.done.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            there = self._target.names()
            for step in map(self._steps.__getitem__, self._own):
                if self._store.has(step.stage, step.key) and _names(step)[0] not in there:
                    self._send(step)
            while True:
                try:
                    name = self.done.get(timeout=self._every)
                except queue.Empty:
                    self._send_partial()
                    continue
                if name is None:
                    break
                if name not in self._shared.kept:  # it was finished while the thread began, and found then
                    self._send(self._steps[name])
            self._send_partial()
        except FactoryError as error:
            self.problem = error
        except Exception as error:
            mend = "Run the same command again: what was finished is kept here, and sent then"
            text = f"finished work could not be sent on ({type(error).__name__}: {error})"
            self.problem = FactoryError(text, mend=mend)

    def _send(self, step: Step) -> None:
        whole, partial = _names(step)
        folder = self._store.folder(step.stage, step.key)
        with packed(folder, self._store.root) as tar:
            if tar is not None:
                self._target.put({whole: tar}, [partial])
                self._shared.kept.append(step.name)

    def _send_partial(self) -> None:
        """What unfinished steps have so far, where it is more than was sent last."""
        for step in self._steps.values():
            folder = self._store.partial(step.stage, step.key)
            if self._store.has(step.stage, step.key) or not folder.is_dir():
                continue
            now = tree(folder)
            if not now or now == self._seen.get(step.name):
                continue
            with packed(folder, self._store.root) as tar:
                if tar is not None:
                    self._target.put({_names(step)[1]: tar}, [])
                    self._seen[step.name] = now
