"""The embedded default: a tiny trained base model with its data, so that all works offline in minutes.

Reached only through the names `sandbox/base` and `sandbox/<dataset>` of a recipe (see sources.py).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

DATASETS = ("science", "endings", "subjects", "myths", "blanks", "arithmetic", "math", "instruct", "corpus")

_HERE = Path(__file__).parent
_FORMS = (
    "arc.py", "document.py", "gsm8k.py", "hellaswag.py", "mmlu.py", "truthfulqa.py", "winogrande.py",
)  # fmt: skip


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """A hash of the generator's own source and of what it writes its rows with, the prompts and the tasks'
    documents: whoever edits one of them gets new datasets and new keys."""
    digest = hashlib.sha256()
    sources = [path for path in _HERE.glob("*.py") if path.name not in ("__init__.py", "card.py", "train.py")]
    forms = [*(_HERE.parent / "prompts").glob("*.jinja"), *(_HERE.parent / "tasks" / n for n in _FORMS)]
    for path in sorted([*sources, *forms]):
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
