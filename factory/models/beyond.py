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
from factory.models.fields import FIELDS, Behind, Sliced

# Words in keys that tell of a difference between blocks, and keys with such words that tell of none.
_PER_BLOCK = re.compile(
    r"layer|block|depth|every|interval|period|pattern|freq|reuse|offset|skip|first_k|indices|idx|_step$"
)
_HARMLESS = re.compile(
    r"layer_?norm|norm_?layer|layer_?drop$|^(num|n)_(hidden_)?layers?$|^(num_blocks|layers)$|^summary_"
    r"|^block_(multiple_of|auto_adjust_ff_dim|ffn?_dim(_multiplier)?|dim)$"
)


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
    classes = _causal_lms(model_type)
    if not classes:
        raise FactoryError(
            f"transformers has no causal language model of model_type {model_type!r}",
            where=str(where),
            mend=f"Use a model of a family that transformers has, such as {', '.join(sorted(TABLE))}",
        )
    wanted = (config.get("architectures") or classes)[0]
    if wanted not in classes:
        what = f"the model is a {wanted}, not the causal language model of {model_type}"
        raise FactoryError(what, where=str(where), mend=f"Use a checkpoint saved from {classes[0]}")
    values = settings.to_dict()
    row = Architecture(
        model_type,
        wanted,
        outer=None,
        count=settings.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        per_block=tuple(
            key for key in FIELDS if key != "per_layer_config" and _means_something(values.get(key))
        ),
        tied=bool(getattr(settings, "tie_word_embeddings", False)),
        listed=False,
    )
    blocks = block_count({**values, **config}, row, where)
    refuse_unknown({**values, **config}, row, where)
    told = {
        key for field in map(FIELDS.get, row.per_block) if isinstance(field, Sliced) for key in field.replaces
    }
    for key, value in {**values, **config}.items():
        known = key in FIELDS or key in NEVER_PER_BLOCK or key in told or _HARMLESS.search(key)
        if known or not _PER_BLOCK.search(key) or not _means_something(value):
            continue
        raise FactoryError(
            f"config.json may say by {key!r} how blocks differ, which is not known for {model_type}",
            where=str(where),
            mend="Use a model of another family; removing blocks here could be silently wrong",
        )
    extra = next((values.get(key) or 0 for key, field in FIELDS.items() if isinstance(field, Behind)), 0)
    prefix = _blocks(names, blocks, extra, where) if names else row.blocks
    return replace(row, blocks=prefix)


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


def _causal_lms(model_type: str) -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type, ())
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
