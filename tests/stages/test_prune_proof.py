"""The stage proves what it wrote, says so in its facts, and leaves nothing where the proof fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.models import surgery
from factory.stages import prune


@pytest.fixture
def inputs(tiny_model: Path, tmp_path: Path) -> dict[str, Path]:
    """A base of six blocks and distances by which blocks 2 and 3 go."""
    (tmp_path / "importance").mkdir()
    distances = [[0.5] * 6, [0.5, 0.5, 0.1, 0.5, 0.5], [0.5] * 4, [0.5] * 3, [0.5] * 2]
    table = {"metric": "angular", "blocks": 6, "distances": distances}
    (tmp_path / "importance" / "importance.json").write_text(json.dumps(table))
    return {"base": tiny_model, "importance": tmp_path / "importance"}


def test_the_facts_carry_the_proof(inputs: dict[str, Path], tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    facts = prune.run(prune.Settings(drop=2), inputs, tmp_path, lambda *a: told.append(a))
    assert facts["blocks"] == [2, 3]
    proof = facts["proof"]
    assert (proof["mode"], proof["max_difference"], proof["dtype"]) == ("whole", 0.0, "bfloat16")
    assert {call[2] for call in told} == {"MB", "parts of the proof"}
    assert told[-1][3] == "running the pruned model"


def test_it_can_be_switched_off(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts = prune.run(prune.Settings(drop=2, proof=False), inputs, tmp_path, lambda *a: None)
    assert facts["proof"]["mode"] == "off"
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_failed_proof_leaves_no_model(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = surgery.kept_tensors
    monkeypatch.setattr(surgery, "kept_tensors", lambda base, kept: real(base, kept[::-1]))
    with pytest.raises(FactoryError, match="is not the base without these blocks"):
        prune.run(prune.Settings(drop=2), inputs, tmp_path, lambda *a: None)
    assert not (tmp_path / "model").exists()
