"""Where finished work lives: one folder an artifact, `<runs>/store/<stage>/<key>/`, whole or absent.

Between plan/plan.py (which gives every step its key) and run.py (which makes what is missing). An artifact is
written in a hidden partial folder beside its place, synced to disk and renamed, so that a kill or a power
cut at any moment leaves either the whole artifact or none. The partial folder of an interrupted step stays:
the stage decides what it can reuse. A lock file an artifact lets two runs share a store.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from factory.errors import FactoryError
from factory.run.child import is_disk_full

RECORD = "record.json"
FILES = "files"  # in a record: every other file of the artifact, by its path, with its size in bytes
State = Literal["done", "running", "partial", "damaged", "missing"]


class Lock:
    """An exclusive lock on a file, held until the last process that has its descriptor lets go or dies.

    The file stays when the lock is released (removing it would let two holders in) and names its holder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """For handing the lock on to a child process; valid while the lock is held."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not locked")
        return self._descriptor

    def take(self) -> bool:
        """Try once, without waiting."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            mend = "Choose a folder on a file system with file locks, with --runs-dir"
            raise FactoryError(f"cannot lock: {error.strerror}", where=str(self.path), mend=mend) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its label is missing
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go, also on behalf of every process that inherited the descriptor."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """`process <pid>`, as far as the file tells."""
        try:
            return f"process {int(self.path.read_text())}"
        except (OSError, ValueError):
            return "another process"

    def is_held(self) -> bool:
        """Whether somebody holds it now; looking stands in a taker's way for an instant only."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


class Store:
    """The artifacts under one folder. Nothing is written before `prepare`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            FactoryError: it cannot be written.
        """
        writable_folder(self.root)

    def is_bare(self) -> bool:
        """Whether nothing was ever begun here: whatever its key, every artifact is missing."""
        return not any(self.root.glob("*/*"))

    def folder(self, stage: str, key: str) -> Path:
        """The place of an artifact, there or not."""
        return self.root / stage / key

    def partial(self, stage: str, key: str) -> Path:
        """Where that artifact is being made."""
        return self.root / stage / f".{key}.partial"

    def has(self, stage: str, key: str) -> bool:
        """Whether the artifact is there, whole: its record can be read and no file is gone or cut."""
        folder = self.folder(stage, key)
        try:
            files = json.loads((folder / RECORD).read_text())[FILES]
            return all((folder / name).stat().st_size == size for name, size in files.items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # whatever befell the record
            return False

    def record(self, stage: str, key: str) -> dict[str, Any]:
        """What is known about an artifact that is there."""
        record: dict[str, Any] = json.loads((self.folder(stage, key) / RECORD).read_text())
        return record

    def state(self, stage: str, key: str) -> State:
        """`running`: some process works on it now; `partial`: interrupted, to be resumed; `damaged`:
        somebody took away or changed a part of it, so that the next run makes it again."""
        if self.has(stage, key):
            return "done"
        if self._lock(stage, key).is_held():
            return "running"
        if self.partial(stage, key).is_dir():
            return "partial"
        return "damaged" if self.folder(stage, key).exists() else "missing"

    @contextlib.contextmanager
    def claim(
        self, stage: str, key: str, waiting: Callable[[str], None], stop: threading.Event
    ) -> Iterator[Lock]:
        """Hold the artifact's lock; while somebody else does, wait and call `waiting(who)` once.

        Raises:
            InterruptedError: `stop` was set while waiting.
        """
        (self.root / stage).mkdir(parents=True, exist_ok=True)
        lock = self._lock(stage, key)
        told = False
        while not lock.take():
            if not told:
                waiting(lock.holder())
                told = True
            if stop.wait(0.2):
                raise InterruptedError(f"stopped while waiting for {lock.path}")
        try:
            yield lock
        finally:
            lock.release()

    def begin(self, stage: str, key: str) -> Path:
        """The partial folder, new or as an interrupted run left it. Needs the lock."""
        partial = self.partial(stage, key)
        partial.mkdir(exist_ok=True)
        (partial / RECORD).unlink(missing_ok=True)  # killed on the last inch, between record and rename
        return partial

    def commit(self, stage: str, key: str, record: Mapping[str, Any]) -> Path:
        """Turn the partial folder into the artifact. Needs the lock."""
        partial = self.partial(stage, key)
        whole = {**record, FILES: _sizes(partial)}
        (partial / RECORD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        return self.adopt(stage, key, partial)

    def adopt(self, stage: str, key: str, folder: Path) -> Path:
        """Turn a folder on the store's disk that holds an artifact whole into it. Needs the lock."""
        place = self.folder(stage, key)
        sync_tree(folder)
        if place.exists():  # damaged, or we would not be here
            shutil.rmtree(place)
        folder.rename(place)
        synced(place.parent)
        return place

    def _lock(self, stage: str, key: str) -> Lock:
        return Lock(self.root / stage / f".{key}.lock")


def writable_folder(folder: Path) -> None:
    """Make a folder and prove that it can be written.

    Raises:
        FactoryError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder) from error
        mend = "Choose another folder with --runs-dir"
        what = f"the folder for runs cannot be written: {error.strerror}"
        raise FactoryError(what, where=str(folder), mend=mend) from error


def disk_full(place: Path) -> FactoryError:
    """The error for a full disk. Exit code 2: a person mends it, by making room."""
    there = next((p for p in (place, *place.parents) if p.exists()), Path("/"))
    mount = next(p for p in (there.resolve(), *there.resolve().parents) if p.is_mount())
    free = shutil.disk_usage(there).free / 1e6
    mend = "Make room and run the same command again: finished steps are kept"
    return FactoryError(f"this disk is full ({free:.1f} MB free)", where=str(mount), mend=mend)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, synced: a reader sees the old content or the new, never half.

    Two writers of one file need a lock; text is written as UTF-8.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
        synced(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, in one step, replacing a link that is there."""
    goal = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == goal:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(goal)
    fresh.replace(link)


def _sizes(folder: Path) -> dict[str, int]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(paths)}


def sync_tree(folder: Path) -> None:
    """Waits until every file of a folder is on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                synced(path)
        synced(Path(parent))


def synced(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
