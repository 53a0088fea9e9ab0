"""A private dataset repository of the Hub as a place to share work in: under run/share.py.

Names are keys of what they hold, so a commit made twice does no harm and several machines may commit at once.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub.session import Patience, connect, is_transient, patiently, pause, refusal

_BUSY = (409, 412)  # somebody else's commit came first


@dataclass(frozen=True)
class Repository:
    """A repository as a place; made, private, with the first that is put into it."""

    id: str
    api: Any
    patience: Patience

    @classmethod
    def named(cls, name: str) -> Repository:
        """The repository of that name.

        Raises:
            FactoryError: it is none.
        """
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        patience = Patience()
        try:
            if name.count("/") != 1:
                raise HFValidationError
            validate_repo_id(name)
        except HFValidationError:
            mend = "Write hf://datasets/<namespace>/<name>"
            raise FactoryError(f"'{name}' is no name of a repository", mend=mend) from None
        return cls(name, connect(patience), patience)

    def names(self) -> set[str]:
        """What is there; nothing in a repository that is not there yet.

        Raises:
            FactoryError: everybody can see it, or the Hub refuses or does not answer.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = patiently(lambda: self.api.dataset_info(self.id), self.patience)
        except RepositoryNotFoundError:
            return set()
        except Exception as error:
            raise refusal(error, self.id) from error
        if not info.private:
            what = "this repository is public, and unfinished work is not to be"
            raise FactoryError(what, where=self.id, mend="Make it private, or name another")
        return {file.rfilename for file in info.siblings if file.rfilename.endswith(".tar")}

    def fetch(self, name: str, to: Path) -> None:
        """Write one of them to a file."""
        with tempfile.TemporaryDirectory(prefix=".download-", dir=to.parent) as folder:
            words = {"repo_id": self.id, "repo_type": "dataset", "filename": name, "local_dir": folder}
            try:
                Path(patiently(partial(self.api.hf_hub_download, **words), self.patience)).rename(to)
            except Exception as error:
                raise refusal(error, f"{self.id}/{name}") from error

    def put(self, files: Mapping[str, Path], gone: Collection[str]) -> None:
        """Add some, or replace them, and take others away where they are there, in one commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        words: dict[str, Any] = {"repo_id": self.id, "repo_type": "dataset"}
        try:
            create = partial(self.api.create_repo, **words, private=True, exist_ok=True)
            patiently(create, self.patience)
            added = [CommitOperationAdd(name, str(file)) for name, file in files.items()]
            title = f"Share {', '.join(files)}"
            for attempt in range(1, self.patience.tries + 1):
                removed = [CommitOperationDelete(name) for name in sorted(self.names() & set(gone))]
                try:
                    self.api.create_commit(**words, operations=[*added, *removed], commit_message=title)
                    return
                except Exception as error:
                    status = getattr(getattr(error, "response", None), "status_code", None)
                    again = status in _BUSY or is_transient(error)
                    if not again or attempt == self.patience.tries:
                        raise
                    time.sleep(random.uniform(0.5, 1.5) * pause(attempt, error, self.patience))
        except FactoryError:
            raise
        except Exception as error:
            raise refusal(error, self.id) from error
