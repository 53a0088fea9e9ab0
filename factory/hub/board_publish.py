"""A built leaderboard on the Hub: its dataset and its page, a static Space, in one commit each.

leaderboard.py -> here -> transaction.py. What has not changed makes no commit; what an earlier publication
put there and is gone now goes. A repository that holds anything else is refused. Either goes alone, too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from factory import __version__
from factory.errors import FactoryError
from factory.hub import board_dataset, board_page, transaction
from factory.hub.before import EMPTY, Seen, look
from factory.hub.contents import Draft, hash_of, size_of
from factory.hub.ledger import Ledger
from factory.hub.manifest import MANIFEST, Manifest, Named
from factory.hub.parcel import Kind, Parcel
from factory.hub.session import Patience, check_token, connect
from factory.hub.trusted import publisher_of, resource_of, trusting

NAME = "leaderboard"
_TOKEN = b"OWNER/NAME"  # in the card, until it is known where it is published
_PARTS: tuple[tuple[Kind, str], ...] = (("dataset", board_dataset.FOLDER), ("space", board_page.FOLDER))

_LANDMARK = {"dataset": "answers/train-00000-of-00001.parquet", "space": "models.js"}


@dataclass(frozen=True)
class Sent:
    """What became of a part: its page on the Hub, the commit, and whether this call made it."""

    kind: Kind
    repository: str
    url: str
    commit: str
    public: bool
    changed: bool


def publish(
    folder: Path,
    namespace: str,
    name: str,
    patience: Patience,
    *,
    only: Kind | None = None,
    private: bool = False,
    trusted: bool = False,
    told: Callable[[str, str], None] = lambda repository, step: None,
) -> list[Sent]:
    """Publishes its parts.

    Args:
        folder: what `build` made.
        namespace: a user or an organisation.
        name: of the dataset and of the Space.
        patience: with the Hub.
        only: this part; None for both.
        private: what is new stays private.
        trusted: by a workflow's identity, of each repository that trusts it.
        told: called with each repository and the step that begins.

    Raises:
        FactoryError: the folder holds no leaderboard, something else is in its place on the Hub, or that
            refuses or does not answer.
    """
    parts = [(kind, part) for kind, part in _PARTS if only in (None, kind)]
    if not all((folder / part / "README.md").is_file() for _, part in parts):
        mend = "Name the folder that `factory leaderboard build --out` made"
        raise FactoryError("there is no leaderboard here", where=str(folder), mend=mend)
    if not re.fullmatch(r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]{0,94}[A-Za-z0-9]", name):
        raise FactoryError(
            f"the Hub takes no name '{name}'", where="--name", mend="Use letters, digits, - and _"
        )
    api = connect(patience)
    drafts = [_draft(kind, f"{namespace}/{name}", folder / part) for kind, part in parts]
    scopes = [trusting(resource_of(one.kind, one.id), patience) if trusted else None for one in drafts]
    if None in scopes:  # not each has a publisher's token of its own
        check_token(api, namespace, patience)
    seen = []
    for draft, scope in zip(drafts, scopes, strict=True):
        with publisher_of(scope):
            seen.append(look(api, draft, patience))
        _refuse_foreign(draft, seen[-1])
    ledger, sent = Ledger(folder, api.endpoint), []
    for draft, there, scope in zip(drafts, seen, scopes, strict=True):
        parcel = Parcel(
            kind=draft.kind,
            id=draft.id,
            files=draft.files,
            title="Publish the leaderboard",
            message=f"Built by factory {__version__}; {MANIFEST} lists every file.",
            owned=there.owned or frozenset(),
        )
        with publisher_of(scope):
            done = transaction.publish(
                api,
                parcel,
                patience,
                private=private,
                recall=partial(ledger.intent, draft.kind, draft.id),
                remember=partial(ledger.begin, draft.kind, draft.id),
                told=partial(told, f"{draft.kind} {draft.id}"),
            )
        ledger.forget(draft.kind, draft.id)
        url = f"{api.endpoint}/{draft.kind}s/{draft.id}"
        sent.append(Sent(draft.kind, draft.id, url, done.commit, done.public, done.changed))
    return sent


def _draft(kind: Kind, repository: str, local: Path) -> Draft:
    files: dict[str, Path | bytes] = {
        path.relative_to(local).as_posix(): path for path in sorted(local.rglob("*")) if path.is_file()
    }
    files["README.md"] = (local / "README.md").read_bytes().replace(_TOKEN, repository.encode())
    named = {
        path: Named(sha256=hash_of(source), size=size_of(source)) for path, source in sorted(files.items())
    }
    content = hashlib.sha256("".join(f"{path} {one.sha256}\n" for path, one in named.items()).encode())
    manifest = Manifest(
        factory=__version__, kind=kind, repository=repository, recipe=NAME, name=NAME,
        run=content.hexdigest()[:16], base={}, files=named,
    )  # fmt: skip
    files[MANIFEST] = (manifest.model_dump_json(indent=1) + "\n").encode()
    return Draft(kind, NAME, repository, files, local)


def _refuse_foreign(draft: Draft, there: Seen) -> None:
    """Refuses a repository with what somebody else put there, or a run's dataset."""
    if there.owned is None:
        held = next(iter(sorted((there.files or {}).keys() - EMPTY)), None)
    else:
        held = None if _LANDMARK[draft.kind] in there.owned else "what a run published"
    if held is not None:
        what = f"this {draft.kind} is no leaderboard: it holds {held}"
        raise FactoryError(what, where=draft.id, mend="Use another --name or --namespace")
