"""What goes along with the weights, and what does not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from factory.cli import call
from factory.models.carried import CARRIED, beside, is_carried

ALONG = (
    "LICENSE", "license.md", "Notice.txt", "COPYRIGHT", "Llama-License.pdf", "LICENCE.txt", "USE_POLICY.md",
    "USAGE_POLICY.md", "tokenizer.json", "tokenizer.model.v3", "tekken.json", "bpe.codes", "vocab.bpe",
    "qwen.tiktoken", "chat_template.jinja", "tool_use_template.jinja", "sentencepiece.bpe.model",
    "generation_config.json",
)  # fmt: skip
NOT = (
    "README.md", "tokenizer.json.bak", "LICENSE~", "tokenizer.orig", "params.json", "modeling_mine.py",
    "tokenization_mine.py", "consolidated.safetensors", "preprocessor_config.json",
)  # fmt: skip


@pytest.mark.parametrize("name", ALONG)
def test_it_goes_along(name: str) -> None:
    assert is_carried(name)


@pytest.mark.parametrize("name", NOT)
def test_it_stays(name: str) -> None:
    assert not is_carried(name)


def test_the_hub_is_asked_in_either_case() -> None:
    assert "[lL][iI][cC][eE][nN][sS][eE]" in "".join(CARRIED)


def test_the_record_says_what_went_along_and_what_stayed(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    own = {path.name for path in base.iterdir()} - {"config.json", "model.safetensors"}
    for name in ("license.md", "README.md", ".gitattributes"):
        (base / name).write_text("x")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "rag.jinja").write_text("x")
    os.mkfifo(base / "NOTICE")  # nothing to copy, and to read it would wait for ever
    assert call(["prune", str(base), "--drop", "1", str(tmp_path / "out"), "--no-proof"]) == 0
    files = json.loads((tmp_path / "out" / "record.json").read_text())["facts"]["files"]
    carried = {"license.md", "additional_chat_templates", *own}
    assert files == {"carried": sorted(carried), "left": ["NOTICE", "README.md"]}
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there == {*carried, "config.json", "model.safetensors", "record.json"}
    assert (tmp_path / "out" / "additional_chat_templates" / "rag.jinja").is_file()


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert beside(tmp_path).carried == beside(tmp_path).left == ()
