"""Loads a stock model folder: its backbone or its causal language model, and its tokenizer.

One place decides device and number type. On a GPU the checkpoint's own dtype is used; on a CPU float32,
in which batched and one-by-one results agree (in bfloat16 they do not).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import Architecture
from factory.models.checkpoint import read_config, weight_files


def device() -> str:
    """`cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype() -> str:
    """What weights are loaded as on `device()`: a dtype's name, or `auto` for the checkpoint's own."""
    return "auto" if device() == "cuda" else "float32"


def causal_lm(folder: Path) -> Any:
    """The causal language model of a folder, in evaluation mode on `device()`.

    Raises:
        FactoryError: no config.json or no safetensors.
    """
    from transformers import AutoModelForCausalLM

    return _load(AutoModelForCausalLM, folder)


def backbone(folder: Path) -> Any:
    """The model without its language-model head, in evaluation mode on `device()`.

    Raises:
        FactoryError: no config.json or no safetensors.
    """
    from transformers import AutoModel

    return _load(AutoModel, folder)


def _load(kind: Any, folder: Path) -> Any:
    from transformers.utils.logging import disable_progress_bar

    read_config(folder)
    weight_files(folder)
    disable_progress_bar()  # the factory's own display says what is done
    return kind.from_pretrained(folder, dtype=dtype(), use_safetensors=True).to(device()).eval()


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        FactoryError: the folder holds none that can be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FactoryError(
            f"there is no readable tokenizer ({reason})",
            where=str(folder),
            mend="Save the tokenizer beside the model (tokenizer.save_pretrained)",
        ) from None


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
    """How many values a model's blocks return as a tuple, as older classes do; 0 where it is none.

    Found by one token through the first block.

    Args:
        model: a loaded backbone or causal language model.
        blocks: its blocks.
    """
    import torch

    class SeenError(Exception):
        """Ends the forward: the other blocks may lie on the disk, and are as the first."""

    def look(block: Any, args: Any, out: Any) -> None:
        raise SeenError(len(out) if isinstance(out, tuple) else 0)

    hook = blocks[0].register_forward_hook(look)
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    except SeenError as seen:
        return int(seen.args[0])
    finally:
        hook.remove()
    return 0
