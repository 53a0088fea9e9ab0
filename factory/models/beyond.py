"""A row for a family that the table does not list: derived from transformers' config class and tensor names.

Beside architectures.py, which asks here only for unlisted families. Deriving is not trusted: such a model
is pruned only if a proof by outputs passes (proof.py), and a config with a key that could mean something per
block and is not in `FIELDS` is refused at once, because a proof shows only what its few tokens can show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import NEVER_PER_BLOCK, TABLE, Architecture, block_count, refuse_unknown
from factory.models.fields import FIELDS, Behind, partners, unread_beside

# Words in keys that tell of a difference between blocks, and keys with such words that tell of none.
_PER_BLOCK = re.compile(
    r"layer|block|depth|every|interval|period|pattern|freq|reuse|offset|skip|first_k|indices|idx|_step$"
)
_HARMLESS = re.compile(
    r"layer_?norm|norm_?layer|layer_?drop$|^(num|n)_(hidden_)?layers?$|^(num_blocks|layers)$|^summary_|^mtp_"
    r"|^block_(multiple_of|auto_adjust_ff_dim|ffn?_dim(_multiplier)?|dim|size)$"
    # a table's size, read only with hidden_size_per_layer_input; a switch for all dense blocks
    r"|^vocab_size_per_layer_input$|^prefix_dense_sliding_window_pattern$"
)
# Their classes have a switch between encoder and decoder (is_decoder) that they never read.
_DECODERS_ANYWAY = ("gpt_neox", "gpt_neox_japanese")


def derived(config: Mapping[str, Any], where: Path, names: Collection[str]) -> Architecture:
    """The row of a family that is not in the table.

    Args:
        config: the parsed config.json.
        where: the model folder, for the messages.
        names: the names of its tensors; without them `blocks` is a guess, good for counting only.

    Raises:
        FactoryError: transformers has no causal language model of that type, a key may be per block and is
            not known, or the tensors' names do not show where the blocks are.
    """
    model_type = str(config.get("model_type"))
    settings = resolved(config, where)
    classes = causal_lms(model_type, where)
    wanted = (config.get("architectures") or classes)[0]
    if wanted not in classes:
        what = f"the model is a {wanted}, not the causal language model of {model_type}"
        raise FactoryError(what, where=str(where), mend=f"Use a checkpoint saved from {classes[0]}")
    values = settings.to_dict()
    if values.get("is_decoder") is False and model_type not in _DECODERS_ANYWAY:
        what = "the model is an encoder: each of its tokens sees those behind it (is_decoder is false)"
        raise FactoryError(what, where=str(where), mend="Use a decoder-only language model")
    # Where nothing is written, transformers puts what it derives.
    both = {**values, **{key: value for key, value in config.items() if value not in (None, [])}}
    per_block = {key for key in FIELDS if key != "per_layer_config" and _means_something(both.get(key))}
    unread = {key for name in per_block for key in unread_beside(FIELDS[name])}
    row = Architecture(
        model_type,
        wanted,
        outer=None,
        count=settings.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        per_block=tuple(key for key in FIELDS if key in per_block - unread),
        tied=bool(getattr(settings, "tie_word_embeddings", False)),
        listed=False,
        number=getattr(settings, "num_hidden_layers", None),
    )
    blocks = block_count(both, row, where)
    refuse_unknown(both, row, where)
    told = unread | {key for name in row.per_block for key in partners(FIELDS[name])}
    for key, value in both.items():
        known = key in FIELDS or key in NEVER_PER_BLOCK or key in told or _HARMLESS.search(key)
        if known or not _PER_BLOCK.search(key) or not _means_something(value):
            continue
        raise FactoryError(
            f"config.json may say by {key!r} how blocks differ, which is not known for {model_type}",
            where=str(where),
            mend="Use a model of another family; removing blocks here could be silently wrong",
        )
    if not names:
        return row
    extra = next((values.get(key) or 0 for key, field in FIELDS.items() if isinstance(field, Behind)), 0)
    row = replace(row, blocks=_blocks(names, blocks, extra, where))
    model = without_weights(settings, where)
    return replace(row, buffers=_buffers(model), shared=_shared(model), total=int(model.num_parameters()))


def _buffers(model: Any) -> tuple[str, ...]:
    """The last parts of the names of the model's buffers, where no parameter has such a one."""
    parameters = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    buffers = {name.rpartition(".")[2] for name, _ in model.named_buffers()} - parameters
    return tuple(f".{name}" for name in sorted(buffers))


