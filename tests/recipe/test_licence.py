"""A licence that is most likely misspelt is refused; one that only the Hub may know passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import SANDBOX_RECIPE, refused, write

from factory.recipe.licence import KNOWN
from factory.recipe.recipe import load_recipe


def recipe(folder: Path, licence: str) -> Path:
    return write(folder, f"{SANDBOX_RECIPE}publish:\n  push: [own]\n  license: {licence}\n")


@pytest.mark.parametrize(
    ("licence", "meant"),
    [
        ("apche-2.0", "apache-2.0"),
        ("apacha-2.0", "apache-2.0"),
        ("apache2.0", "apache-2.0"),
        ("llama-3.1", "llama3.1"),
        ("bsd-3-claus", "bsd-3-clause"),
        ("creativml-openrail-m", "creativeml-openrail-m"),
    ],
)
def test_a_misspelt_licence_is_told_with_its_line(licence: str, meant: str, tmp_path: Path) -> None:
    said = refused(recipe(tmp_path, licence))
    assert "recipe.yaml:20: " in said
    assert said.endswith(f"'{licence}' is no licence that the Hub knows. Write '{meant}', if that is meant.")


@pytest.mark.parametrize(
    ("licence", "mend"),
    [
        ("Apache-2.0", "Write 'apache-2.0', if that is meant."),
        ("Apache 2.0", "Write 'apache-2.0', if that is meant."),
        ("'see the base model!'", "Write it as the Hub does: apache-2.0, say."),
        ("''", "Write it as the Hub does: apache-2.0, say."),
    ],
)
def test_what_is_not_written_as_a_licence_is_refused(licence: str, mend: str, tmp_path: Path) -> None:
    said = refused(recipe(tmp_path, licence))
    assert "recipe.yaml:20: " in said and "does not do as a licence" in said and said.endswith(mend)


@pytest.mark.parametrize(
    "licence",
    [
        *("cc-by-2.1", "cc-by-nd-3.0", "cc-by-sa-3.0-at", "agpl", "gpl-3.0-only", "upl-1.0", "llama5"),
        *("bsd-4-clause", "mit-0", "gemma2", "my-own", "zpl"),
    ],
)
def test_another_licence_passes(licence: str, tmp_path: Path) -> None:
    publish = load_recipe(recipe(tmp_path, licence)).publish
    assert publish is not None and publish.license == licence


def test_what_the_hub_knows_passes(tmp_path: Path) -> None:
    for licence in KNOWN:
        load_recipe(recipe(tmp_path, licence))
