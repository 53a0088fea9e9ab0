"""One repository on the Hub, published whole or not at all. Under publish.py.

    look -> create, private -> ONE commit on the head that was seen -> download and compare -> tag -> public

Each step (transaction_steps.py) looks first whether it is done, so that a run after any failure goes on, and
a run after a success changes nothing. What the reader can see is the old repository or the complete new one:
the commit is one request, and a repository that is new stays private until all of it was read back.

`HfApi.upload_folder` is not used: it makes several commits of many files, and only the first of them on the
parent that was seen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub.forbidden import refuse_forbidden
from factory.hub.parcel import Parcel, sums_of
from factory.hub.session import Patience, patiently, refusal
from factory.hub.transaction_steps import Work
from factory.run.child import is_disk_full
from factory.run.store import disk_full


@dataclass(frozen=True)
class Intent:
    """What is kept on this machine about a publication under way.

    Attributes:
        created: the repository was not there before, so it is ours to make public.
    """

    created: bool


@dataclass(frozen=True)
class Published:
    """What the Hub has now.

    Attributes:
        commit: its id.
        tag: the version.
        changed: whether this call made the commit.
        public: whether everybody sees it.
        pull_request: the number, where one was opened instead.
        checksums: sha256 by path.
    """

    commit: str
    tag: str | None
    changed: bool
    public: bool
    pull_request: int | None
    checksums: Mapping[str, str]


def publish(
    api: Any,
    parcel: Parcel,
    patience: Patience,
    *,
    private: bool = False,
    create_pr: bool = False,
    recall: Callable[[], Intent | None] = lambda: None,
    remember: Callable[[Intent], None] = lambda intent: None,
    told: Callable[[str], None] = lambda step: None,
) -> Published:
    """Publishes a repository.

    Args:
        api: from `session.connect`.
        parcel: what it is to hold.
        patience: with the Hub.
        private: a repository that is new stays private.
        create_pr: open a pull request instead of a commit to main; no tag.
        recall: what an earlier call remembered of this repository.
        remember: keeps it, before the repository is created.
        told: called with each step as it begins.

    Raises:
        FactoryError: something must not be published, the Hub refuses or does not answer, somebody else
            committed in between, or what came back is not what was sent.
    """
    refuse_forbidden(parcel.files, parcel.id)
    work = Work(api, parcel, patience, {path: sums_of(source) for path, source in parcel.files.items()})
    try:
        told("look")
        intent = recall() or Intent(created=not work.exists())
        remember(intent)
        told("create")
        work.create()
        told("send")
        commit, changed, number = work.commit(create_pr)
        told("read back")
        work.verify(commit)
        tag = None
        if not create_pr:
            told("tag")
            tag = work.tag(commit)
        if intent.created and not private:
            told("make public")
            work.make_public()
        public = not patiently(work.info, patience).private
    except FactoryError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise disk_full(Path(tempfile.gettempdir())) from error
        raise refusal(error, parcel.id) from error
    sums = {path: sums.sha256 for path, sums in work.sums.items()}
    return Published(commit, tag, changed, public, number, sums)
