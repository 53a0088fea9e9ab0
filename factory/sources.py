"""The models and datasets a recipe refers to: found, checked and fingerprinted before anything runs.

Between recipe/recipe.py and plan/plan.py: a reference is `sandbox/<name>`, a local folder (relative to the
recipe, or absolute), or a Hub id; what comes out is a `Source`, whose fingerprint goes into the keys of the
steps that read it. run/run.py turns it into a folder with `materialise`. Nothing is downloaded here but a
repository's list of files and its config.json or README.md; no weights, no data, and no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from factory import hub_files
from factory.data.files import Selected, Wanted, list_files, select, select_local
from factory.errors import FactoryError
from factory.hashing import files_hash
from factory.models.carried import CARRIED, is_carried
from factory.models.checkpoint import INDEX, read_config, stored_tensors, weight_files
from factory.models.headers import StoredTensor
from factory.models.usable import check_config, check_model_folder, check_names
from factory.nearest import suggest

SANDBOX = "sandbox/"
WRITTEN = ".files.json"  # in a written sandbox dataset: its files with their sizes in bytes
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
# Part of a Hub model repository that is downloaded: what makes a stock folder, at its top.
_MODEL_FILES = ("config.json", INDEX, *CARRIED)


@dataclass(frozen=True)
class Source:
    """A model or dataset from outside.

    Attributes:
        kind: where it comes from.
        reference: as the recipe names it.
        fingerprint: hash of the content, or the Hub commit.
        path: its folder; None where `materialise` has to make it.
        repo: `model` or `dataset`, for the Hub.
        files: of a Hub repository, the patterns of the files needed.
        prunable: of a model: its family is one whose blocks can be removed.
    """

    kind: Literal["sandbox", "folder", "hub"]
    reference: str
    fingerprint: str
    path: Path | None = None
    repo: Literal["model", "dataset"] = "model"
    files: tuple[str, ...] = ()
    prunable: bool = True


def resolve_model(
    reference: str, revision: str | None, where: str, folder: Path, *, prunable: bool = True
) -> Source:
    """Finds and checks a model.

    Args:
        reference: `sandbox/base`, a folder, or a Hub id.
        revision: a branch, tag or commit of a Hub id.
        where: place in the recipe, for messages.
        folder: what relative references start from.
        prunable: whether its family must be one whose blocks can be removed.

    Raises:
        FactoryError: there is no such model, it has no config, safetensors or tokenizer, wants its own code,
            or is of another family than it must be; or the Hub cannot be asked.
    """
    if reference.startswith(SANDBOX):
        from factory import sandbox

        if reference != f"{SANDBOX}base":
            mend = suggest(reference, [f"{SANDBOX}base"])
            raise FactoryError(f"there is no model '{reference}'", where=where, mend=mend)
        _no_revision(reference, revision, "part of the factory", where)
        path = sandbox.model_folder()
        return Source("sandbox", reference, _check_model(path, reference, where, prunable), path)
    local = _local(reference, revision, "model", where, folder)
    if local is not None:
        return Source("folder", reference, _check_model(local, reference, where, prunable), local)
    repository = hub_files.repository("model", reference, revision, where)
    check_names(repository.names, reference, where)
    files = (*_weights(repository, reference, where), *_MODEL_FILES)
    source = Source("hub", reference, repository.commit, None, "model", files, prunable)
    check_config(config_of(source, where), reference, where, prunable)
    return source


def _weights(repository: hub_files.Repository, reference: str, where: str) -> tuple[str, ...]:
    """The files with a model's weights; some repositories hold the same weights again in another form."""
    if "model.safetensors" in repository.names:
        return ("model.safetensors",)
    text = hub_files.text("model", reference, repository, INDEX, where)
    try:
        return tuple(sorted(set(json.loads(text or "")["weight_map"].values())))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ("*.safetensors",)


def resolve_dataset(reference: str, revision: str | None, where: str, folder: Path, wanted: Wanted) -> Source:
    """Finds a dataset and checks that the configs and splits asked for are there.

    The fingerprint covers the files of `wanted` alone, so another split may change freely.

    Args:
        reference: `sandbox/<name>`, a folder, or a Hub id.
        revision: a branch, tag or commit of a Hub id.
        where: place in the recipe, for messages.
        folder: what relative references start from.
        wanted: the configs and splits that are read.

    Raises:
        FactoryError: there is no such dataset, config or split; or the Hub cannot be asked.
    """
    if reference.startswith(SANDBOX):
        from factory import sandbox

        name = reference.removeprefix(SANDBOX)
        if name not in sandbox.DATASETS:
            mend = suggest(reference, [SANDBOX + known for known in sandbox.DATASETS])
            raise FactoryError(f"there is no dataset '{reference}'", where=where, mend=mend)
        _no_revision(reference, revision, "part of the factory", where)
        digest = hashlib.sha256(f"{sandbox.FINGERPRINT}\0{name}".encode()).hexdigest()[:32]
        return Source("sandbox", reference, digest, None, "dataset")
    local = _local(reference, revision, "dataset", where, folder)
    if local is not None:
        chosen = select_local(local, wanted, where)
        files = _flat(chosen, list_files(local), wanted)
        digest = files_hash(local, (local / name for name in files))
        return Source("folder", reference, digest, local, "dataset")
    repository = hub_files.repository("dataset", reference, revision, where)
    card = hub_files.text("dataset", reference, repository, "README.md", where)
    files = _flat(select(repository.names, card, wanted, where), repository.names, wanted)
    return Source("hub", reference, repository.commit, None, "dataset", ("README.md", *files))


