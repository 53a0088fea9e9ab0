"""The methods of training: which weights are loaded, which of them learn, and what is written at the end.

Under train.py. LoRA and QLoRA learn an adapter, `full` the weights themselves, all of them or (HFT) half of
each block's matrices. Whatever the method, the result is a stock folder.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models import load
from factory.models.carried import carry_files
from factory.models.checkpoint import follow_umask, stored_dtype
from factory.recipe.training import Method, missing_quantiser


def model_to_train(method: Method, folder: Path, arguments: Any) -> Any:
    """The model of a folder as the method wants it, in training mode.

    Frozen weights stay in their own dtype on a GPU. Weights that learn are float32, for a bf16 number does
    not change by a small step; `arguments` says what activations are computed in.

    Raises:
        FactoryError: `qlora` without its library; as `load.causal_lm`.
    """
    if method == "qlora":
        return _quantised(folder, arguments).train()
    dtype = None
    if load.device() == "cuda":
        dtype = "float32" if method == "full" else "float16" if arguments.fp16 else None
    return load.causal_lm(folder, dtype).train()


def _quantised(folder: Path, arguments: Any) -> Any:
    """The model with its blocks' matrices in 4 bits: NF4 with quantised constants (QLoRA, section 3)."""
    if missing := missing_quantiser():
        raise FactoryError(missing[0], where="train.method", mend=missing[1])
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    compute = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else torch.float32
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=nf4, device_map={"": load.device()}, dtype=compute, use_safetensors=True
    )


def refuse_tied(model: Any, lora: Any) -> None:
    """A tied embedding is also the head; an adapter on one of the two would be lost or doubled on saving."""
    if not model.config.get_text_config().tie_word_embeddings:
        return
    named = [lora.target_modules, lora.modules_to_save, lora.trainable_token_indices]
    if any(name in str(part) for part in named for name in ("embed_tokens", "lm_head")):
        raise FactoryError(
            "this model's embeddings are also its head (tie_word_embeddings), so they cannot be trained",
            where="train.lora",
            mend="Leave embed_tokens and lm_head out",
        )


def freeze_half(model: Any, seed: int) -> dict[str, int]:
    """Half fine-tuning: freezes half of every block's weights, drawn by category, for the whole training.

    Hui et al., "HFT: Half Fine-Tuning for Large Language Models", arXiv 2404.18466: of each block's attention
    matrices two of four learn, of its three feed-forward matrices two in half of the blocks and one in the
    other half, and half of its norms; embeddings and head learn. Drawn anew for every round of tuning, which
    here is a variant. For other families the same rule by category: the matrices of one module, and the
    block's vectors; a bias goes with its matrix.

    Args:
        model: the causal language model.
        seed: of the draw.

    Returns:
        `matrices` of all blocks, and how many of them are `frozen`.
    """
    blocks = load.block_list(model)
    categories: dict[str, list[list[list[Any]]]] = {}  # name -> block -> unit -> parameters
    for place, block in enumerate(blocks):
        for category, units in _categories(block).items():
            categories.setdefault(category, [[] for _ in blocks])[place] = units
    draw = random.Random(seed)
    matrices = frozen = 0
    for units_of in categories.values():
        more = _with_one_more(units_of, draw)
        for place, units in enumerate(units_of):
            learning = set(draw.sample(range(len(units)), len(units) // 2 + (place in more)))
            for i, unit in enumerate(units):
                for parameter in unit:
                    parameter.requires_grad_(i in learning)
                if unit[0].ndim > 1:
                    matrices += 1
                    frozen += i not in learning
    return {"matrices": matrices, "frozen": frozen}


def _categories(block: Any) -> dict[str, list[list[Any]]]:
    """A block's parameters by category, each a list of units that learn or stay as one."""
    found: dict[str, list[list[Any]]] = {}
    for path, module in block.named_modules():
        own = dict(module.named_parameters(recurse=False))
        bias = own.pop("bias", None) if "weight" in own else None
        for name, parameter in own.items():
            unit = [parameter] + ([bias] if name == "weight" and bias is not None else [])
            # A Linear's category is the module it stands in, as is that of a parameter without one.
            above = path.rpartition(".")[0] if name == "weight" else path
            category = f"{above} matrices" if parameter.ndim > 1 else "vectors"
            found.setdefault(category, []).append(unit)
    return found


def _with_one_more(units_of: Sequence[Sequence[Any]], draw: random.Random) -> set[int]:
    """Of the blocks that have an odd number of units, the half in which the larger part learns."""
    odd = [place for place, units in enumerate(units_of) if len(units) % 2]
    return set(draw.sample(odd, len(odd) // 2))


def write_model(method: Method, trained: Any, source: Path, out: Path) -> Any:
    """Writes model/, and adapter/ where an adapter was trained; the model as it was written comes back.

    An adapter of `qlora` is merged into the weights as they were before they were quantised, not into their
    4-bit likeness: what it learnt beside the one is added to the other.

    Args:
        method: how it was trained.
        trained: the trainer's model.
        source: the pruned model's folder, whose files but the weights are kept.
        out: the artifact's folder.
    """
    import torch

    if method == "full":
        merged = trained
    else:
        save_adapter(trained, out / "adapter")
        if method == "qlora":
            from peft import PeftModel

            trained = PeftModel.from_pretrained(load.causal_lm(source), out / "adapter")
        merged = trained.merge_and_unload()
    merged = merged.to(getattr(torch, stored_dtype(source)))
    shutil.rmtree(out / "model", ignore_errors=True)
    merged.save_pretrained(out / "model")
    carry_files(source, out / "model")
    shutil.copyfile(source / "config.json", out / "model" / "config.json")
    follow_umask(out)
    return merged


def save_adapter(model: Any, folder: Path) -> None:
    """The LoRA weights without what names this machine: PEFT writes the base's path and a card with it."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": None}
    if isinstance(config["target_modules"], list):  # a set until here, in any order
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
