"""A model that was taken apart before is known by its config, until the code that takes it apart changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory import sandbox
from factory.models import known_sizes
from factory.models.anatomy import anatomy
from factory.models.checkpoint import read_config
from factory.remembered import Remembered

WHERE = Path("model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "model-factory" / "sizes.json"


def test_what_is_remembered_is_what_was_found(tiny_model: Path) -> None:
    for folder in (sandbox.model_folder(), tiny_model):
        config = read_config(folder)
        found = anatomy(config, WHERE)
        assert [known_sizes.sizes_of(config, WHERE) for _ in range(2)] == [found, found]


def test_a_known_model_takes_no_library(cache: Path) -> None:
    known_sizes.sizes_of(read_config(sandbox.model_folder()), WHERE)
    code = (
        "import sys; from pathlib import Path; from factory import sandbox;"
        "from factory.models import known_sizes;"
        "from factory.models.checkpoint import read_config;"
        "known_sizes.sizes_of(read_config(sandbox.model_folder()), Path());"
        "sys.exit(' '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_config_or_another_code_is_another_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(sandbox.model_folder())
    fewer = {**config, "num_hidden_layers": 3}
    assert len(known_sizes.sizes_of(config, WHERE).blocks) != len(known_sizes.sizes_of(fewer, WHERE).blocks)
    monkeypatch.setattr(known_sizes, "_code", lambda: "mended")
    known_sizes.sizes_of(config, WHERE)
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize("broken", ['{"blocks": []}', "3", '"x"', "not JSON"])
def test_what_somebody_wrote_into_the_memory_is_no_answer(broken: str, cache: Path) -> None:
    config = read_config(sandbox.model_folder())
    found = known_sizes.sizes_of(config, WHERE)
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(broken if broken == "not JSON" else f'{{"{key}": {broken}}}')
    assert known_sizes.sizes_of(config, WHERE) == found


def test_of_many_values_the_newest_are_kept(cache: Path) -> None:
    few = Remembered("few.json", 2)
    for key in "abc":
        few.put(key, key.upper())
    assert [few.get(key) for key in "abc"] == [None, "B", "C"]
