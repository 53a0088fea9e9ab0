"""Dataset folders in the usual Hugging Face layouts: which files hold a config and split.

`sources.py` checks and hashes these files when a recipe is read, `rows.py` loads them when a stage runs; how
one of them is read is told in reading.py. The `datasets` library would copy everything into its cache and
takes a second to import; a recipe must be checked at once and without writing. Layouts understood, as
`datasets` does:
https://huggingface.co/docs/datasets/repository_structure

    README.md with `configs:` in its front matter
    <config>/<split>.parquet, <config>/<split>-00000-of-00002.parquet, <config>/<split>/*.parquet
    the same without <config>, or below data/; files that name no split are `train`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from factory import front_matter
from factory.errors import FactoryError
from factory.nearest import suggest

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz")
SPLITS = ("train", "validation", "valid", "dev", "test")  # names that mark a split without being asked for
Selected = dict[str, dict[str, list[str]]]  # config -> split -> names of its files in order
_NOT_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "record.json")


def list_files(folder: Path) -> list[str]:
    """All files below a folder that may matter, relative, `/`-separated, sorted; hidden ones left out."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _data(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(SUFFIXES) and PurePosixPath(name).name not in _NOT_DATA]


def data_names(names: Iterable[str], where: str) -> list[str]:
    """Those of a dataset's file names that are data files.

    Raises:
        FactoryError: there are none.
    """
    data = _data(names)
    if not data:
        mend = f"It needs files such as data/train.parquet ({', '.join(SUFFIXES[:4])})"
        raise FactoryError("the dataset holds no data files", where=where, mend=mend)
    return data


def declared_configs(readme: str, where: str) -> dict[str, Mapping[str, Any]]:
    """The `configs:` of a README's front matter by name; the default one is also under ``""``.

    Raises:
        FactoryError: the front matter is broken YAML.
    """
    yaml, _ = front_matter.split(readme)
    if yaml is None:
        return {}
    try:
        head = front_matter.parse(yaml)
    except ValueError:
        mend = "Mend the lines between the two --- at its top"
        raise FactoryError("the front matter is broken YAML", where=where, mend=mend) from None
    entries = head.get("configs") if isinstance(head, dict) else None
    entries = [entry for entry in entries or () if isinstance(entry, dict) and "config_name" in entry]
    configs: dict[str, Mapping[str, Any]] = {str(entry["config_name"]): entry for entry in entries}
    default = [entry for entry in entries if entry.get("default") or entry["config_name"] == "default"]
    if default or len(entries) == 1:
        configs[""] = (default or entries)[0]
    return configs


def _declared_splits(entry: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """The files of a config of the README by split."""
    wanted = entry.get("data_files")
    folder = str(entry.get("data_dir") or "").strip("/")
    inside = [name for name in _data(names) if name.startswith(f"{folder}/")] if folder else _data(names)
    if wanted is None:
        return _splits(inside, folder)
    if isinstance(wanted, dict):
        wanted = [{"split": split, "path": path} for split, path in wanted.items()]
    if not isinstance(wanted, list):
        wanted = [wanted]
    patterns: dict[str, list[str]] = {}
    for item in wanted:
        split, path = (
            (item.get("split", "train"), item.get("path")) if isinstance(item, dict) else ("train", item)
        )
        patterns.setdefault(str(split), []).extend(map(str, path if isinstance(path, list) else [path]))
    prefix = f"{folder}/" if folder else ""
    return {
        split: [n for n in names if any(_matches(n, prefix + pattern) for pattern in globs)]
        for split, globs in patterns.items()
    }


def _matches(name: str, pattern: str) -> bool:
    """Glob as in a README: `**` crosses folders, `*` does not."""
    if "**" in pattern:
        return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("**/", ""))
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _split_of(name: str, folder: str) -> str | None:
    """The split that a file's path names below `folder`."""
    relative = name[len(folder) + 1 :] if folder else name
    *folders, file = relative.split("/")
    stem = file.split(".", 1)[0]
    words = [*folders, stem, *re.split(r"[-._ ]", stem)]
    return next((split for split in SPLITS if split in words), None)


def _splits(names: Sequence[str], folder: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_split_of(name, folder) or "", []).append(name)
    unnamed = found.pop("", [])
    if unnamed and not found:
        return {"train": unnamed}
    for name in unnamed:  # beside named splits, a file's own name is its split (gsm8k's `socratic.jsonl`)
        found.setdefault(PurePosixPath(name).name.split(".", 1)[0], []).append(name)
    return found


