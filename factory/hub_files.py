"""The few questions that `sources.py` has for the Hugging Face Hub: which commit, which files, fetch them.

huggingface_hub is imported when a question is asked; recipes on local folders never need it. Without a
network, what an earlier run left in its cache is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from factory.endpoint import check_endpoint
from factory.errors import FactoryError
from factory.models.headers import StoredTensor

RepoType = Literal["model", "dataset"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Repository:
    """A repository at one commit and the names of its files."""

    commit: str
    names: tuple[str, ...]


_memory: ContextVar[dict[tuple[str, str, str | None], Repository] | None] = ContextVar("memory", default=None)
_silent: ContextVar[bool] = ContextVar("silent", default=False)


class NotAskedError(Exception):
    """The Hub would have to be asked, within `unasked`."""


@contextmanager
def unasked() -> Iterator[None]:
    """Within, nobody asks the Hub, nor its cache, what a repository is: `repository` raises NotAskedError."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def remembered() -> Iterator[None]:
    """Within, the Hub is asked once for each repository: it is the same commit for all who name it."""
    token = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(token)


def repository(kind: RepoType, reference: str, revision: str | None, where: str | None) -> Repository:
    """Resolves a revision (None: the main branch) to its commit.

    Raises:
        FactoryError: no such repository or revision, no access, or the Hub cannot be reached and the
            cache holds nothing of it.
        NotAskedError: within `unasked`.
    """
    if _silent.get():
        raise NotAskedError
    memory, asked = _memory.get(), (kind, reference, revision)
    if memory is None:
        return _repository(kind, reference, revision, where)
    if asked not in memory:
        memory[asked] = _repository(kind, reference, revision, where)
    return memory[asked]


def _repository(kind: RepoType, reference: str, revision: str | None, where: str | None) -> Repository:
    def ask() -> Repository:
        from huggingface_hub import HfApi

        api = HfApi()
        info: Any = (api.model_info if kind == "model" else api.dataset_info)(reference, revision=revision)
        return Repository(str(info.sha), tuple(sorted(file.rfilename for file in info.siblings or ())))

    try:
        return _asked(ask, kind, reference, revision, where)
    except _Silence as error:
        cached = _cached(kind, reference, revision)
        if cached is None:
            raise error.refusal from None
        return cached


def text(kind: RepoType, reference: str, at: Repository, name: str, where: str | None) -> str | None:
    """The text of a small file of a repository; None where it has none.

    Raises:
        FactoryError: the Hub cannot be reached and the cache does not hold the file.
    """
    if at.names and name not in at.names:
        return None

    def ask() -> str:
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(reference, name, repo_type=kind, revision=at.commit)
        return Path(path).read_text(encoding="utf-8", errors="replace")

    try:
        return _asked(ask, kind, reference, at.commit, where)
    except _Silence as error:
        raise error.refusal from None


def download(kind: RepoType, reference: str, commit: str, files: Sequence[str]) -> Path:
    """Downloads files (patterns) of a repository into the Hub's cache and returns the folder there.

    Raises:
        FactoryError: the Hub cannot be reached, or refuses.
    """

    def ask() -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():  # in a log, bars are but noise between the run's own lines
            disable_progress_bars()
        return Path(snapshot_download(reference, repo_type=kind, revision=commit, allow_patterns=list(files)))

    try:
        return _asked(ask, kind, reference, commit, None)
    except _Silence as error:
        raise error.refusal from None


def tensors(reference: str, commit: str, where: str | None) -> list[StoredTensor]:
    """The tensors of a model repository, from the headers of its safetensors files: ranges, no weights.

    Empty where the Hub cannot be reached now. `file` is a tensor's file in the repository.

    Raises:
        FactoryError: the Hub refuses, or the files are none of safetensors.
    """

    def ask() -> list[StoredTensor]:
        from huggingface_hub import HfApi

        found = HfApi().get_safetensors_metadata(reference, revision=commit)
        return [
            StoredTensor(name, str(info.dtype), tuple(info.shape), Path(file), start, end - start)
            for file, inside in found.files_metadata.items()
            for name, info in inside.tensors.items()
            for start, end in [info.data_offsets]
        ]

    from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

    try:
        return _asked(ask, "model", reference, commit, where)
    except _Silence:
        return []
    except (NotASafetensorsRepoError, SafetensorsParsingError) as error:
        what = f"the weights of '{reference}' cannot be read ({' '.join(str(error).split())[:200]})"
        raise FactoryError(what, where=where, mend="Name a repository with safetensors") from None


def bytes_to_fetch(
    kind: RepoType, reference: str, commit: str, files: Sequence[str]
) -> tuple[int, int] | None:
    """Bytes of the files (patterns) of a repository, and how many of them the cache lacks.

    None where the Hub cannot be asked now.

    Raises:
        FactoryError: the Hub refuses.
    """

    def ask() -> tuple[int, int]:
        from huggingface_hub import HfApi, try_to_load_from_cache
        from huggingface_hub.utils import filter_repo_objects

        api = HfApi()
        answer = api.model_info if kind == "model" else api.dataset_info
        info: Any = answer(reference, revision=commit, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = list(filter_repo_objects(sizes, allow_patterns=list(files)))
        lacking = [
            name
            for name in wanted
            if not isinstance(try_to_load_from_cache(reference, name, repo_type=kind, revision=commit), str)
        ]
        return sum(sizes[name] for name in wanted), sum(sizes[name] for name in lacking)

    try:
        return _asked(ask, kind, reference, commit, None)
    except _Silence:
        return None


class GatedError(FactoryError):
    """Its owner asks readers to accept terms, and no token here says that somebody has."""


class UnreachableError(FactoryError):
    """The Hub did not answer, and the cache does not help."""


class _Silence(Exception):  # noqa: N818 - no error yet: the cache may help
    """The Hub did not answer; `refusal` is what to tell the user if the cache does not help."""

    def __init__(self, refusal: UnreachableError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def _cached(kind: RepoType, reference: str, revision: str | None) -> Repository | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(reference, repo_type=kind, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        return None
    names = sorted(path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file())
    return Repository(found.name, tuple(names))  # the cache names its snapshots by commit


def _asked(
    ask: Callable[[], Answer], kind: RepoType, reference: str, revision: str | None, where: str | None
) -> Answer:
    check_endpoint()
    from huggingface_hub import errors

    try:
        return ask()
    except errors.GatedRepoError:
        mend = "Accept its terms on the Hub and run `hf auth login`"
        raise GatedError(f"the {kind} '{reference}' is gated", where=where, mend=mend) from None
    except errors.RevisionNotFoundError:
        mend = "Give a branch, tag or commit that exists"
        raise FactoryError(f"'{reference}' has no revision '{revision}'", where=where, mend=mend) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        what = f"there is no {kind} '{reference}', neither as a folder nor on the Hub"
        raise FactoryError(what, where=where, mend="Correct the name, or log in if it is private") from None
    except (OSError, errors.HTTPError) as error:  # offline mode and missing cache entries are OSErrors
        what = (
            f"'{reference}' is no folder, and the Hub cannot be asked for a {kind} of that name "
            f"({type(error).__name__})"
        )
        mend = "Correct the path, or go online once (HF_HUB_OFFLINE unset)"
        raise _Silence(UnreachableError(what, where=where, mend=mend)) from None
