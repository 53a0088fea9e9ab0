"""`factory pull`: a published model or dataset with its record, every file compared with the manifest.

Fetched into a hidden folder beside its place, compared, renamed: it is whole or absent. What the manifest
does not name is not fetched.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub.manifest import MANIFEST, Manifest, read_manifest, sha256_of
from factory.hub.parcel import Kind, escaped
from factory.hub.session import Patience, connect, patiently, refusal
from factory.run.store import Lock, sync_tree

LOCK = ".lock"


@dataclass(frozen=True)
class Pulled:
    """What is on this machine now; `fresh` is False where it was there already."""

    manifest: Manifest
    folder: Path
    commit: str
    fresh: bool


def pull(
    name: str, revision: str | None, out: Path | None, patience: Patience, told: Callable[[str], None]
) -> Pulled:
    """Fetches a repository that the factory published.

    Args:
        name: namespace/name of a model or, where there is none, a dataset; `datasets/...` is a dataset.
        revision: a tag, branch or commit; by default the newest.
        out: the folder to make; by default of the repository's name, here.
        patience: with the Hub.
        told: called with each step as it begins.

    Raises:
        FactoryError: there is no such repository, it has no manifest, a file is another than the manifest
            says, the folder is taken, or the Hub does not answer.
    """
    api = connect(patience)
    place = out or Path(name.rpartition("/")[2])
    try:
        told("look")
        kind, repo, commit = _find(api, name, revision, patience)
        manifest, content = _manifest(api, kind, repo, commit, patience)
        if place.exists():
            _check_there(place, content, manifest, repo)
            return Pulled(manifest, place, commit, fresh=False)
        with _partial(place) as folder:
            told("fetch")
            words: dict[str, Any] = {"repo_id": repo, "repo_type": kind, "revision": commit}
            patterns = [escaped(path) for path in manifest.files]
            fetch = partial(api.snapshot_download, **words, local_dir=folder, allow_patterns=patterns)
            patiently(fetch, patience)
            told("compare")
            _compare(folder, manifest, repo)
            (folder / MANIFEST).write_bytes(content)
            sync_tree(folder)
            folder.rename(place)
    except FactoryError:
        raise
    except OSError as error:
        if error.filename is None and error.errno is None:  # an HTTP error is one too
            raise refusal(error, name, sending=False) from error
        mend = "Name a folder that may be written, with --out"
        raise FactoryError(error.strerror or str(error), where=str(place), mend=mend) from error
    except Exception as error:
        raise refusal(error, name, sending=False) from error
    return Pulled(manifest, place, commit, fresh=True)


def _find(api: Any, name: str, revision: str | None, patience: Patience) -> tuple[Kind, str, str]:
    """Kind, id and commit of what a person means."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    repo = name.removeprefix("datasets/") if name.count("/") == 2 else name
    kinds: tuple[Kind, ...] = ("dataset",) if repo != name else ("model", "dataset")
    for kind in kinds:
        try:
            ask = partial(api.repo_info, repo, repo_type=kind, revision=revision)
            return kind, repo, str(patiently(ask, patience).sha)
        except HFValidationError as error:
            mend = "Write it as namespace/name"
            raise FactoryError(f"'{name}' is no name of a repository", mend=mend) from error
        except RevisionNotFoundError as error:
            what, mend = f"there is no revision '{revision}'", "Name a tag, a branch or a commit"
            raise FactoryError(what, where=repo, mend=mend) from error
        except RepositoryNotFoundError:
            continue
    mend = "Look at the name, and whether your token may see it"
    raise FactoryError("the Hub has no such model or dataset", where=name, mend=mend)


def _manifest(api: Any, kind: Kind, repo: str, commit: str, patience: Patience) -> tuple[Manifest, bytes]:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with tempfile.TemporaryDirectory(prefix="factory-manifest-") as folder:
        words = {"repo_id": repo, "repo_type": kind, "revision": commit, "local_dir": folder}
        try:
            fetch = partial(api.hf_hub_download, filename=MANIFEST, **words)
            content = Path(patiently(fetch, patience)).read_bytes()
        except LocalEntryNotFoundError:  # the Hub did not answer
            raise
        except EntryNotFoundError as error:
            what = f"the factory did not publish this: it has no {MANIFEST} to compare its files with"
            mend = f"Fetch it with `hf download {repo}`"
            raise FactoryError(what, where=repo, mend=mend) from error
    return read_manifest(content, repo), content


@contextmanager
def _partial(place: Path) -> Iterator[Path]:
    """A hidden folder beside `place`; it stays after a failure, so that the next try goes on with it."""
    folder = place.absolute().with_name(f".{place.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / LOCK)
    if not lock.take():
        mend = "Wait for it, or name another folder with --out"
        raise FactoryError(f"{lock.holder()} is fetching into this folder", where=str(place), mend=mend)
    try:
        yield folder
        if place.exists():
            (place / LOCK).unlink(missing_ok=True)
    finally:
        lock.release()


def first_difference(folder: Path, manifest: Manifest) -> tuple[str, str] | None:
    """The first file that is not what the manifest says, and what is wrong with it."""
    for path, named in manifest.files.items():
        file = folder / path
        if not file.is_file():
            return path, f"{MANIFEST} names {path}, which is not there"
        if file.stat().st_size != named.size or sha256_of(file) != named.sha256:
            return path, f"{path} is not what {MANIFEST} says"
    return None


def _compare(folder: Path, manifest: Manifest, repo: str) -> None:
    """Refuses what came where it is not as published, and takes away what an earlier try left besides."""
    different = first_difference(folder, manifest)
    if different is not None:
        (folder / different[0]).unlink(missing_ok=True)  # damaged on the way, it is fetched again
        mend = "It was changed after it was published: do not use it; an earlier --revision may be whole"
        raise FactoryError(different[1], where=repo, mend=mend)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's own notes
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in (*manifest.files, LOCK):
            path.unlink()


def _check_there(place: Path, content: bytes, manifest: Manifest, repo: str) -> None:
    """Accepts a folder that holds just what would be fetched."""
    mend = "Remove it, or name another folder with --out"
    try:
        same = (place / MANIFEST).read_bytes() == content
    except OSError:
        same = False
    if not same:
        raise FactoryError(f"there is something else than {repo} here", where=str(place), mend=mend)
    different = first_difference(place, manifest)
    if different is not None:
        raise FactoryError(different[1], where=str(place), mend=mend)
