"""A model of 85 M parameters and a recipe over it, for predicted.py: large enough that the work is seen.

    python tests/benchmarks/larger.py DIR
    factory run DIR/larger.yaml --jobs 1 --runs-dir DIR/runs
    python tests/benchmarks/predicted.py DIR/larger.yaml --runs-dir DIR/runs

Steps of the sandbox's base last as long as libraries take to load. This is a Llama with random weights and
the sandbox's tokenizer, whose texts mean nothing and end where no more tokens are allowed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from factory import sandbox

RECIPE = """\
name: larger
base: {model: ./model}
prune:
  drop: 3
  importance: angular
  calibration: {dataset: sandbox/corpus, rows: 64, max_tokens: 256}
datasets:
  math: {id: sandbox/math, prompt: math, check: final_number, rows: 48}
regenerate: {max_new_tokens: 64}
train:
  lora: {r: 8, lora_alpha: 16, target_modules: all-linear}
  sft: {max_steps: 10, per_device_train_batch_size: 8}
variants:
  math-sft:  {data: [math], targets: original}
  math-self: {data: [math], targets: self}
  merged:    {merge: slerp, of: [math-sft, math-self], t: 0.5}
evaluate: {suite: sandbox_v1, limit: 20}
"""


def main() -> None:
    """Writes the model's folder and the recipe."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description="A larger model and a recipe over it.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(sandbox.model_folder())
    config.update({
        "hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12, "num_key_value_heads": 12,
        "head_dim": 64, "num_hidden_layers": 12, "layer_types": None,
    })  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(sandbox.model_folder()).save_pretrained(folder / "model")
    (folder / "larger.yaml").write_text(RECIPE, encoding="utf-8")


if __name__ == "__main__":
    main()
