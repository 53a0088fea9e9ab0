"""Runs a stock model for a proof, and compares what two of them give.

Behind proof.py, which holds whole models, and streamed_proof.py, which leaves the blocks on the disk: both
load by stock `from_pretrained` and generate by stock `generate`, so what is compared is what users get.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.load import missing_weights
from factory.models.proof_plan import Plan

MEND = "Do not use it: blocks of this model cannot be removed safely; please report its config.json"
BASE = "Fetch the base model again, or install the transformers that it was saved with"


def load(folder: Path, plan: Plan, mend: str = MEND, **more: Any) -> Any:
    """The causal language model of a folder, in evaluation mode, as stock transformers loads it.

    Args:
        folder: a stock model folder.
        plan: gives dtype and overridden config fields.
        mend: what to do where it does not load.
        more: further arguments for `from_pretrained`.

    Raises:
        FactoryError: it does not load, or lacks weights.
    """
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=plan.dtype, use_safetensors=True, output_loading_info=True, **plan.override, **more
        )
    except Exception as error:  # whatever the libraries raise, it means the same here
        reason = " ".join(str(error).split())[:200]
        raise FactoryError(
            f"stock transformers does not load it ({reason})", where=str(folder), mend=mend
        ) from error
    model, loading = loaded
    wrong = [str(key) for kind in ("missing_keys", "mismatched_keys") for key in loading[kind]]
    if wrong:
        raise missing_weights(wrong[0], model, folder, mend)
    return model.eval()


def generated(model: Any, plan: Plan, new: int) -> dict[str, Any]:
    """`new` tokens generated greedily with a KV cache behind the plan's prompt, on the CPU.

    Returns:
        `generation`: logits of every step, of shape (new, 1, vocabulary); `words`: the token ids.
    """
    import torch
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        use_cache=True,
        output_logits=True,
        return_dict_in_generate=True,
        eos_token_id=None,
        pad_token_id=0,
        prefill_chunk_size=plan.chunk,
    )
    prompt = plan.ids(1, plan.prompt)
    with torch.inference_mode():
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=greedy)
    return {"generation": torch.stack(made.logits).cpu(), "words": made.sequences.cpu()}


@contextmanager
def refusing(folder: Path, how: str, mend: str = MEND) -> Iterator[None]:
    """Whatever a model raises while it runs, as a refusal: `the model {how} (...)`."""
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:  # states that are no keys and values, or blocks that need what others computed
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise FactoryError(f"the model {how} ({reason})", where=str(folder), mend=mend) from error


def same(wanted: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> None:
    """Refuses outputs that are not equal bit for bit; NaN stands for no proof at all.

    Raises:
        FactoryError: so it is.
    """
    import torch

    for what, one in wanted.items():
        other = found[what]
        if not torch.isfinite(one).all():
            raise no_numbers(what, where)
        if one.shape != other.shape or not torch.equal(one, other):
            gap = (one.double() - other.double()).abs().max().item() if one.shape == other.shape else None
            by = f" by up to {gap:.3g}" if gap is not None else ""
            raise different(f"{what} differ{by}", where)


def no_numbers(what: str, where: Path) -> FactoryError:
    """The refusal of a base whose outputs are not finite."""
    return FactoryError(
        f"nothing is proved: the base without these blocks gives {what} that are no numbers",
        where=str(where),
        mend="Use the checkpoint in another dtype, or switch the proof off",
    )


def different(how: str, where: Path) -> FactoryError:
    """The refusal of a pruned folder that gives something else than it should."""
    what = f"the pruned checkpoint is not the base without these blocks: {how}"
    return FactoryError(what, where=str(where), mend=MEND)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the libraries, and operations that give the same result every time."""
    import torch
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    dispatching = logging.getLogger("accelerate.big_modeling")
    before = dispatching.level
    fixed = torch.are_deterministic_algorithms_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    dispatching.setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
        dispatching.setLevel(before)
        torch.use_deterministic_algorithms(fixed)
