"""Which files go into each repository of a finished run, and under what names. Before publish.py.

A model repository is the stock folder, the card with its pictures, the recipe, the records of every step the
model depends on, report.json, every scored document and the manifest `factory.json`; a dataset repository
the parquet files, the card, the record and the manifest. Nothing in them differs from call to call, so
publishing again changes nothing; of the folders of this machine they tell the last name, never the path.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from factory import __version__
from factory.errors import FactoryError
from factory.hashing import file_hash
from factory.hub import documents
from factory.hub.forbidden import refuse_forbidden
from factory.hub.manifest import MANIFEST, Manifest, Named, sha256_of
from factory.hub.parcel import Kind
from factory.models.carried import beside
from factory.models.checkpoint import INDEX, weight_files
from factory.recipe.parts import Publish
from factory.recipe.recipe import Recipe
from factory.recipe.variants import MergedVariant
from factory.run.folder import RunFolder, RunPage, open_finished
from factory.run.store import Store

Files = dict[str, Path | bytes]
# Licences that want a derivative's name to begin with Llama; the card refuses one that does not.
_LLAMA = re.compile(r"llama(3(\.\d)?|4)")
_LLAMA_BASE = re.compile(r"(^|/|-)llama-?[34]", re.IGNORECASE)
_LONGEST = 96  # characters of a repository's name on the Hub


@dataclass(frozen=True)
class Finished:
    """A run that ended, and what its recipe wants published."""

    folder: RunFolder
    page: RunPage
    store: Store
    recipe: Recipe
    wanted: Publish

    @property
    def key(self) -> str:
        """What tells this run from any other: its last step's key, which follows from all others."""
        return self.page.steps[-1].key

    def record(self, step: str) -> dict[str, Any]:
        """What is known of a step's artifact."""
        line = next(line for line in self.page.steps if line.name == step)
        return self.store.record(line.stage, line.key)

    def place(self, step: str) -> Path:
        """A step's artifact."""
        line = next(line for line in self.page.steps if line.name == step)
        return self.store.folder(line.stage, line.key)

    def step(self, variant: str) -> str:
        """The step that makes a variant."""
        merged = isinstance(self.recipe.variants[variant], MergedVariant)
        return f"{'merge' if merged else 'train'}/{variant}"


@dataclass(frozen=True)
class Draft:
    """One repository as it is to be.

    Attributes:
        kind: model or dataset.
        name: of the variant or the dataset in the recipe.
        id: namespace/name on the Hub.
        files: all of them.
        local: the model folder, or the dataset's folder, on this machine.
    """

    kind: Kind
    name: str
    id: str
    files: Mapping[str, Path | bytes]
    local: Path

    def sizes(self) -> dict[str, int]:
        """Bytes by path."""
        return {path: size_of(source) for path, source in self.files.items()}