def _shared(model: Any) -> dict[int, tuple[int, ...]]:
    """For each block that holds parameters which later blocks use too, those blocks."""
    users: dict[int, list[int]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        match = re.match(r"(?:.*?\.)??(\d+)\.", name)
        if match:
            users.setdefault(id(parameter), []).append(int(match[1]))
    found: dict[int, tuple[int, ...]] = {}
    for blocks in map(sorted, map(set, users.values())):
        if len(blocks) > 1:
            found[blocks[0]] = tuple(blocks[1:])
    return found


def parameters_left(config: Mapping[str, Any], where: Path) -> int:
    """Number of parameters of the model that would be left, which is built without weights.

    Args:
        config: the config of the pruned model.
        where: the base, for messages.

    Raises:
        FactoryError: transformers refuses the config, or cannot build such a model.
    """
    try:
        return int(without_weights(resolved(config, where), where).num_parameters())
    except Exception as error:
        why = error.what if isinstance(error, FactoryError) else " ".join(str(error).split())[:200]
        what = f"without these blocks the model cannot be built ({why})"
        raise FactoryError(what, where=str(where), mend="Drop other blocks") from None


def without_weights(settings: Any, where: Path) -> Any:
    """The stock model of a config object on torch's meta device: shapes and no memory.

    Raises:
        FactoryError: the model's class cannot use the config's values.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings)
        model.tie_weights()  # Zamba's blocks share theirs
        return model
    except Exception as error:  # whatever a family's constructor raises at values it cannot use
        reason = " ".join(str(error).split())[:200]
        what = f"transformers cannot build this model ({reason})"
        raise FactoryError(what, where=str(where), mend="Mend the config") from None


def resolved(config: Mapping[str, Any], where: Path) -> Any:
    """transformers' config object for a parsed config.json: defaults filled in, old keys made new.

    Raises:
        FactoryError: transformers does not know the type, or refuses a value.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise FactoryError(
            f"transformers does not know model_type {config.get('model_type')!r}",
            where=str(where),
            mend="Use a model that the installed transformers loads",
        )
    try:
        # Only from a file is every value read as it is when the model is loaded.
        with TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
            return AutoConfig.from_pretrained(folder)
    except Exception as error:  # its validation errors share no base class with ValueError and TypeError
        reason = " ".join(str(error).split())[:200]
        what = f"transformers refuses config.json ({reason})"
        raise FactoryError(what, where=str(where), mend="Fetch the model again") from None


def causal_lms(model_type: str, where: Path) -> list[str]:
    """The classes that transformers loads a causal language model of a family as, by name.

    Raises:
        FactoryError: there is none, as of an encoder-decoder.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type, ())
    if not classes:
        raise FactoryError(
            f"transformers has no causal language model of model_type {model_type!r}",
            where=str(where),
            mend=f"Use a model of a family that transformers has, such as {', '.join(sorted(TABLE))}",
        )
    return [classes] if isinstance(classes, str) else list(classes)


def _means_something(value: Any) -> bool:
    return not (value is None or value is False or value == 0 or value in ([], {}, ""))


def _blocks(names: Collection[str], blocks: int, extra: int, where: Path) -> str:
    """The one prefix under which the tensors are numbered, each number a block.

    Raises:
        FactoryError: no prefix has the numbers of all blocks, or several have numbers.
    """
    found: dict[str, set[int]] = {}
    for name in names:
        match = re.match(r"(.*?\.)??(\d+)\.", name)
        if match:
            found.setdefault(match[1] or "", set()).add(int(match[2]))
    least, most = set(range(blocks)), set(range(blocks + extra))
    right = [prefix for prefix, numbers in found.items() if least <= numbers <= most]
    if len(right) != 1 or len(found) != 1:
        told = ", ".join(f"{prefix}0..{max(numbers)}" for prefix, numbers in sorted(found.items())) or "none"
        raise FactoryError(
            f"the tensors' names do not show where the {blocks} blocks are (numbered: {told})",
            where=str(where),
            mend="Use a model of another family",
        )
    return right[0]
