"""What the local Hub keeps, as files below one folder; the routes read and change it through `Store`.

    blobs/ab/abcd..                       contents, by sha256
    repos/models/<namespace>/<name>/
        repo.json                         visibility, refs and pull requests
        commits/<id>.json                 parents, message and the whole tree
    lock                                  held while a ref moves

A blob is on disk before a commit names it, a commit before a ref names it, and repo.json is replaced by
renaming: kill -9 at any moment leaves the old state or the new one. Nothing is ever collected.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from factory.hub.local.blobs import Blobs, MissingError
from factory.run.store import write_atomically

Kind = Literal["models", "datasets", "spaces"]
KINDS: tuple[Kind, ...] = ("models", "datasets", "spaces")

MAIN = "refs/heads/main"


class Kept(BaseModel):
    """A part of the state as it stands in a file."""

    model_config = ConfigDict(extra="forbid")


class Entry(Kept):
    """A file of a commit: its content's sha256, and git's own name for it (in LFS, for its pointer)."""

    sha256: str
    size: int
    oid: str
    lfs: bool


class Commit(Kept):
    """A commit with its whole tree, `files` by path."""

    id: str
    parents: list[str]
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Entry]


class Comment(Kept):
    """What somebody wrote, or did (`kind`), in a discussion."""

    id: str
    kind: Literal["comment", "status-change", "title-change", "commit"]
    author: str
    date: str
    data: dict[str, str]


class Discussion(Kept):
    """A discussion, or a pull request with its changes under refs/pr/<num>."""

    num: int
    title: str
    author: str
    date: str
    status: Literal["draft", "open", "closed", "merged"]
    pull_request: bool
    base: str = MAIN
    merged_as: str | None = None
    events: list[Comment] = []


class Repository(Kept):
    """A repository's state; `refs` names commits by full ref, such as refs/heads/main or refs/tags/v1."""

    kind: Kind
    id: str
    private: bool
    gated: Literal["auto", "manual", False] = False
    created: str
    changed: str
    refs: dict[str, str]
    discussions: list[Discussion] = []

    @property
    def namespace(self) -> str:
        """The user or organisation it belongs to."""
        return self.id.partition("/")[0]


class ConflictError(Exception):
    """It exists already, or something else was committed in between; the argument says what."""


class MovedError(ConflictError):
    """The ref is not where the client's parent commit says it is."""


