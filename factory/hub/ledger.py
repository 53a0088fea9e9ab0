"""What this machine knows of a run's publications: `runs/<recipe>/publish/<host>/`, a file a repository.

Beside publish.py. Each Hub has a folder of its own, so that a rehearsal says nothing of the real Hub: whether
a repository is ours to make public is remembered from before it is created until it is published, no longer.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from factory.errors import FactoryError
from factory.hub.parcel import Kind
from factory.hub.transaction import Intent
from factory.run.store import write_atomically
from factory.stages import Frozen

FOLDER = "publish"


class Record(Frozen):
    """What was published, and where. `made` is the time, `checksums` sha256 by path."""

    kind: Kind
    repository: str
    url: str
    commit: str
    tag: str | None
    public: bool
    pull_request: int | None
    collection: str | None = None
    factory: str
    run: str
    made: str
    checksums: dict[str, str]


class Page(Frozen):
    """A file of the ledger; `created` is None but while a publication is under way (`Intent`)."""

    created: bool | None = None
    record: Record | None = None


class Ledger:
    """The publications of one run on one Hub.

    Args:
        run: the folder runs/<recipe>.
        endpoint: the Hub's address.
    """

    def __init__(self, run: Path, endpoint: str) -> None:
        self.folder = run / FOLDER / urlsplit(endpoint).netloc.rpartition("@")[2].replace(":", "_")

    def page(self, kind: Kind, repository: str) -> Page:
        """What is known of a repository; an empty page where that is nothing."""
        return _read(self._path(kind, repository)) or Page()

    def intent(self, kind: Kind, repository: str) -> Intent | None:
        """What a publication that did not end remembered."""
        created = self.page(kind, repository).created
        return None if created is None else Intent(created)

    def begin(self, kind: Kind, repository: str, intent: Intent) -> None:
        """Remembers an intent before anything is sent."""
        page = self.page(kind, repository)
        if page.created != intent.created:
            self._write(kind, repository, page.model_copy(update={"created": intent.created}))

    def end(self, record: Record) -> None:
        """Keeps what was published, and forgets the intent."""
        self._write(record.kind, record.repository, Page(record=record))

    def forget(self, kind: Kind, repository: str) -> None:
        """Forgets an intent of which nothing else is to be kept."""
        self._path(kind, repository).unlink(missing_ok=True)

    def _write(self, kind: Kind, repository: str, page: Page) -> None:
        path = self._path(kind, repository)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page.model_dump_json(indent=1) + "\n")

    def _path(self, kind: Kind, repository: str) -> Path:
        return self.folder / f"{kind}s--{repository.replace('/', '--')}.json"


def published(run: Path) -> list[Record]:
    """All that was published of a run, on whichever Hub."""
    pages = (_read(path) for path in sorted((run / FOLDER).glob("*/[!.]*.json")))
    return [page.record for page in pages if page is not None and page.record is not None]


def _read(path: Path) -> Page | None:
    try:
        return Page.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is damaged, or of another version"
        mend = "Look at the repository on the Hub, then remove this file"
        raise FactoryError(f"cannot be read: {said}", where=str(path), mend=mend) from None
