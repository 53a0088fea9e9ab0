"""`factory publish`: everything of a finished run that its recipe names, then the collection that groups it.

contents.py (what) -> here -> before.py (a look), transaction.py (one repository, whole or not at all),
collection.py. The order: the token, all files and cards of all repositories, a look at all repositories; only
then is anything sent. A run after any failure goes on where the last one was, a run after a success sends
nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from factory import __version__
from factory.errors import FactoryError, StageFailed
from factory.hub import probe, transaction
from factory.hub.before import Options, Seen, check, check_room, check_size, look
from factory.hub.collection import collect
from factory.hub.contents import Draft, Finished, drafts, hash_of
from factory.hub.ledger import FOLDER, Ledger, Record
from factory.hub.manifest import MANIFEST
from factory.hub.parcel import Parcel
from factory.hub.session import Patience, check_token, connect
from factory.hub.trusted import publisher_of, resource_of, trusting
from factory.run import child
from factory.run.store import Lock

Told = Callable[[str, str], None]  # repository, step


def options_of(
    done: Finished, namespace: str | None, private: bool, create_pr: bool, trusted: bool = False
) -> Options:
    """What the command and the recipe say together.

    Raises:
        FactoryError: neither names a namespace, or it is none.
    """
    name = namespace or done.wanted.namespace
    if name is None:
        mend = "Add --namespace YOUR-NAME, or `namespace:` to the recipe's `publish`"
        raise FactoryError("no namespace to publish in", where=str(done.folder.path), mend=mend)
    if not re.fullmatch(r"[A-Za-z0-9](?!.*--)[A-Za-z0-9._-]{0,95}", name):
        mend = "Name a user or an organisation of the Hub"
        raise FactoryError(f"'{name}' is no namespace", where="--namespace", mend=mend)
    return Options(name, private or done.wanted.private, create_pr, trusted)


def publish_run(
    done: Finished, options: Options, patience: Patience, told: Told
) -> list[tuple[Record, bool]]:
    """Publishes what the recipe names.

    Args:
        done: the run.
        options: where and how.
        patience: with the Hub.
        told: called with each repository and the step that begins.

    Returns:
        The record of every repository, and whether this call changed it.

    Raises:
        FactoryError: something must not be published, or the Hub refuses or does not answer.
    """
    api = connect(patience)
    check_size(done, api.endpoint)
    made = drafts(done, options.namespace)
    scopes = _scopes(made, options, patience)
    if None in scopes:  # not each has a publisher's token of its own
        check_token(api, options.namespace, patience, as_guest=options.create_pr)
    with _alone(done.folder.path):
        seen = []
        for draft, scope in zip(made, scopes, strict=True):
            with publisher_of(scope):
                seen.append(look(api, draft, patience))
        for draft, there in zip(made, seen, strict=True):
            check(draft, there, options, patience)
        ledger = Ledger(done.folder.path, api.endpoint)
        pairs = zip(made, seen, strict=True)
        check_room([draft for draft, there in pairs if not _is_done(draft, there, ledger)])
        found = []
        for draft, there, scope in zip(made, seen, scopes, strict=True):
            with publisher_of(scope):
                step = partial(told, draft.id)
                found.append(_publish(api, done, draft, there, options, patience, ledger, step))
        if options.create_pr or not any(record.public for record, _ in found):
            return found
        if None not in scopes:  # a publisher's token reaches no collection
            return found
        told(options.namespace, "collect")
        public = [record for record, _ in found if record.public]
        slug = collect(api, done, options.namespace, public, patience)
        return [(_collected(ledger, record, slug), changed) for record, changed in found]


def _scopes(made: Sequence[Draft], options: Options, patience: Patience) -> list[str | None]:
    """Whose publisher this job is for each repository; None where it goes by a token."""
    if not options.trusted:
        return [None] * len(made)
    return [trusting(resource_of(draft.kind, draft.id), patience) for draft in made]


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Holds off a second publication of the same run."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    lock = Lock(folder / ".lock")
    if not lock.take():
        raise FactoryError(f"{lock.holder()} is publishing this run", where=str(run), mend="Wait for it")
    try:
        yield
    finally:
        lock.release()


def _publish(
    api: Any,
    done: Finished,
    draft: Draft,
    there: Seen,
    options: Options,
    patience: Patience,
    ledger: Ledger,
    told: Callable[[str], None],
) -> tuple[Record, bool]:
    """One repository, and what is kept of it."""
    if record := _is_done(draft, there, ledger):
        return record, False
    parcel = Parcel(
        kind=draft.kind,
        id=draft.id,
        files=draft.files,
        title=f"Publish {draft.name} of {done.page.name}",
        message=f"Made by factory {__version__} from the run {done.key}; {MANIFEST} lists every file.",
        owned=there.owned or frozenset(),
        probe=partial(_probe, done, draft),
    )
    published = transaction.publish(
        api,
        parcel,
        patience,
        private=options.private,
        create_pr=options.create_pr,
        recall=lambda: ledger.intent(draft.kind, draft.id),
        remember=partial(ledger.begin, draft.kind, draft.id),
        told=told,
    )
    record = Record(
        kind=draft.kind,
        repository=draft.id,
        url=f"{api.endpoint}/{'' if draft.kind == 'model' else 'datasets/'}{draft.id}",
        commit=published.commit,
        tag=published.tag,
        public=published.public,
        pull_request=published.pull_request,
        factory=__version__,
        run=done.key,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        checksums=dict(published.checksums),
    )
    ledger.end(record)
    return record, published.changed


def _is_done(draft: Draft, there: Seen, ledger: Ledger) -> Record | None:
    """The record, where the Hub's newest commit is what was read back from it when that was published."""
    page = ledger.page(draft.kind, draft.id)
    record = None if page.created is not None else page.record
    if record is None or there.head != record.commit or there.private == record.public:
        return None
    same = record.checksums == {path: hash_of(source) for path, source in draft.files.items()}
    return record if same else None


def _probe(done: Finished, draft: Draft, back: Path) -> None:
    """Has a child process load what came back."""
    settings = probe.Settings(kind=draft.kind, repository=draft.id)
    log = done.folder.log(f"publish/{draft.kind}-{draft.name}")
    try:
        inputs = {"local": draft.local, "back": back}
        child.run_stage("factory.hub.probe", settings, inputs, back, _silent, log=log)
    except child.ChildFailed as error:
        what = f"what came back from the Hub cannot be loaded: {error}"
        raise StageFailed(what, where=draft.id, mend=f"The end of {log} says why") from error


def _silent(done: int, total: int, unit: str, note: str = "") -> None:
    """The probe's progress is not shown: it takes seconds."""


def _collected(ledger: Ledger, record: Record, slug: str) -> Record:
    told = record.model_copy(update={"collection": slug if record.public else None})
    if told != record:
        ledger.end(told)
    return told
