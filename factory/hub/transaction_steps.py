"""The steps of transaction.py, each of which looks first whether it is done."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub.parcel import Parcel, Sums, escaped, sums_of
from factory.hub.session import Patience, is_transient, patiently, pause

_VERSION = re.compile(r"v([1-9]\d*)")


@dataclass
class Work:
    """The steps of a publication, each of which may be taken again.

    Attributes:
        api: from `session.connect`.
        parcel: what the repository is to hold.
        patience: with the Hub.
        sums: of the parcel's files.
    """

    api: Any
    parcel: Parcel
    patience: Patience
    sums: Mapping[str, Sums]

    def _words(self) -> dict[str, str]:
        return {"repo_id": self.parcel.id, "repo_type": self.parcel.kind}

    def info(self, revision: str | None = None) -> Any:
        """What the Hub says of the repository."""
        return self.api.repo_info(**self._words(), revision=revision)

    def exists(self) -> bool:
        """Whether there is one of that name, as far as the token can see."""
        return bool(patiently(lambda: self.api.repo_exists(**self._words()), self.patience))

    def create(self) -> None:
        """A repository of that name, private if it is new."""
        create = self.api.create_repo
        more = {"space_sdk": "static"} if self.parcel.kind == "space" else {}
        patiently(lambda: create(**self._words(), **more, private=True, exist_ok=True), self.patience)

    def _tree(self, revision: str) -> dict[str, str]:
        """What the Hub holds, by path: the sha256 of large files, git's name of the others."""
        from huggingface_hub import RepoFile

        def ask() -> dict[str, str]:
            entries = self.api.list_repo_tree(**self._words(), revision=revision, recursive=True)
            files = [entry for entry in entries if isinstance(entry, RepoFile)]
            return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}

        return patiently(ask, self.patience)

    def _changes(self, tree: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The paths to send, and those to remove."""
        send = [path for path, sums in self.sums.items() if tree.get(path) not in (sums.sha256, sums.git)]
        return send, sorted((self.parcel.owned - self.sums.keys()) & tree.keys())

    def _is_complete(self, revision: str) -> bool:
        return self._changes(self._tree(revision)) == ([], [])

    def commit(self, create_pr: bool) -> tuple[str, bool, int | None]:
        """The commit that holds everything; whether it had to be made; its pull request's number."""
        head = str(patiently(self.info, self.patience).sha)
        send, remove = self._changes(self._tree(head))
        if not send and not remove:
            return head, False, None
        if create_pr and (opened := self._open_pull_request()):
            return opened[0], False, opened[1]
        operations = self._operations(send, remove)
        for attempt in range(1, self.patience.tries + 1):
            try:
                done = self._send(operations, head, create_pr)
                return str(done.oid), True, done.pr_num if create_pr else None
            except Exception as error:
                # The answer may be lost, and the commit made: a blind second try would make it twice.
                found = self._found_after(head, create_pr)
                if found:
                    return found[0], True, found[1]
                moved = str(patiently(self.info, self.patience).sha) != head
                if moved and not create_pr:
                    what = "somebody else committed to this repository in the meantime"
                    mend = "Look at their change, then run the same command again to publish on top of it"
                    raise FactoryError(what, where=self.parcel.id, mend=mend) from error
                if not is_transient(error) or attempt == self.patience.tries:
                    raise
                _wait(attempt, error, self.patience)
        raise AssertionError  # the last attempt returned or raised

    def _found_after(self, head: str, create_pr: bool) -> tuple[str, int | None] | None:
        """The commit that a try without an answer made, if it did."""
        if create_pr:
            return self._open_pull_request()
        now = str(patiently(self.info, self.patience).sha)
        return (now, None) if now != head and self._is_complete(now) else None

    def _open_pull_request(self) -> tuple[str, int] | None:
        """An open pull request that holds everything: its commit and number."""

        def ask() -> Any:
            return self.api.list_repo_refs(**self._words(), include_pull_requests=True).pull_requests

        def is_open(number: int) -> bool:
            details = self.api.get_discussion_details(**self._words(), discussion_num=number)
            return details.status in ("open", "draft")

        for ref in reversed(patiently(ask, self.patience) or []):
            number = int(ref.ref.rpartition("/")[2])
            if self._is_complete(ref.ref) and patiently(partial(is_open, number), self.patience):
                return str(ref.target_commit), number
        return None

    def _operations(self, send: list[str], remove: list[str]) -> list[Any]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [CommitOperationAdd(path, _source(self.parcel.files[path])) for path in send]
        return [*added, *(CommitOperationDelete(path, is_folder=False) for path in remove)]

    def _send(self, operations: list[Any], head: str, create_pr: bool) -> Any:
        return self.api.create_commit(
            **self._words(),
            operations=operations,
            commit_message=self.parcel.title,
            commit_description=self.parcel.message,
            parent_commit=head,
            create_pr=create_pr,
        )

    def verify(self, commit: str) -> None:
        """Reads everything back into a folder of its own, and has the probe look at it.

        Raises:
            FactoryError: a file is not what was sent, or the probe says so.
        """
        with tempfile.TemporaryDirectory(prefix="factory-read-back-") as folder:
            download = self.api.snapshot_download
            patterns = [escaped(path) for path in self.sums]
            words = {**self._words(), "revision": commit, "local_dir": folder, "allow_patterns": patterns}
            patiently(lambda: download(**words), self.patience)
            for path, sums in self.sums.items():
                came = Path(folder, path)
                if not came.is_file() or sums_of(came).sha256 != sums.sha256:
                    what = f"{path} came back from the Hub other than it was sent"
                    raise FactoryError(what, where=self.parcel.id, mend="Run the same command again")
            self.parcel.probe(Path(folder))

    def tag(self, commit: str) -> str:
        """The version of a commit: the tag it has, or else the next number."""
        for attempt in range(1, self.patience.tries + 1):
            refs = patiently(lambda: self.api.list_repo_refs(**self._words()), self.patience)
            versions = {ref.name: ref.target_commit for ref in refs.tags if _VERSION.fullmatch(ref.name)}
            mine = [name for name, target in versions.items() if target == commit]
            if mine:
                return max(mine, key=_number)
            name = f"v{max(map(_number, versions), default=0) + 1}"
            try:
                self.api.create_tag(**self._words(), tag=name, revision=commit, tag_message=self.parcel.title)
                return name
            except Exception as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if attempt == self.patience.tries or not (status == 409 or is_transient(error)):
                    raise
                _wait(attempt, error, self.patience)
        raise AssertionError  # the last attempt returned or raised

    def make_public(self) -> None:
        """Everybody may see it."""
        if patiently(self.info, self.patience).private:
            patiently(lambda: self.api.update_repo_settings(**self._words(), private=False), self.patience)


def _source(source: Path | bytes) -> bytes | str:
    return source if isinstance(source, bytes) else str(source)


def _number(version: str) -> int:
    return int(version[1:])


def _wait(attempt: int, error: Exception, patience: Patience) -> None:
    time.sleep(pause(attempt, error, patience))
