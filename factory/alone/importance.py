"""Blocks scored without a recipe: `factory importance`. Between commands/model.py and the importance stage.

Beside stage.py, which holds the other stages that work on a folder. What the stage and the readers of
datasets refuse in the words of a recipe is said here in the words of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory import metrics
from factory.alone.stage import model_folder, sandbox_base
from factory.data.files import PartError, Wanted
from factory.data.rows import Columns, TextSpec
from factory.errors import FactoryError
from factory.metrics import choice
from factory.models.architectures import architecture_of, block_count
from factory.models.checkpoint import read_config, stored_tensors
from factory.run.store import write_atomically
from factory.sources import at_hand, resolve_dataset
from factory.stages import Progress

# What a recipe writes, and the option that says it.
_OPTIONS = {
    "Add `columns: {text: ..}`": "Say --column",
    "Name a column of text under `columns`": "Name a column of text with --column",
    "Add `config:`": "Say --config",
}


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and over what.

    Attributes:
        model: a stock model folder, or `sandbox/base`.
        data: a dataset folder or `sandbox/<name>`; None stands for sandbox/corpus, for sandbox/base only.
        config: of the dataset; None for its only or default one.
        split: of the dataset.
        column: the one with the texts; None where the usual names are to be tried.
        rows: texts read at most.
        max_tokens: texts are cut behind this many tokens.
        metric: one of `factory.metrics.METRICS`.
        drop: how many blocks would go; by default 3 of 16, the paper's 6 of 32, or all that may.
        exclude: blocks at the beginning and at the end that stay.
    """

    model: Path
    data: str | None = None
    config: str | None = None
    split: str = "train"
    column: str | None = None
    rows: int = 128
    max_tokens: int = 1024
    metric: metrics.Name = "angular"
    drop: int | None = None
    exclude: tuple[int, int] = (0, 0)


def importance(asked: Asked, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Scores the blocks of a model.

    Args:
        asked: see `Asked`.
        out: a file that is to hold importance.json.
        progress: told the texts done.

    Returns:
        importance.json's content, the blocks that would go, a sentence that says so, the ten best, and
        tokens a second.

    Raises:
        FactoryError: no such model, dataset or place for `out`, or what the stage refuses.
    """
    from factory.stages import importance as stage

    base = model_folder(asked.model)
    if asked.data is None and base != sandbox_base():
        mend = "Name a dataset folder with --data, or sandbox/corpus"
        raise FactoryError("importance is measured over texts, and none are named", mend=mend)
    if out is not None and (out.exists() or not out.absolute().parent.is_dir()):
        what = "there is something already" if out.exists() else "there is no folder to write this file in"
        raise FactoryError(what, where=str(out), mend="Name a new file in a folder that exists")
    drop = _drop(asked, base)
    columns = Columns(text=asked.column)
    spec = TextSpec(
        name="calibration", config=asked.config, split=asked.split, rows=asked.rows, columns=columns
    )
    rounds = drop if metrics.METRICS[asked.metric].shape == "order" else None
    chosen = stage.Settings(
        data=spec, max_tokens=asked.max_tokens, metric=asked.metric, rounds=rounds, exclude=asked.exclude
    )
    name = asked.data or "sandbox/corpus"
    with _as_options(name):
        source = resolve_dataset(name, None, "--data", Path.cwd(), Wanted(spec.config, (spec.split,)))
    with at_hand(source) as folder:
        if folder is None:
            mend = "Download it first: `hf download ID --repo-type dataset --local-dir FOLDER`"
            raise FactoryError(f"'{name}' is no folder", where="--data", mend=mend)
        with _as_options(name, folder):
            table, seconds = stage.score(chosen, {"base": base, "calibration": folder}, progress)
    if out is not None:
        write_atomically(out, json.dumps(table, indent=1) + "\n")
    best = choice.choose(table, drop, asked.exclude)
    return {
        **table,
        "drop": list(best.blocks),
        "score": best.score,
        "sentence": choice.sentence(table, best, asked.exclude),
        "over": choice.texts_read(table),
        "ranking": choice.ranking(table, drop, asked.exclude, best.blocks),
        "tokens_per_second": round(table["tokens"] / seconds, 1),
    }


def _drop(asked: Asked, base: Path) -> int:
    """How many blocks would go."""
    config, exclude = read_config(base), asked.exclude
    row = architecture_of(config, base, [tensor.name for tensor in stored_tensors(base)])
    blocks = block_count(config, row, base)
    room = min(blocks - sum(exclude), blocks - 1)
    drop = max(1, min(blocks * 3 // 16, room)) if asked.drop is None else asked.drop
    if 1 <= drop <= room:
        return drop
    kept = f", of which {exclude[0]} at the beginning and {exclude[1]} at the end stay," * any(exclude)
    fewer = "Exclude fewer" if any(exclude) else None
    raise FactoryError(
        f"{drop} of {blocks} blocks{kept} cannot be removed",
        where=str(asked.model),
        mend=f"Say --drop 1 to {room}" if room > 0 else fewer,
    )


@contextmanager
def _as_options(data: str, folder: Path | None = None) -> Iterator[None]:
    """Says refusals of a dataset in the words of the command line.

    Args:
        data: the dataset as a person named it.
        folder: where it lies, which of a sandbox dataset is gone when the message is read.
    """
    try:
        yield
    except FactoryError as error:
        where, mend = error.where, error.mend
        if isinstance(error, PartError):  # a part that an option names, or would name
            option = {"columns": "column"}.get(error.part[0], error.part[0])
            where = f"--{option}"
        elif folder is not None and where and where.startswith(str(folder)):
            where = data + where.removeprefix(str(folder))
        what = error.what.replace(" (asked for as text)", "").replace("'calibration' has", f"'{data}' has")
        for written, said in _OPTIONS.items():
            mend = mend.replace(written, said) if mend else None
        kind = FactoryError if isinstance(error, PartError) else type(error)
        raise kind(what, where=where, mend=mend) from error
