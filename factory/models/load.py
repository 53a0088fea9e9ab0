"""Loads a stock model folder: its backbone or its causal language model, and its tokenizer.

One place decides device and number type. On a GPU the checkpoint's own dtype is used; on a CPU float32,
in which batched and one-by-one results agree (in bfloat16 they do not).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import HEADS, Architecture
from factory.models.carried import tokenizer_files
from factory.models.checkpoint import read_config, weight_files

_PROBES = ("Hello, World!", "3 + 4 = 7", "naïve 你好")  # texts of which a tokenizer makes more than one token


def device() -> str:
    """`cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype() -> str:
    """What weights are loaded as on `device()`: a dtype's name, or `auto` for the checkpoint's own."""
    return "auto" if device() == "cuda" else "float32"


def causal_lm(folder: Path, as_dtype: str | None = None, **more: Any) -> Any:
    """The causal language model of a folder, in evaluation mode on `device()`.

    Args:
        folder: a stock model folder.
        as_dtype: what its weights are loaded as; by default `dtype()`.
        more: further arguments for `from_pretrained`.

    Raises:
        FactoryError: no config.json, a family without such models, no safetensors, or some of the model's
            weights are not in them.
    """
    from transformers import AutoModelForCausalLM

    from factory.models.beyond import causal_lms

    causal_lms(str(read_config(folder).get("model_type")), folder)
    return _load(AutoModelForCausalLM, folder, as_dtype=as_dtype, **more)


def backbone(folder: Path) -> Any:
    """The model without its language-model head, in evaluation mode on `device()`.

    Raises:
        FactoryError: as `causal_lm`.
    """
    from transformers import AutoModel

    return _load(AutoModel, folder, whole=False)


def _load(kind: Any, folder: Path, *, whole: bool = True, as_dtype: str | None = None, **more: Any) -> Any:
    from transformers.utils.logging import disable_progress_bar

    config = read_config(folder)
    weight_files(folder)
    disable_progress_bar()  # the factory's own display says what is done
    with nullcontext() if whole else _without_head(config, folder):
        model, loading = kind.from_pretrained(
            folder, dtype=as_dtype or dtype(), use_safetensors=True, output_loading_info=True, **more
        )
    # Some classes have a pooler behind the backbone, which no causal language model stores.
    missing = [str(key) for key in loading["missing_keys"] if whole or not str(key).startswith("pooler.")]
    if missing:
        raise missing_weights(missing[0], model, folder)
    return model.to(device()).eval()


def missing_weights(name: str, model: Any, folder: Path, mend: str = "Fetch the model again") -> FactoryError:
    """The refusal of a checkpoint that lacks a parameter, which transformers would draw at random.

    Args:
        name: the parameter.
        model: as it was loaded.
        folder: its folder.
        mend: what to do where the parameter is not the head's.
    """
    if (output := model.get_output_embeddings()) is not None:
        path = next((path for path, module in model.named_modules() if module is output), None)
        if name == f"{path}.weight":
            return FactoryError(
                f"the checkpoint has no language-model head ({name}), and its config.json does not tie the "
                "head to the embeddings",
                where=str(folder),
                mend="Set tie_word_embeddings to true if they are one matrix, or fetch the model again",
            )
    what = f"stock transformers finds no fitting weights for {name}"
    return FactoryError(what, where=str(folder), mend=mend)


@contextmanager
def _without_head(config: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Keeps transformers from warning that a backbone has no place for the head's weights."""
    from transformers import MODEL_MAPPING

    from factory.models.beyond import resolved, without_weights

    settings = resolved(config, folder)
    whole = without_weights(settings, folder)
    outside = {name for name, _ in whole.named_children() if name != whole.base_model_prefix}
    outside |= {name.partition(".")[0] for name in HEADS}  # GPT-NeoX stores its head under an older name
    found = MODEL_MAPPING.get(type(settings), ())
    classes = found if isinstance(found, tuple | list) else (found,)
    name = "_keys_to_ignore_on_load_unexpected"
    before = {kind: vars(kind).get(name) for kind in classes}
    try:
        for kind in classes:
            known = getattr(kind, name) or ()
            setattr(kind, name, [*known, *(rf"^{re.escape(part)}\." for part in sorted(outside))])
        yield
    finally:
        for kind, value in before.items():
            if value is None:
                delattr(kind, name)
            else:
                setattr(kind, name, value)


def limits(config: Mapping[str, Any], folder: Path) -> tuple[int | None, int | None]:
    """The longest text, in tokens, and the number of token ids that a model can take; None where not told.

    Raises:
        FactoryError: transformers refuses the config.
    """
    from factory.models.beyond import resolved

    settings = resolved(config, folder)  # the same two names for all families, defaults filled in
    found = (getattr(settings, name, None) for name in ("max_position_embeddings", "vocab_size"))
    positions, ids = (value if isinstance(value, int) and value > 1 else None for value in found)
    return positions, ids


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        FactoryError: the folder holds none that can be read, or one without a vocabulary.
    """
    from transformers import AutoTokenizer

    mend = "Save the tokenizer beside the model (tokenizer.save_pretrained)"
    # Of a folder without these files, or without a vocabulary in them, transformers 5 makes a tokenizer that
    # knows its special tokens alone, and says nothing.
    if not tokenizer_files(folder):
        raise FactoryError("the folder has no tokenizer", where=str(folder), mend=mend)
    try:
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        words = len(set(found.get_vocab().values()) - set(found.all_special_ids))
        longest = max(len(ids) for ids in found(list(_PROBES), add_special_tokens=False)["input_ids"])
    except Exception as error:  # its loaders raise whatever comes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = f"there is no readable tokenizer ({reason})"
        raise FactoryError(what, where=str(folder), mend=mend) from error
    if not words or longest < 2:
        what = "the tokenizer has no vocabulary: it makes at most one token of any text"
        raise FactoryError(what, where=str(folder), mend=mend)
    return found


def named_blocks(model: Any, row: Architecture) -> Any:
    """The module list with the blocks of a loaded backbone or causal language model, by its family's row.

    Raises:
        FactoryError: the model has no blocks where the row says.
    """
    # A backbone's names lack the first part: `layers` for `model.layers`.
    whole = row.blocks.rstrip(".")
    for path in (whole, whole.partition(".")[2]):
        try:
            found = model.get_submodule(path) if path else None
        except AttributeError:
            continue
        if found is not None and len(found) == model.config.num_hidden_layers:
            return found
    return block_list(model)


def block_list(model: Any) -> Any:
    """The module list with the blocks of a loaded backbone or causal language model.

    Raises:
        FactoryError: no list of modules, or several, is as long as the model has blocks.
    """
    from torch.nn import ModuleList

    blocks = model.config.num_hidden_layers
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, ModuleList) and len(m) == blocks]
    # Lists inside a block (its experts, say) may be as long; the blocks stand above them.
    outermost = [(n, m) for n, m in lists if not any(n.startswith(other + ".") for other, _ in lists)]
    if len(outermost) != 1:
        raise FactoryError(
            f"the model has {len(outermost)} lists of {blocks} modules, so its blocks cannot be told",
            where=str(model.config.name_or_path),
            mend="Use a model of another family",
        )
    return outermost[0][1]


def tuple_length(model: Any, blocks: Any) -> int:
    """How many values a model's blocks return as a tuple or list, as older classes do; 0 where it is none.

    Found by one token through the first block.

    Args:
        model: a loaded backbone or causal language model.
        blocks: its blocks.
    """
    import torch

    class SeenError(Exception):
        """Ends the forward: the other blocks may lie on the disk, and are as the first."""

    def look(block: Any, args: Any, out: Any) -> None:
        raise SeenError(len(out) if isinstance(out, tuple | list) else 0)

    hook = blocks[0].register_forward_hook(look)
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    except SeenError as seen:
        return int(seen.args[0])
    finally:
        hook.remove()
    return 0