def now() -> str:
    """This moment in UTC as the Hub writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def git_oid(content: bytes) -> str:
    """The name that git gives a blob of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The Git LFS pointer file (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (sha256.encode(), size)


class Store:
    """All repositories below a folder. Safe to use from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.blobs = Blobs(root / "blobs")
        self._mutex = threading.RLock()
        self._depth = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other thread or process moves a ref or changes an account. It may be nested."""
        with self._mutex:
            if self._depth:  # a second handle of one process would wait for the first
                yield
                return
            with (self.root / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._depth = 1
                try:
                    yield
                finally:
                    self._depth = 0

    def folder(self, kind: Kind, name: str) -> Path:
        """Where a repository is kept."""
        return self.root / "repos" / kind / name

    def load(self, kind: Kind, name: str) -> Repository:
        """A repository's state.

        Raises:
            MissingError: there is none of that name.
        """
        try:
            content = (self.folder(kind, name) / "repo.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError(f"no repository {kind}/{name}") from None
        return Repository.model_validate_json(content)

    def all(self, kind: Kind) -> list[Repository]:
        """Every repository of a kind, the last changed first."""
        found = [
            Repository.model_validate_json(path.read_bytes())
            for path in (self.root / "repos" / kind).glob("*/*/repo.json")
        ]
        return sorted(found, key=lambda repository: repository.changed, reverse=True)

    def save(self, repository: Repository) -> None:
        """Writes a state; inside `locked`."""
        repository.changed = now()
        path = self.folder(repository.kind, repository.id) / "repo.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, repository.model_dump_json(indent=1))

    def create(self, kind: Kind, name: str, author: str, private: bool) -> Repository:
        """A new repository with the Hub's first commit, which holds .gitattributes.

        Raises:
            ConflictError: there is one of that name.
        """
        with self.locked():
            if (self.folder(kind, name) / "repo.json").exists():
                raise ConflictError(f"{kind}/{name} exists")
            files = {".gitattributes": self.regular(GITATTRIBUTES)}
            first = self.record(kind, name, [], "initial commit", "", author, files)
            moment = now()
            repository = Repository(
                kind=kind, id=name, private=private, created=moment, changed=moment, refs={MAIN: first.id}
            )
            self.save(repository)
            return repository

    def delete(self, kind: Kind, name: str) -> None:
        """Removes a repository. Its blobs stay: others may have the same."""
        with self.locked():
            self.load(kind, name)
            folder = self.folder(kind, name)
            (folder / "repo.json").unlink()  # from here on it is gone
            shutil.rmtree(folder)

    def regular(self, content: bytes) -> Entry:
        """Stores a content that git itself would hold."""
        return Entry(sha256=self.blobs.add(content), size=len(content), oid=git_oid(content), lfs=False)

    @staticmethod
    def large(sha256: str, size: int) -> Entry:
        """The entry of a content held by Git LFS."""
        return Entry(sha256=sha256, size=size, oid=git_oid(pointer(sha256, size)), lfs=True)

    def record(
        self,
        kind: Kind,
        name: str,
        parents: list[str],
        title: str,
        message: str,
        author: str,
        files: Mapping[str, Entry],
        as_id: str | None = None,
    ) -> Commit:
        """Writes a commit that no ref names yet; `as_id` stands in for the id of a commit made elsewhere."""
        date = now()
        told = [parents, title, message, author, date, {path: files[path].oid for path in sorted(files)}]
        # Two commits of the same content at the same millisecond are two commits.
        identity = json.dumps([kind, name, told, uuid.uuid4().hex]).encode()
        commit = Commit(
            id=as_id or hashlib.sha1(identity).hexdigest(),
            parents=parents, title=title, message=message, author=author, date=date, files=dict(files),
        )  # fmt: skip
        path = self.folder(kind, name) / "commits" / f"{commit.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, commit.model_dump_json())
        return commit

    def commit(self, kind: Kind, name: str, commit_id: str) -> Commit:
        """A commit of a repository.

        Raises:
            MissingError: it has none of that id.
        """
        try:
            content = (self.folder(kind, name) / "commits" / f"{commit_id}.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError(f"no commit {commit_id}") from None
        return Commit.model_validate_json(content)

    def find_ref(self, repository: Repository, revision: str) -> str | None:
        """The full ref that a revision names: a branch before a tag, or refs/.. itself."""
        named = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((ref for ref in named if ref in repository.refs), None)

    def resolve(self, repository: Repository, revision: str) -> Commit:
        """The commit that a branch, tag, ref or commit id names.

        Raises:
            MissingError: none.
        """
        ref = self.find_ref(repository, revision)
        wanted = repository.refs[ref] if ref else revision
        if not ref and (len(wanted) != 40 or not set(wanted) <= set("0123456789abcdef")):
            raise MissingError(f"no revision {revision}")
        return self.commit(repository.kind, repository.id, wanted)

    def history(self, repository: Repository, start: Commit) -> Iterator[Commit]:
        """A commit and its first parents, newest first."""
        current: Commit | None = start
        while current:
            yield current
            following = current.parents[0] if current.parents else None
            current = self.commit(repository.kind, repository.id, following) if following else None

    def missing_blobs(self, files: Iterable[Entry]) -> list[Entry]:
        """The entries whose content is not here."""
        return [entry for entry in files if not self.blobs.has(entry.sha256, entry.size)]


# What the Hub's own first commit declares as large, shortened to what models and datasets have today.
GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in (
        "*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gz", "*.h5", "*.joblib", "*.model",
        "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.parquet", "*.pb", "*.pickle", "*.pkl", "*.pt", "*.pth",
        "*.rar", "*.safetensors", "*.tar", "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip", "*.zst",
    )
).encode()  # fmt: skip
