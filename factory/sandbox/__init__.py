"""The embedded default: a tiny trained base model with its data, so that all works offline in minutes.

Reached only through the names `sandbox/base` and `sandbox/<dataset>` of a recipe (see sources.py).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

DATASETS = ("science", "endings", "subjects", "myths", "blanks", "arithmetic", "math", "instruct", "corpus")

_HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """A hash of the generator's own source: whoever edits it gets new datasets and new keys."""
    digest = hashlib.sha256()
    sources = [path for path in _HERE.glob("*.py") if path.name not in ("__init__.py", "card.py", "train.py")]
    for path in sorted([*sources, *(_HERE.parent / "prompts").glob("*.jinja")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


FINGERPRINT = _fingerprint()


def model_folder() -> Path:
    """The stock folder of `sandbox/base`, inside the package."""
    return _HERE / "base"


def write_dataset(name: str, folder: Path) -> None:
    """Writes the dataset `sandbox/<name>` (parquet files and a README with its configs) to `folder`.

    Raises:
        KeyError: there is no such dataset.
    """
    from factory.sandbox import datasets

    datasets.write(name, folder)