def size_of(source: Path | bytes) -> int:
    """Bytes of a content."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def finished(run: str, runs_dir: Path) -> Finished:
    """The run that is to be published.

    Raises:
        FactoryError: there is none, it is a sweep, not at its end, or its recipe says nothing of publishing.
    """
    folder, page, store = open_finished(run, runs_dir)
    where = str(folder.path)
    try:
        recipe = Recipe.model_validate(_as_written(page.recipe))
    except ValidationError:
        mend = "Run the recipe again: finished steps are kept"
        raise FactoryError("this run is of another version", where=where, mend=mend) from None
    if recipe.publish is None:
        mend = (
            "Add `publish: {namespace: my-org, push: [...]}` to it and run it again: finished steps are kept"
        )
        raise FactoryError("the recipe does not say what to publish", where=where, mend=mend)
    return Finished(folder, page, store, recipe, recipe.publish)


def _as_written(recipe: Any) -> Any:
    """A recipe of run.json as a person may write it: with the names that are read, without blanks."""
    if isinstance(recipe, dict):
        merge = "merge" in recipe  # of which `lambda` is no name that Python takes
        names = {key: "lambda" if merge and key == "lambda_" else key for key in recipe}
        kept = {names[key]: _as_written(value) for key, value in recipe.items() if value is not None}
        return {key: value for key, value in kept.items() if value not in ({}, [])}
    return [_as_written(value) for value in recipe] if isinstance(recipe, list) else recipe


# ---------------------------------------------------------------- names


def repository_names(done: Finished, namespace: str) -> dict[tuple[Kind, str], str]:
    """The repository of every variant and dataset to be published, by kind and name in the recipe.

    Datasets first: models link to them.

    Raises:
        FactoryError: a name that the Hub does not take, or that two would have.
    """
    variants, chosen = done.wanted.push, done.wanted.datasets
    learnt = dict.fromkeys(data for variant in variants for data in done.recipe.learnt_from(variant))
    datasets = chosen if isinstance(chosen, tuple) else tuple(learnt) if chosen else ()
    things: list[tuple[Kind, str]] = [("dataset", name) for name in datasets]
    things += [("model", name) for name in variants]
    found: dict[tuple[Kind, str], str] = {}
    for kind, name in things:
        one = f"{namespace}/{_repository_name(done, name)}"
        for (other_kind, other), taken in found.items():
            if kind == other_kind and taken.lower() == one.lower():
                what = f"'{name}' and '{other}' would both be published as {one}"
                raise FactoryError(what, where=str(done.folder.path), mend="Rename one of them")
        found[kind, name] = one
    return found


def _repository_name(done: Finished, name: str) -> str:
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{done.page.name}-{name}")
    words = re.sub(r"[-.]*(--|\.\.|-\.|\.-)[-.]*", "-", words).strip("-.")
    if _must_be_llama(done):
        words = f"Llama{words[5:]}" if words.lower().startswith("llama") else f"Llama-{words}"
    if len(words) > _LONGEST or words.endswith(".git"):
        mend = "Give the recipe or the variant another name"
        raise FactoryError(f"the Hub takes no name '{words}'", where=str(done.folder.path), mend=mend)
    return words


def _must_be_llama(done: Finished) -> bool:
    if done.wanted.license is not None:
        return _LLAMA.fullmatch(done.wanted.license) is not None
    return _LLAMA_BASE.search(done.recipe.base.model) is not None


# ---------------------------------------------------------------- files


def drafts(done: Finished, namespace: str) -> list[Draft]:
    """Every repository whole, checked; nothing is sent.

    Raises:
        FactoryError: a file must not be published, a licence is not kept, a name does not do.
    """
    names = repository_names(done, namespace)
    siblings = {name: repo for (_, name), repo in names.items()}
    made = []
    for (kind, name), repo in names.items():
        draft = (_model if kind == "model" else _dataset)(done, name, repo, siblings)
        refuse_forbidden(draft.files, repo)
        made.append(draft)
    return made


def _model(done: Finished, variant: str, repo: str, siblings: Mapping[str, str]) -> Draft:
    from factory.hub.card import model_card

    local = done.place(done.step(variant)) / "model"
    card = model_card(done.folder.path, variant, repo, siblings, done.wanted.license)
    files: Files = {path.relative_to(local).as_posix(): path for path in _stock(local)}
    files["README.md"] = card.text.encode()
    files |= card.files
    files["recipe.yaml"] = _yaml(_public(_as_written(done.page.recipe)))
    files["report.json"] = _json(_public(json.loads((done.place("report") / "report.json").read_bytes())))
    for step in _steps_of(done, variant):
        files[f"records/{step}.json"] = _json(_public(done.record(step)))
    scored = {"model": variant, "base": "base", "pruned": "pruned"}
    places = {column: done.place(f"evaluate/{name}") for column, name in scored.items()}
    files[documents.FILE] = documents.packed({c: documents.read_samples(p) for c, p in places.items()})
    return _draft(done, "model", variant, repo, files, local)


def _dataset(done: Finished, name: str, repo: str, siblings: Mapping[str, str]) -> Draft:
    from factory.hub.card import dataset_card

    step = f"regenerate/{name}"
    local = done.place(step)
    card = dataset_card(done.folder.path, name, repo, siblings, done.wanted.license)
    files: Files = {f"data/{path.name}": path for path in sorted((local / "data").glob("*.parquet"))}
    files["README.md"] = card.text.encode()
    files |= card.files
    files["record.json"] = _json(_public(done.record(step)))
    return _draft(done, "dataset", name, repo, files, local)


def _draft(done: Finished, kind: Kind, name: str, repo: str, files: Files, local: Path) -> Draft:
    manifest = Manifest(
        factory=__version__,
        kind=kind,
        repository=repo,
        recipe=done.page.name,
        name=name,
        run=done.key,
        base=_base(done),
        files={path: Named(sha256=hash_of(files[path]), size=size_of(files[path])) for path in sorted(files)},
    )
    whole = {**files, MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode()}
    return Draft(kind, name, repo, whole, local)


def hash_of(source: Path | bytes) -> str:
    """sha256; that of a large file is remembered while size and time stay."""
    return sha256_of(source) if isinstance(source, bytes) else file_hash(source)


def _base(done: Finished) -> dict[str, str]:
    """The base model as it was resolved: where from, its name, its commit or the hash of its content."""
    kind, _, rest = _public(done.record("prune")["inputs"]["base"]).partition(":")
    model, _, revision = rest.rpartition("@")
    return {"from": kind, "model": model, "revision": revision}


def _stock(folder: Path) -> Iterator[Path]:
    """What stock transformers reads of a model folder, and the licences beside it."""
    yield folder / "config.json"
    yield from weight_files(folder)
    if (folder / INDEX).is_file():
        yield folder / INDEX
    for path in beside(folder).carried:
        yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else (path,)


def _steps_of(done: Finished, variant: str) -> list[str]:
    """The steps that a variant and its scores come from, in the run's order."""
    parts = done.recipe.made_of(variant)
    wanted = {"importance", "prune", *(done.step(part) for part in parts)}
    wanted |= {f"regenerate/{name}" for name in done.recipe.learnt_from(variant)}
    wanted |= {f"evaluate/{name}" for name in ("base", "pruned", variant)} | {"measure"}
    wanted |= {"drift/base", *(f"{stage}/{variant}" for stage in ("drift", "draft"))}
    return [line.name for line in done.page.steps if line.name in wanted]


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _yaml(content: Any) -> bytes:
    from ruamel.yaml import YAML

    stream = io.BytesIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False  # type: ignore[assignment]
    yaml.dump(content, stream)
    return stream.getvalue()


def _public(content: Any) -> Any:
    """What a record says, without the folders of this machine: of a path, its last part."""
    if isinstance(content, dict):
        return {key: _public(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_public(value) for value in content]
    if not isinstance(content, str) or "\n" in content:
        return content
    return _PATH.sub(r"\1\2", content)


# A whole text that is an absolute path, or a record's `folder:<path>@<hash>`.
_PATH = re.compile(r"^(folder:)?(?:(?:~|\.{1,2}|[A-Za-z]:)?[/\\]).*[/\\]([^/\\]+)$")
