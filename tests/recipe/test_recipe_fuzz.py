"""Whatever is done to a recipe, it is read or refused in a line; many more in benchmarks/fuzz_recipes.py."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutated import answer, damaged, seeds, trees

Whole = tuple[Path, list[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Where to write, and recipes as text and as values."""
    folder, texts = tmp_path_factory.mktemp("damaged"), seeds()
    return folder, texts, trees(texts, folder)


@settings(max_examples=150, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_a_damaged_recipe_is_read_or_refused_in_a_line(random: Random, whole: Whole) -> None:
    folder, texts, values = whole
    answer(folder / "damaged.yaml", damaged(random, texts, values))


def test_damage_reaches_what_is_read_and_what_is_refused(whole: Whole) -> None:
    folder, texts, values = whole
    random = Random(7)
    told = [answer(folder / "damaged.yaml", damaged(random, texts, values)) for _ in range(150)]
    refusals = {message.rpartition("yaml:")[2].partition(": ")[2] for message in told if message}
    assert None in told and len(refusals) > 50
