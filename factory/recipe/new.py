"""A first recipe for a base model: what `factory new` writes.

The base's config.json and card are read, no weights: how many blocks go follows from how many it has, and its
licence is named. The recipe says which values stand in the abstract of arXiv 2410.09982 and which come from
hints or other work; the rest is ours.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from factory import hub_files
from factory.errors import FactoryError
from factory.models.architectures import architecture_of, block_count
from factory.recipe.parts import NAME, unfit_name
from factory.recipe.recipe import STORE
from factory.sources import SANDBOX, Source, config_of, resolve_model

SCHEMA = "recipe.schema.json"
TEMPLATE = Path(__file__).with_name("new.yaml.jinja")
# Of the case that the paper's abstract tells of: 6 of Llama-3.1-8B's 32 blocks.
SHARE = 6 / 32
_PLAIN = re.compile(r"[A-Za-z0-9_./~-]+")


@dataclass(frozen=True)
class Written:
    """What was written: the recipe, the schema that it names, and what a person should know besides."""

    recipe: Path
    schema: Path
    notes: list[str]


@dataclass(frozen=True)
class _Base:
    """What is known of a base without its weights."""

    reference: str
    revision: str | None = None
    blocks: int | None = None
    positions: int | None = None
    licence: str | None = None


def write(name: str, base: str, out: Path) -> Written:
    """Writes a commented recipe, and beside it the schema where no folder above has it.

    Args:
        name: of the recipe.
        base: a Hub id, a folder (from here, not from the recipe), or `sandbox/base`.
        out: the file.

    Raises:
        FactoryError: a name that does not do, a base that does not, or a file that is there.
    """
    if not re.fullmatch(NAME, name):
        mend = "Use letters, digits, `-`, `_` and `.`, at most 64, with a letter or digit first"
        raise FactoryError(f"{name!r:.40} does not do as a recipe's name", where="NAME", mend=mend)
    kept = f"'{name}' is the folder of all artifacts" if name.lower() == STORE else None
    if why := kept or unfit_name(name):
        raise FactoryError(why, where="NAME", mend="Give it another name")
    if out.exists() or out.is_symlink():
        raise FactoryError("this file is there already", where=str(out), mend="Give another --out")
    if out.suffix not in (".yaml", ".yml"):
        raise FactoryError("a recipe's file ends in .yaml", where=str(out), mend=f"Write {out}.yaml")
    if not _PLAIN.fullmatch(base):
        raise FactoryError(f"{base!r:.60} is no model", where="--base", mend="Give a Hub id or a folder")
    notes: list[str] = []
    found = _read(base, out.parent, notes)
    schema = _schema_above(out.parent) or out.parent / SCHEMA
    text = _render(name, found, os.path.relpath(schema, out.parent))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if not schema.exists():
            from factory.recipe.schema import text as schema_text

            schema.write_text(schema_text(), encoding="utf-8")
            notes.append(f"wrote {schema}, by which an editor completes and checks recipes")
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        mend = "Choose a place that you may write"
        raise FactoryError(f"cannot be written: {error.strerror}", where=str(out), mend=mend) from None
    return Written(out, schema, notes)


def _read(reference: str, folder: Path, notes: list[str]) -> _Base:
    """What is known of the base; what is not known is noted."""
    try:
        source = resolve_model(reference, None, "--base", Path())
        config = config_of(source, "--base")
    except hub_files.UnreachableError as error:
        notes.append(f"{error.what}: the recipe has the values of a model with 32 blocks; check them")
        return _Base(reference)
    row = architecture_of(config, Path(reference))
    if source.kind == "folder":  # a recipe's folders start from the recipe's own place
        relative = os.path.relpath(source.path or reference, folder)
        written = relative if relative.startswith(".") else f"./{relative}"
    else:
        written = reference
    return _Base(
        reference=written,
        revision=source.fingerprint if source.kind == "hub" else None,
        blocks=block_count(config, row, Path(reference)),
        positions=config.get("max_position_embeddings"),
        licence=_licence(source, notes),
    )


def _licence(source: Source, notes: list[str]) -> str | None:
    from factory.hub.card_licence import card_of, metadata
    from factory.hub.card_run import Origin

    place = str(source.path) if source.kind == "folder" else source.reference
    card = card_of(Origin(source.kind, place, source.fingerprint), needed=False)
    named = (metadata(card, None) or {}).get("license")
    if named is None and source.kind != "sandbox":
        notes.append("the base's card names no licence: write it into `publish` before you publish")
    return named


def _schema_above(folder: Path) -> Path | None:
    """The nearest schema file in this folder or one above it."""
    absolute = folder.absolute()
    return next((at / SCHEMA for at in (absolute, *absolute.parents) if (at / SCHEMA).is_file()), None)


def _render(name: str, base: _Base, schema: str) -> str:
    blocks = base.blocks or 32
    values: dict[str, Any] = {
        "name": name,
        "base": base,
        "sandbox": base.reference.startswith(SANDBOX),
        "blocks": blocks,
        "drop": min(blocks - 1, max(1, round(SHARE * blocks))),
        "max_length": min(1024, base.positions or 1024),
        "new_tokens": min(512, (base.positions or 1024) // 2),
        "schema": Path(schema).as_posix(),
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)
