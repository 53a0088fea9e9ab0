"""Folders and recipes written by hand for tests of what happens before a run; no weights worth the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from factory.data.rows import ROW_COLUMNS, DataSpec, TextSpec, iterate_rows, iterate_texts
from factory.errors import FactoryError
from factory.recipe.recipe import load_recipe

BLOCKS = 4
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": BLOCKS,
    "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 11, "tie_word_embeddings": True, "max_position_embeddings": 64,
}  # fmt: skip


def model(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A model folder as planning sees it: a config, one matrix a block in safetensors, a tokenizer."""
    folder.mkdir(parents=True)
    config = {**CONFIG, **config}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": np.full((11, 8), seed, np.float32)}
    for block in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{block}.mlp.up_proj.weight"] = np.ones((16, 8), np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def jsonl(path: Path, *rows: Any) -> Path:
    """Rows as a file, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ROWS = [{"instruction": f"say {i}", "context": "", "response": f"it is {i}"} for i in range(5)]
SCIENCE = [{"question": "which", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}] * 3

RECIPE = """\
name: small
base: {model: base}
prune:
  drop: 2
  calibration: {dataset: corpus, rows: 3}
datasets:
  math: {id: math, prompt: math, check: final_number}
  chat: {id: chat, prompt: instruct}
train:
  lora: {r: 4}
  sft: {max_steps: 3, learning_rate: 1e-3}
variants:
  plain: {data: [math], targets: original}
  own: {data: [math], targets: self}
  other: {data: [chat], targets: self}
  both: {merge: slerp, of: [own, other], t: 0.5}
evaluate: {suite: sandbox_v1, tasks: [arc], shots: {arc: 1}, datasets: {arc: science}}
"""


def project(folder: Path, recipe: str = RECIPE) -> Path:
    """A recipe beside the local folders it names; returns the recipe's path."""
    model(folder / "base")
    jsonl(folder / "corpus" / "train.jsonl", *({"text": f"text {i}"} for i in range(5)))
    jsonl(
        folder / "math" / "train.jsonl",
        *({"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(5)),
    )
    jsonl(folder / "chat" / "data" / "train.jsonl", *ROWS)
    for split in ("train", "test"):
        jsonl(folder / "science" / "ARC-Challenge" / f"{split}.jsonl", *SCIENCE)
    path = folder / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path


SANDBOX_RECIPE = """\
name: small
base: {model: sandbox/base}
prune:
  drop: 2
  calibration: {dataset: sandbox/corpus, rows: 8}
datasets:
  math: {id: sandbox/math, prompt: math, check: final_number}
  chat: {id: sandbox/instruct, prompt: instruct}
train:
  lora: {r: 4}
  sft: {max_steps: 3, learning_rate: 1e-3}
variants:
  plain: {data: [math], targets: original}
  own: {data: [math], targets: self}
  other: {data: [chat], targets: self, train: {sft: {learning_rate: 2e-3}}}
  both: {merge: slerp, of: [own, other], t: 0.5}
evaluate: {suite: sandbox_v1}
"""


def write(tmp_path: Path, text: str) -> Path:
    """A recipe of that text."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, *overrides: str) -> str:
    """What reading a recipe is refused with: one line."""
    with pytest.raises(FactoryError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    return message


def load_rows(folder: Path, spec: DataSpec) -> Any:
    """All rows that a stage reads, at once: a `datasets.Dataset`."""
    from datasets import Dataset, Features, Value

    rows = list(iterate_rows(folder, spec))
    features = Features({role: Value("string") for role in ROW_COLUMNS})
    return Dataset.from_dict({role: [row[role] for row in rows] for role in ROW_COLUMNS}, features=features)


def load_texts(folder: Path, spec: TextSpec) -> list[str]:
    """All texts that calibration reads, at once."""
    return list(iterate_texts(folder, spec))