class PartError(FactoryError):
    """A part asked for is not in the dataset; `part` is the key of a recipe that names it."""

    def __init__(self, what: str, *part: str, where: str, mend: str) -> None:
        self.part = part
        super().__init__(what, where=where, mend=mend)


@dataclass(frozen=True)
class Wanted:
    """Which part of a dataset is read.

    Attributes:
        config: None for the only or default one.
        splits: none for all there are.
        every_config: all configs that have the first of `splits` are read, as MMLU's subjects are.
        without: configs left out of those.
        configs: configs that must be among those.
        only_will_do: where there is one config alone, it is taken for `config`.
        beside: further files that are read where they exist.
    """

    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    every_config: bool = False
    without: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    only_will_do: bool = False
    beside: tuple[str, ...] = ()


def select(names: Sequence[str], readme: str | None, wanted: Wanted, where: str) -> Selected:
    """The files of the wanted part: by config, then by split.

    Args:
        names: all files of the dataset, relative and sorted.
        readme: the text of its README.md.
        wanted: the part.
        where: place of the reference, for messages.

    Raises:
        FactoryError: no data files, an unknown config or split, or several configs and none asked for.
    """
    configs = _configs(names, readme, where)
    known = [config for config in configs if config]
    if wanted.every_config:
        first = wanted.splits[0]
        chosen = [name for name in known if name not in wanted.without and first in configs[name]]
        if not chosen:
            mend = f"Add its rows, such as <subject>/{first}.parquet"
            raise PartError(
                f"the dataset has no config with a split '{first}'", "split", where=where, mend=mend
            )
        _complete(chosen, wanted, where)
    elif wanted.config in known:
        chosen = [str(wanted.config)]
    elif len(known) == 1 and (wanted.config is None or wanted.only_will_do):
        chosen = known
    elif wanted.config is None and "" in configs:
        chosen = [""]
    elif wanted.config is None:
        mend = f"Add `config:`, one of {', '.join(known[:12])}"
        raise PartError(f"the dataset has {len(known)} configs", "config", where=where, mend=mend)
    else:
        what = f"the dataset has no config '{wanted.config}'"
        raise PartError(what, "config", where=where, mend=suggest(wanted.config, known))
    return {config: _wanted_splits(config, configs[config], wanted, where) for config in chosen}


def _complete(chosen: Sequence[str], wanted: Wanted, where: str) -> None:
    missing = [config for config in wanted.configs if config not in chosen]
    if missing:
        named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        what = f"{len(missing)} of its {len(wanted.configs)} configs are missing: {named}"
        mend = f"Add their '{wanted.splits[0]}' rows, or set a limit: it marks the score as not comparable"
        raise FactoryError(what, where=where, mend=mend)


def _wanted_splits(
    config: str, splits: dict[str, list[str]], wanted: Wanted, where: str
) -> dict[str, list[str]]:
    for split in wanted.splits:
        inside = f" in config '{config}'" if wanted.every_config else ""
        if split not in splits:
            what = f"the dataset has no split '{split}'{inside}"
            raise PartError(what, "split", where=where, mend=suggest(split, splits))
        if not splits[split]:
            what = f"no file of split '{split}'{inside} that README.md names exists"
            raise FactoryError(what, where=where, mend="Mend its data_files, or put the files there")
    return {split: splits[split] for split in wanted.splits or splits}


def _configs(names: Sequence[str], readme: str | None, where: str) -> Selected:
    """All configs and their splits; the default one is also under ``""`` where there are several."""
    data = data_names(names, where)
    declared = declared_configs(readme or "", where)
    if declared:
        return {name: _declared_splits(entry, names) for name, entry in declared.items()}
    folders = sorted({name.split("/", 1)[0] for name in data if "/" in name} - {"data", *SPLITS})
    beside = [name for name in data if name.split("/", 1)[0] not in folders]
    found: Selected = {}
    for folder in folders:
        found[folder] = _splits([name for name in data if name.startswith(f"{folder}/")], folder)
    if beside:
        found.setdefault("default", _splits(beside, ""))
        found[""] = _splits(beside, "")
    return found


def split_files(folder: Path, config: str | None, split: str, where: str) -> list[Path]:
    """The files of one split of a dataset folder, in order.

    Raises:
        FactoryError: as `select`.
    """
    (splits,) = select_local(folder, Wanted(config, (split,)), where).values()
    return [folder / name for name in splits[split]]


def select_local(folder: Path, wanted: Wanted, where: str) -> Selected:
    """`select` on a folder."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else None
    return select(list_files(folder), text, wanted, where)
