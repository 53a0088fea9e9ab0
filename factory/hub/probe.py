"""Whether what came back from the Hub works as what was sent: loaded by stock libraries, and compared.

Run by publish.py in a child process, as stages are: a model needs memory that the parent must not keep.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from factory.errors import FactoryError
from factory.hub.parcel import Kind
from factory.stages import Frozen, Progress

TEXT = "Maria has 5 boxes with 8 bells in each. How many bells are there? \N{EN DASH} 5 * 8 = 40."
_OTHER = "Run the same command again; if it stays so, the Hub or the disk changes files"


class Settings(Frozen):
    """What is looked at, and as what for messages."""

    kind: Kind
    repository: str
    dtype: Literal["auto"] = "auto"  # the checkpoint's own, so that nothing is rounded


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Compares the folder `back` with the folder `local`.

    Raises:
        FactoryError: it cannot be loaded, or is another.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # both are folders here
    compare = _compare_models if settings.kind == "model" else _compare_rows
    return compare(settings, inputs["local"], inputs["back"])


def _compare_models(settings: Settings, local: Path, back: Path) -> dict[str, Any]:
    import torch

    expected, found = (_logits(folder, settings.dtype) for folder in (local, back))
    if expected.shape != found.shape or not torch.equal(expected, found):
        what = "the model that came back gives other logits than the one that was sent"
        raise FactoryError(what, where=settings.repository, mend=_OTHER)
    return {"tokens": expected.shape[1], "dtype": str(expected.dtype)}


def _logits(folder: Path, dtype: str) -> Any:
    """Of the probe text, float of the checkpoint's type, 1 x tokens x vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.inference_mode():
        return model(ids).logits


def _compare_rows(settings: Settings, local: Path, back: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq
    from datasets import get_dataset_config_names, load_dataset

    rows = sum(pq.read_metadata(path).num_rows for path in (local / "data").glob("*.parquet"))
    names = set().union(*(pq.read_schema(path).names for path in (local / "data").glob("*.parquet")))
    with tempfile.TemporaryDirectory(prefix="factory-probe-") as cache:
        for config in get_dataset_config_names(str(back)):
            loaded = load_dataset(str(back), config, cache_dir=cache)
            came = sum(len(split) for split in loaded.values())
            columns = set().union(*(split.column_names for split in loaded.values()))
            if (came, columns) != (rows, names):
                what = f"the dataset that came back has {came:,} rows of {len(columns)} columns, not "
                what += f"{rows:,} of {len(names)}"
                raise FactoryError(what, where=settings.repository, mend=_OTHER)
    return {"rows": rows, "columns": sorted(names)}