def materialise(source: Source, cache: Path) -> Path:
    """The folder of a source; sandbox datasets are written to `cache`, Hub repositories downloaded.

    Raises:
        FactoryError: the download failed, or what came is not usable.
    """
    if source.path is not None:
        return source.path
    if source.kind == "hub":
        path = hub_files.download(source.repo, source.reference, source.fingerprint, source.files)
        if source.repo == "model":
            check_model_folder(path, source.prunable)
        return path
    return _write_sandbox(source, cache)


@contextmanager
def at_hand(dataset: Source) -> Iterator[Path | None]:
    """The folder of a dataset whose rows can be checked now; None where it must be downloaded first.

    Its files are for reading only: of a sandbox dataset they serve this process to its end.
    """
    if dataset.kind == "sandbox":
        yield Path(_sandbox_rows(dataset.reference.removeprefix(SANDBOX)).name)
    else:
        yield dataset.path


@cache
def _sandbox_rows(name: str) -> tempfile.TemporaryDirectory[str]:
    """A sandbox dataset as JSON lines, made up once: writing parquet would take longer than all checks of it.

    The folder goes with the process.
    """
    from factory.sandbox import datasets

    folder = tempfile.TemporaryDirectory(prefix="factory-")
    for (config, split), rows in datasets.MAKERS[name]().items():
        file = Path(folder.name) / config / f"{split}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _write_sandbox(source: Source, cache: Path) -> Path:
    from factory import sandbox

    name = source.reference.removeprefix(SANDBOX)
    target = cache / f"sandbox-{name}-{source.fingerprint}"
    listed = target / WRITTEN
    try:
        if all((target / n).stat().st_size == size for n, size in json.loads(listed.read_text()).items()):
            return target
    except (OSError, ValueError, AttributeError):  # not there, or somebody took a part of it away
        shutil.rmtree(target, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    try:
        sandbox.write_dataset(name, beside)
        sizes = {n: (beside / n).stat().st_size for n in list_files(beside)}
        (beside / WRITTEN).write_text(json.dumps(sizes), encoding="utf-8")
        beside.chmod(0o755)  # mkdtemp's folders are private
        try:
            beside.rename(target)  # whole or absent; of two runs at once one is first
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def config_of(source: Source, where: str | None = None) -> dict[str, Any]:
    """The parsed config.json of a model.

    Raises:
        FactoryError: it cannot be read.
    """
    if source.path is not None:
        return read_config(source.path)
    repository = hub_files.Repository(source.fingerprint, ())
    text = hub_files.text("model", source.reference, repository, "config.json", where) or ""
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        what = f"config.json of '{source.reference}' is not a JSON object"
        raise FactoryError(what, where=where, mend="Name another model or revision")
    return config


def tensors_of(source: Source, where: str | None = None) -> list[StoredTensor]:
    """The tensors of a model, from headers alone; none where its weights cannot be asked for now.

    Raises:
        FactoryError: they cannot be read.
    """
    if source.path is not None:
        return stored_tensors(source.path)
    return hub_files.tensors(source.reference, source.fingerprint, where)


def has_chat_template(folder: Path) -> bool:
    """Whether a model folder's tokenizer knows how to write a conversation."""
    if any(folder.glob("chat_template*")) or any(folder.glob("additional_chat_templates/*")):
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _local(reference: str, revision: str | None, kind: str, where: str, folder: Path) -> Path | None:
    """The folder that a reference names, absolute; None where it can only be a Hub id."""
    written = Path(reference).expanduser() if reference.startswith("~") else Path(reference)
    path = Path(os.path.abspath(folder / written))  # noqa: PTH100 - resolve() would follow links
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # no name that a folder could have: too long, or with a NUL
        there = is_folder = False
    if is_folder:
        _no_revision(reference, revision, "a local folder", where)
        return path
    if there:
        mend = f"Name the folder that holds the {kind}"
        raise FactoryError(f"'{reference}' is a file, not a folder", where=where, mend=mend)
    plain = not written.is_absolute() and not reference.startswith((".", "~"))
    if plain and _HUB_ID.match(reference):
        return None
    mend = f"Give a folder that exists, or the Hub id of a {kind}"
    raise FactoryError(f"there is no {kind} folder '{reference}'", where=where, mend=mend)


def _no_revision(reference: str, revision: str | None, kind: str, where: str) -> None:
    if revision is not None:
        what = f"'{reference}' is {kind}, which has no revisions"
        raise FactoryError(what, where=where, mend="Leave the revision out")


def _flat(chosen: Selected, names: Sequence[str], wanted: Wanted) -> list[str]:
    files = {name for splits in chosen.values() for split in splits.values() for name in split}
    return sorted(files | (set(names) & set(wanted.beside)))


def _check_model(folder: Path, reference: str, where: str, prunable: bool) -> str:
    """Checks a model folder; returns its fingerprint."""
    try:
        check_model_folder(folder, prunable)
    except FactoryError as error:  # the recipe's line is what the user can change
        file = Path(error.where or "")
        named = f"{file.name}: " if file.suffix == ".safetensors" else ""  # one of many, perhaps
        what = f"model '{reference}': {named}{error.what}"
        raise FactoryError(what, where=where, mend=error.mend) from None
    files = {folder / "config.json", *weight_files(folder)}
    names = (file for file in folder.iterdir() if file.name == INDEX or is_carried(file.name))
    files |= {file for file in names if file.is_file()}
    return files_hash(folder, files)
