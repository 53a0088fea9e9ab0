"""A look before anything is sent: repositories as they are, and what could only fail. Under publish.py."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from factory.endpoint import is_local
from factory.errors import FactoryError
from factory.hub.contents import Draft, Finished
from factory.hub.manifest import MANIFEST, read_manifest
from factory.hub.session import Patience, patiently, refusal

# What a repository may hold that nobody would call its content.
EMPTY = frozenset((".gitattributes", ".gitignore", "README.md", "LICENSE"))


@dataclass(frozen=True)
class Options:
    """How a run is published; see the command's options."""

    namespace: str
    private: bool = False
    create_pr: bool = False
    trusted: bool = False


@dataclass(frozen=True)
class Seen:
    """What the Hub has of a repository.

    Attributes:
        head: the commit, None where there is no repository.
        private: whether not everybody sees it.
        files: by path, the sha256 of large files, git's name of the others.
        owned: the files that an earlier publication put there, None where there was none.
    """

    head: str | None = None
    private: bool = True
    files: Mapping[str, str] | None = None
    owned: frozenset[str] | None = None


def look(api: Any, draft: Draft, patience: Patience) -> Seen:
    """What the Hub has in a draft's place.

    Raises:
        FactoryError: it does not answer, or refuses.
    """
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    words = {"repo_id": draft.id, "repo_type": draft.kind}
    try:
        try:
            info = patiently(lambda: api.repo_info(**words), patience)
        except RepositoryNotFoundError:
            return Seen()
        ask = partial(api.list_repo_tree, **words, revision=info.sha, recursive=True)
        entries = patiently(lambda: list(ask()), patience)
        found = [entry for entry in entries if isinstance(entry, RepoFile)]
        files = {entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in found}
        owned = None
        if MANIFEST in files:
            with tempfile.TemporaryDirectory(prefix="factory-manifest-") as folder:
                fetch = partial(api.hf_hub_download, **words, filename=MANIFEST, revision=info.sha)
                path = patiently(lambda: fetch(local_dir=folder), patience)
                owned = frozenset(read_manifest(Path(path).read_bytes(), draft.id).files)
    except FactoryError:
        raise
    except Exception as error:
        raise refusal(error, draft.id) from error
    return Seen(str(info.sha), bool(info.private), files, owned)


def check_size(done: Finished, endpoint: str) -> None:
    """Refuses a miniature anywhere but on a Hub of this machine: it would stand there as a model."""
    if done.recipe.miniature and not is_local(endpoint):
        host = urlsplit(endpoint).hostname
        what = f"a miniature is not published on {host}: it is the sandbox model with a few rows"
        mend = (
            "Publish it on a Hub of this machine (factory hub serve, HF_ENDPOINT), or run the recipe itself"
        )
        raise FactoryError(what, where=str(done.folder.path), mend=mend)


def check(draft: Draft, there: Seen, options: Options, patience: Patience) -> None:
    """Refuses before anything is sent what could only fail, or spoil what somebody else made."""
    if options.create_pr and there.head is None:
        what = "there is no repository to open a pull request on"
        raise FactoryError(what, where=draft.id, mend="Leave --create-pr out, or ask its owners to create it")
    foreign = sorted((there.files or {}).keys() - EMPTY) if there.owned is None else []
    if foreign and not options.create_pr:
        what = f"this repository holds {foreign[0]}, which factory did not publish"
        raise FactoryError(what, where=draft.id, mend="Use another name or namespace, or --create-pr")
    _check_card(draft, patience)


def check_room(drafts: Sequence[Draft]) -> None:
    """Refuses what there is no room for while it is read back; that is one repository at a time."""
    if not drafts:
        return
    wanted, largest = max((sum(draft.sizes().values()), draft.id) for draft in drafts)
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if wanted > free:
        what = f"to read {largest} back takes {wanted / 1e6:,.1f} MB, this disk has {free / 1e6:,.1f} MB left"
        raise FactoryError(what, where=place, mend="Make room, or set TMPDIR to a folder on another disk")


def _check_card(draft: Draft, patience: Patience) -> None:
    from huggingface_hub import RepoCard

    text = draft.files["README.md"]
    card = RepoCard(text.decode() if isinstance(text, bytes) else text.read_text(encoding="utf-8"))
    try:
        patiently(lambda: card.validate(repo_type=draft.kind), patience)
    except ValueError as error:
        what = f"the Hub does not take the card: {' '.join(str(error).split())[:200]}"
        raise FactoryError(
            what, where=draft.id, mend="Correct `license` in the recipe's `publish`"
        ) from error
    except Exception as error:
        raise refusal(error, draft.id) from error
