"""Datasets from a folder into the local Hub, so that `openai/gsm8k` and others can be asked for by name.

It has a folder a dataset, <namespace>__<name>/<config>/<split>.parquet, as `factory evaluate --data`
takes it. A benchmark of a suite is stored under the very commit id that the suite pins, so that what asks for
the pinned commit gets these rows: they stand in for it, and need not be all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from factory.errors import FactoryError
from factory.hub.local.storage import MAIN, ConflictError, Entry, Store
from factory.tasks.suites import SUITES

AUTHOR = "local-hub"


def pinned() -> dict[str, str]:
    """The commit that a suite pins, by dataset."""
    return {
        task.dataset: task.revision for suite in SUITES.values() for task in suite.values() if task.revision
    }


def find(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of every dataset in a folder, by Hub id.

    Raises:
        FactoryError: there are none.
    """
    found = {
        path.name.replace("__", "/", 1): sorted(path.glob("*/*.parquet"))
        for path in sorted(folder.glob("*__*"))
        if path.is_dir()
    }
    found = {name: files for name, files in found.items() if files}
    if not found:
        what = "there are no datasets here"
        mend = "Name a folder with <namespace>__<name>/<config>/<split>.parquet in it"
        raise FactoryError(what, where=str(folder), mend=mend)
    return found


def load(store: Store, folder: Path, told: Callable[[str, int], None]) -> list[str]:
    """Stores every dataset of a folder; one that is there already, with the same files, stays as it is.

    Args:
        store: of the Hub.
        folder: the datasets.
        told: called with each dataset's id and number of files once it is stored.

    Returns:
        The ids of the datasets in the folder.

    Raises:
        FactoryError: there are none.
    """
    found, commits = find(folder), pinned()
    for name, paths in found.items():
        files: dict[str, Entry] = {}
        for path in paths:
            sha256, size = store.blobs.add_file(path)
            files[f"{path.parent.name}/{path.stem}-00000-of-00001.parquet"] = store.large(sha256, size)
        files["README.md"] = store.regular(_card(paths).encode())
        _commit(store, name, files, commits.get(name))
        told(name, len(paths))
    return list(found)


def _commit(store: Store, name: str, files: dict[str, Entry], as_id: str | None) -> None:
    with store.locked():
        try:
            repository = store.create("datasets", name, AUTHOR, private=False)
        except ConflictError:
            repository = store.load("datasets", name)
        head = store.resolve(repository, MAIN)
        files = {".gitattributes": head.files[".gitattributes"], **files}
        if head.files == files:
            return
        if as_id == head.id:  # other rows under the same name would be a lie
            what = f"{name} is here at commit {as_id[:12]} with other rows"
            raise FactoryError(what, where=str(store.root), mend="Load into a new --root")
        commit = store.record("datasets", name, [head.id], "Load rows", "", AUTHOR, files, as_id)
        repository.refs[MAIN] = commit.id
        store.save(repository)


def _card(paths: list[Path]) -> str:
    configs: dict[str, list[dict[str, str]]] = {}
    for path in paths:
        place = f"{path.parent.name}/{path.stem}-*.parquet"
        configs.setdefault(path.parent.name, []).append({"split": path.stem, "path": place})
    text, yaml = StringIO(), YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump({"configs": [{"config_name": c, "data_files": f} for c, f in configs.items()]}, text)
    return (
        f"---\n{text.getvalue()}---\nRows from a local folder, for a rehearsal; the original is on the Hub.\n"
    )
