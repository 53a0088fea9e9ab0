"""Training in several processes: what each reads of a step, whether all came up, and who writes.

Under train.py. A step reads the same rows however many processes share them, so their number changes nothing
but rounding: accumulation is divided first, then the batch. train_order.py says which rows those are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from factory.errors import FactoryError
from factory.models import load
from factory.recipe.training import Loss, Method
from factory.stages.train_options import SFT, SFT_ON
from factory.stages.train_order import StepOrder, with_blank

Strategy = Literal["ddp", "fsdp"]
T = TypeVar("T")

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
SMALL = 20_000_000  # parameters, below which a call costs more than the padding it saves
FILLED = 128  # tokens with which a matrix product keeps a CPU's cores busy
# Fields that decide how processes share the work; of several processes that is ours to say.
_OURS = ("accelerator_config", "deepspeed", "fsdp", "fsdp_config", "parallelism_config", "tp_size")
_KINDS = {"MULTI_CPU": "ddp", "MULTI_GPU": "ddp", "FSDP": "fsdp"}  # accelerate's words


@dataclass(frozen=True)
class Unfit:
    """What keeps a training from several processes: the keys below `train`, what is wrong, how to mend it."""

    keys: tuple[str, ...]
    what: str
    mend: str


def unfit(
    processes: int, strategy: Strategy, method: Method, loss: Loss, sft: Mapping[str, Any], device: str
) -> Unfit | None:
    """What in a training goes against so many processes, if anything does."""
    if processes == 1:
        return None
    if loss == "distill":
        what = (
            "`loss: distill` trains in one process: TRL's trainer for it weighs rows by the batch they are in"
        )
        return Unfit(("loss",), what, "Leave --processes out, or train it first in one process, with --only")
    if strategy == "fsdp" and method == "qlora":
        what = "`method: qlora` cannot be sharded: its 4-bit weights are not gathered again"
        return Unfit(("method",), what, "Use --strategy ddp, or `method: lora`")
    for name in _OURS:
        if sft.get(name):
            what = f"{name} says how processes share the work, and so do --processes and --strategy"
            return Unfit(("sft", name), what, "Leave it out")
    if sft.get("dataloader_drop_last"):
        what = "dataloader_drop_last would drop other rows in several processes than in one"
        return Unfit(("sft", "dataloader_drop_last"), what, "Leave it out")
    if sft.get("train_sampling_strategy", "random") != "random":
        what = f"train_sampling_strategy: {sft['train_sampling_strategy']} reads other rows in every process"
        return Unfit(("sft", "train_sampling_strategy"), what, "Leave it out, or --processes")
    batch, accumulation = step(sft, device)
    if share(batch, accumulation, processes) is None:
        rows = batch * accumulation
        what = (
            f"a step reads {rows} row{'s' * (rows > 1)} ({BATCH} {batch} x {ACCUMULATION} {accumulation}), "
            f"which {processes} processes cannot share"
        )
        fewer = [str(n) for n in range(2, processes) if rows % n == 0]
        each = processes // math.gcd(batch, processes)
        use = " or ".join(part for part in (", ".join(fewer[:-1]), *fewer[-1:]) if part)
        mend = f"Use --processes {use}" if fewer else "Leave --processes out"
        mend += f", or set {ACCUMULATION} to {math.ceil(accumulation / each) * each}"
        return Unfit(("sft", ACCUMULATION if ACCUMULATION in sft else BATCH), what, mend)
    return None


def step(sft: Mapping[str, Any], device: str) -> tuple[int, int]:
    """Rows at a time and how many times, of one process, as the recipe or our defaults have it."""
    chosen = {ACCUMULATION: 1, **SFT, **SFT_ON[device], **sft}
    return chosen[BATCH], chosen[ACCUMULATION]


def share(batch: int, accumulation: int, processes: int) -> tuple[int, int] | None:
    """Batch and accumulation of each process, so that a step reads what it reads in one; None: impossible."""
    together = math.gcd(accumulation, processes)
    left = processes // together
    return None if batch % left else (batch // left, accumulation // together)


def one_gpu() -> None:
    """Hides all GPUs but the first from a process that trains alone. To be called before CUDA is asked.

    A Trainer that sees several would use DataParallel, which TRL refuses.
    """
    if not several():
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = "0" if shown is None else shown.split(",")[0]


def options(
    processes: int, strategy: Strategy, method: Method, loss: Loss, sft: Mapping[str, Any]
) -> dict[str, Any]:
    """The recipe's fields of SFTConfig as each of the processes is given them.

    Raises:
        FactoryError: fewer or more processes came up than were asked for, or they cannot share the work.
    """
    up = _count()
    if up != processes:
        raise FactoryError(
            f"training was asked for in {processes} processes, and {up} came up",
            where="--processes",
            mend="See the step's log",
        )
    device = load.device()
    if found := unfit(processes, strategy, method, loss, sft, device):
        raise FactoryError(found.what, where=".".join(("train", *found.keys)), mend=found.mend)
    if processes == 1:
        return dict(sft)
    batch, accumulation = share(*step(sft, device), processes) or (1, 1)
    # An adapter's every weight takes part in every step: nothing to search for.
    chosen = {"ddp_find_unused_parameters": False, **sft, BATCH: batch, ACCUMULATION: accumulation}
    if strategy == "fsdp":
        kept = chosen.pop("gradient_checkpointing", SFT_ON[device]["gradient_checkpointing"])
        config = {"version": 2, "activation_checkpointing": kept}
        chosen |= {"fsdp": True, "fsdp_config": config, "gradient_checkpointing": False}
    return chosen


def portion(arguments: Any, loss: Loss, tokens: float, parameters: int) -> None:
    """On a CPU, has a batch go through the model in as few rows at a time as keep its cores busy.

    A row by itself has no padding. What a step learns is the same: TRL weighs tokens by the step's number of
    them, not by the batch they are in.

    Args:
        arguments: an SFTConfig; its batch and accumulation are changed.
        loss: `distill` weighs otherwise.
        tokens: of a row, the mean.
        parameters: of the model.
    """
    padded = not (arguments.packing or arguments.padding_free or arguments.dataloader_drop_last)
    if loss != "sft" or not arguments.use_cpu or not padded or parameters < SMALL:
        return
    batch = arguments.per_device_train_batch_size
    rows = next(n for n in range(1, batch + 1) if batch % n == 0 and (n * tokens >= FILLED or n == batch))
    arguments.per_device_train_batch_size = rows
    arguments.gradient_accumulation_steps *= batch // rows


def prepare(trainer: Any, processes: int, strategy: Strategy) -> None:
    """Sees that the processes came up as asked, and gives the trainer the order of rows.

    Raises:
        FactoryError: training would run under another strategy than asked for.
    """
    if processes > 1:
        kind = trainer.accelerator.distributed_type.value
        came = _KINDS.get(kind, kind.lower())
        if came != strategy or trainer.is_fsdp_enabled != (strategy == "fsdp"):
            raise FactoryError(
                f"training was asked for under {strategy}, and {came} came up",
                where="--strategy",
                mend="fsdp needs a GPU for each process" if strategy == "fsdp" else "See the step's log",
            )
    args = trainer.args
    batch, accumulation = args.train_batch_size, args.gradient_accumulation_steps
    if args.train_sampling_strategy != "random" or (processes == 1 and 1 in (batch, accumulation)):
        return  # the trainer's own order is this one
    rows = trainer.train_dataset
    lengths = [len(ids) for part in rows.select_columns("input_ids").iter(1000) for ids in part["input_ids"]]
    seed = args.seed if args.data_seed is None else args.data_seed
    order = StepOrder(
        lengths, batch * accumulation * processes, batch * processes if processes > 1 else 1, seed,
        lambda: trainer.state.global_step,
    )  # fmt: skip
    if len(order) > len(lengths):
        trainer.train_dataset = with_blank(rows)
    trainer._get_train_sampler = lambda *_: order


def whole(trainer: Any, strategy: Strategy, source: Path, lora: Any) -> Any:
    """The trained model in one piece, on the first process; of the others no matter what.

    Called by all. Under FSDP each has a part: the full state is gathered on the first process, which puts it
    into the model of `source`, loaded anew.
    """
    if strategy != "fsdp" or not several():
        return trainer.model
    state = trainer.accelerator.get_state_dict(trainer.model)
    return rebuilt(source, lora, trainer.model, state) if is_first() else None


def rebuilt(source: Path, lora: Any, trained: Any, state: Mapping[str, Any]) -> Any:
    """The model of a folder with the weights of a state dict: all of them, or those of an adapter."""
    fresh = load.causal_lm(source)
    if lora is None:
        fresh.load_state_dict(state)
        return fresh
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    fresh = get_peft_model(fresh, lora)
    set_peft_model_state_dict(fresh, get_peft_model_state_dict(trained, state_dict=dict(state)))
    return fresh


def facts(trainer: Any, strategy: Strategy) -> dict[str, Any]:
    """For the record, of several processes; called by all. The tokens measured become those of all."""
    if not several():
        return {}
    import torch
    from torch import distributed

    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    found: list[Any] = [None] * _count()
    distributed.all_gather_object(found, (int(trainer.measured.tokens), gpu))
    trainer.measured.tokens = sum(tokens for tokens, _ in found)
    told = {"count": _count(), "strategy": strategy, "backend": distributed.get_backend()}
    return {"processes": told if gpu is None else {**told, "gpu_memory": [peak for _, peak in found]}}


def _count() -> int:
    """How many processes came up."""
    from torch import distributed

    return distributed.get_world_size() if distributed.is_initialized() else 1


def several() -> bool:
    """Whether this is one of several processes that train together."""
    return _count() > 1


def is_first() -> bool:
    """Whether this process is the one that tells and writes."""
    from torch import distributed

    return not several() or distributed.get_rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if several():
        from torch import distributed

        distributed.barrier()


def first_before_others(task: Callable[[], T]) -> T:
    """Does a task in every process; the first has done it before the others begin."""
    if not is_first():
        wait()
    done = task()
    if is_first():
        wait()
    return done
