"""A finished run, read for its cards: the report, the record of every step, and where all of it came from.

Under card.py. Cards print what stands in the report and the records and in the configs of the models, and
nothing else. What a run names from outside is an `Origin`: of a folder of this machine the card tells its
last name and its content's hash, never the path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from factory import hub_files
from factory.errors import FactoryError
from factory.hub_files import RepoType
from factory.nearest import suggest
from factory.run.folder import open_finished

BASE = "base"


@dataclass(frozen=True)
class Origin:
    """A model or dataset from outside, as a record names it: `hub:openai/gsm8k@<commit>`.

    Attributes:
        kind: `hub`, `folder` or `sandbox`.
        reference: the Hub id, the folder or `sandbox/<name>`.
        fingerprint: the Hub commit, or the hash of the content.
        repo: what kind of repository it is.
    """

    kind: str
    reference: str
    fingerprint: str
    repo: RepoType = "model"

    @classmethod
    def of(cls, written: str, repo: RepoType = "model") -> Origin:
        """From a record's `inputs`."""
        kind, _, rest = written.partition(":")
        reference, _, fingerprint = rest.rpartition("@")
        return cls(kind, reference, fingerprint, repo)

    @property
    def name(self) -> str:
        """What a card calls it."""
        return Path(self.reference).name if self.kind == "folder" else self.reference

    @property
    def hub_id(self) -> str | None:
        """Its id, where it is a repository of the Hub."""
        return self.reference if self.kind == "hub" else None

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine, if it is known."""
        if self.kind == "sandbox" and self.reference == "sandbox/base":
            from factory import sandbox

            return sandbox.model_folder()
        path = Path(self.reference)
        return path if self.kind == "folder" and path.is_absolute() and path.is_dir() else None

    def text(self, name: str) -> str | None:
        """A small text file of it, such as README.md; None where it has none.

        Raises:
            FactoryError: the Hub cannot be asked.
        """
        if self.kind == "hub":
            at = hub_files.Repository(self.fingerprint, ())
            return hub_files.text(self.repo, self.reference, at, name, None)
        path = self.folder / name if self.folder else None
        return path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else None


@dataclass(frozen=True)
class Finished:
    """A run whose every step is there.

    Attributes:
        folder: of the run.
        recipe: as resolved.
        report: report.json.
        records: by step, such as `train/merged`.
        artifacts: by step, their folders.
    """

    folder: Path
    recipe: Mapping[str, Any]
    report: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    artifacts: Mapping[str, Path]

    @property
    def base(self) -> Origin:
        """The base model."""
        return Origin.of(self.records["prune"]["inputs"]["base"])

    @property
    def variants(self) -> list[str]:
        """The names a model card can be made for, the pruned model among them."""
        return [model["name"] for model in self.report["models"] if model["kind"] != BASE]

    @property
    def datasets(self) -> list[str]:
        """The names a dataset card can be made for: the regenerated sets."""
        return [name.partition("/")[2] for name in self.records if name.startswith("regenerate/")]

    def model(self, name: str) -> Mapping[str, Any]:
        """A model's row of the report."""
        return next(model for model in self.report["models"] if model["name"] == name)

    def step(self, variant: str) -> str:
        """The name of the step that made a variant."""
        kind = self.model(variant)["kind"]
        return "prune" if kind == "pruned" else f"{'merge' if kind == 'merged' else 'train'}/{variant}"

    def model_folder(self, variant: str) -> Path:
        """The stock folder of a variant."""
        return self.artifacts[self.step(variant)] / "model"

    def trained_into(self, variant: str) -> list[str]:
        """The trained variants that a variant is or is merged from, each once."""
        return list(dict.fromkeys(self._trained(variant)))

    def _trained(self, variant: str) -> Iterator[str]:
        found = self.model(variant)
        if found["kind"] == "trained":
            yield variant
        for part in found["of"]:
            if part in self.variants:
                yield from self._trained(part)

    @property
    def sources(self) -> dict[str, Origin]:
        """By dataset of the recipe, where it came from; those that nothing read are not told."""
        found = {}
        for name, record in self.records.items():
            stage, _, own = name.partition("/")
            if stage == "regenerate":
                found[own] = self._source(record["inputs"]["data"])
            elif stage == "train":
                roles = {role.removeprefix("data."): place for role, place in record["inputs"].items()}
                found |= {role: self._source(roles[role]) for role in self.model(own)["data"]}
        return found

    def _source(self, place: str) -> Origin:
        """What a place in a record's `inputs` comes from: a step's key leads on to what that step read."""
        while ":" not in place:
            key = place.partition("/")[0]
            inputs = next(record["inputs"] for record in self.records.values() if record["key"] == key)
            place = inputs["data"]
        return Origin.of(place, "dataset")


def finished(run: Path) -> Finished:
    """Reads the run in a folder `runs/<recipe>`.

    Raises:
        FactoryError: there is no run, it is a sweep, or a step of it is missing.
    """
    folder, page, store = open_finished(str(run), run.parent)
    artifacts = {step.name: store.folder(step.stage, step.key) for step in page.steps}
    report = json.loads((artifacts["report"] / "report.json").read_text(encoding="utf-8"))
    records = {step.name: store.record(step.stage, step.key) for step in page.steps}
    return Finished(folder.path, page.recipe, report, records, artifacts)


@contextmanager
def of_this_version(run: Path) -> Iterator[None]:
    """Turns what a report or record lacks, because another version wrote it, into one line.

    Raises:
        FactoryError: something is missing.
    """
    try:
        yield
    except (LookupError, StopIteration, UndefinedError) as error:
        lacking = error.args[0] if error.args else type(error).__name__
        what = f"the records of this run do not tell what a card tells ({lacking})"
        mend = "Another version of the factory made them: run the recipe again"
        raise FactoryError(what, where=str(run), mend=mend) from error


def known(name: str, among: list[str], what: str, run: Finished) -> None:
    """Refuses a name that the run does not have.

    Raises:
        FactoryError: so it is.
    """
    if name not in among:
        said = f'the run "{run.report["recipe"]}" has no {what} "{name}"'
        raise FactoryError(said, where=str(run.folder), mend=suggest(name, among))
