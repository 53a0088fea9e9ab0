"""How a variant may be trained: the words for it, and which of them go together.

`variants.py` (what a person may write), `plan/plan.py` and the train stage share these. Plain data; nothing
is loaded.

method  lora    a LoRA adapter on frozen weights, merged into them at the end (arXiv 2106.09685)
        full    every weight
        qlora   a LoRA adapter on weights quantised to 4 bits (arXiv 2305.14314)
freeze  half    with `full`: half of each block's matrices stay as they are (arXiv 2404.18466)
loss    sft     the cross-entropy of the responses' tokens
        distill the divergence from the unpruned base at each of those tokens (arXiv 2306.13649)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Literal

from factory.nearest import suggest

Method = Literal["lora", "full", "qlora"]
Freeze = Literal["half"]
Loss = Literal["sft", "distill"]
LongRows = Literal["drop", "cut"]

ADAPTERS = ("lora", "qlora")
QUANTISER = "bitsandbytes"

# Where training may be followed as it goes on: the field's word and the packages that provide it.
REPORTERS: Mapping[str, tuple[str, ...]] = {
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard", "tensorboardX"),
}
# Fields of SFTConfig that say where training is followed, not what it makes: they are in no key.
FOLLOWING = (
    "report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
)  # fmt: skip

# What TRL's trainer for distillation takes and leaves unused; by the values that would ask for it.
_UNDISTILLED: Mapping[str, tuple[Any, ...]] = {
    "packing": (True,),
    "padding_free": (True,),
    "loss_type": ("dft",),
}


def unfit(
    method: Method, loss: Loss, *, lora: bool, freeze: bool, beta: bool, sft: Mapping[str, Any]
) -> tuple[str, str, str] | None:
    """What of a `train` part goes against its method or its loss: the key, what is wrong, how to mend it.

    Args:
        method: the part's, written there or elsewhere.
        loss: likewise.
        lora: whether the part has fields of LoraConfig.
        freeze: whether it freezes weights.
        beta: whether it names a divergence.
        sft: its fields of SFTConfig.
    """
    if lora and method not in ADAPTERS:
        return "lora", f"`method: {method}` trains the weights themselves, no adapter", "Leave `lora` out"
    if freeze and method != "full":
        what = f"`freeze: half` leaves half of the weights as they are; `method: {method}` leaves all of them"
        return "freeze", what, "Add `method: full`, or leave `freeze` out"
    if beta and loss != "distill":
        return "beta", "`beta` chooses the divergence of `loss: distill`", "Add that, or leave `beta` out"
    if loss == "distill":
        for name in undistilled(sft):
            what = f"`loss: distill` cannot use {name}: TRL's trainer for it has no such thing"
            return f"sft.{name}", what, "Leave it out"
    return None


def undistilled(sft: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among these that distillation would leave unused."""
    return {name: value for name, value in sft.items() if value in _UNDISTILLED.get(name, ())}


def reporters(report_to: Any) -> list[str]:
    """The names in a value of `report_to`; `none` is nobody."""
    named = report_to if isinstance(report_to, list | tuple) else [report_to]
    return [name for name in named if name not in (None, "none")]


def unknown_reporter(report_to: Any) -> tuple[str, str] | None:
    """What is wrong with a value of `report_to`, and how to mend it."""
    for name in reporters(report_to):
        if not isinstance(name, str) or name not in REPORTERS:
            return f"'report_to' cannot be {name!r:.40}", suggest(str(name), [*REPORTERS, "none"])
    return None


def missing_reporter(report_to: Any) -> tuple[str, str] | None:
    """Which of these is not installed, and how to mend that."""
    for name in reporters(report_to):
        if not any(importlib.util.find_spec(package) for package in REPORTERS.get(name, ())):
            return f"training is to be followed with {name}, which is not installed", _install(name)
    return None


def quantiser() -> str | None:
    """The version of the library that quantises for `method: qlora`; None where it is not installed."""
    try:
        return metadata.version(QUANTISER)
    except metadata.PackageNotFoundError:
        return None


def missing_quantiser() -> tuple[str, str] | None:
    """What is wrong where `method: qlora` has nothing to quantise with, and how to mend it."""
    if quantiser() is not None:
        return None
    return f"`method: qlora` needs {QUANTISER}, which is not installed", _install(QUANTISER)


def _install(package: str) -> str:
    return f"`pip install {package}`, or change the line"
