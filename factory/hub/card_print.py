"""The card that `factory card` shows: which one is meant, its repository's name, and writing it to a file.

Between card.py and commands/card.py.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from factory.errors import FactoryError
from factory.hub.card import Card, dataset_card, model_card
from factory.hub.card_run import Finished, finished, known
from factory.run.folder import open_run

NAMESPACE = "your-name"  # stands for the namespace until the recipe names one


@dataclass(frozen=True)
class Shown:
    """A card and what it is of."""

    name: str
    card: Card


def card(run: str, runs_dir: Path, name: str | None, license: str | None) -> Shown:
    """The card of one model or dataset of a run.

    Args:
        run: as `open_run` takes it.
        runs_dir: where runs are.
        name: of a variant, `pruned` or a regenerated dataset; None takes the variant that recovers most.
        license: instead of the recipe's.

    Raises:
        FactoryError: there is no such run or name, or its card cannot be made.
    """
    folder = open_run(run, runs_dir)[0].path
    read = finished(folder)
    publish = read.recipe.get("publish") or {}
    namespace, license = publish.get("namespace") or NAMESPACE, license or publish.get("license")
    name = _best(read) if name is None else name
    known(name, [*read.variants, *read.datasets], "variant or regenerated dataset", read)
    make = model_card if name in read.variants else dataset_card
    repo_id = f"{namespace}/{read.report['recipe']}-{name}"
    return Shown(name, make(folder, name, repo_id, {}, license))


def _best(run: Finished) -> str:
    return max(run.variants, key=lambda name: run.model(name)["average"]["value"])


def write(shown: Shown, out: Path) -> list[Path]:
    """Writes the card to `out` and its files beside it, where its links look for them.

    Raises:
        FactoryError: they cannot be written.
    """
    written = []
    try:
        for name, content in shown.card.files.items():
            path = out.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
            written.append(path)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(shown.card.text, encoding="utf-8")
    except OSError as error:
        what = f"the card cannot be written: {error.strerror}"
        raise FactoryError(what, where=str(out), mend="Choose another --out") from None
    return [out, *written]
