"""TRL's trainers under watch: progress, what has to be logged, whole checkpoints, and when to stop.

Under train.py. A loss that is no number, or that has grown beyond that of a blind guess and stays there,
stops the training at that step with the likely cause: nothing that follows could be good.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.recipe.training import Loss, reporters
from factory.stages import Progress
from factory.stages.train_options import REFUSALS, refusal
from factory.stages.train_processes import is_first, wait

STEPS = 8  # in a row, above the bound: not a batch that happened to be hard
_COMPLETE = "complete"  # a file in a checkpoint folder: everything before it was written


@dataclass
class Losses:
    """The loss of every step as it is computed.

    Attributes:
        blind: the loss of one who guesses blindly, ln(vocabulary).
        half: whether activations are computed in fp16, whose numbers end at 65,504.
        first: the first step's loss, once there is one.
    """

    blind: float
    half: bool
    first: float | None = None
    _step: float = 0.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS))

    def add(self, loss: float, step: int) -> None:
        """Takes what one batch adds to a step's loss.

        Raises:
            FactoryError: it is no number.
        """
        if not math.isfinite(loss):
            raise self._stop(f"the loss became {loss} at step {step:,}", first=self.first is None)
        self._step += loss

    def end_step(self, step: int) -> None:
        """A step is over.

        Raises:
            FactoryError: the loss has been far above the first one and above a blind guess for some steps.
        """
        loss, self._step = self._step, 0.0
        self.first = loss if self.first is None else self.first
        self._recent.append(loss)
        if len(self._recent) == STEPS and min(self._recent) > max(2 * self.first, self.blind):
            what = (
                f"training diverged: at step {step:,} the loss is {loss:.2f}, was {self.first:.2f} at first, "
                f"and a blind guess has {self.blind:.2f}"
            )
            raise self._stop(what)

    def _stop(self, what: str, first: bool = False) -> FactoryError:
        if self.half:
            where, mend = (
                "train.sft.fp16",
                "fp16 overflows easily: use bf16 or fp32, or lower learning_rate",
            )
        elif first:
            where = "train"
            mend = "No weight had changed yet: look at the model, the precision (bf16, fp16) and the rows"
        else:
            where, mend = "train.sft.learning_rate", "It is likely too high: lower it, or add warmup_steps"
        return FactoryError(what, where=where, mend=mend)


@dataclass
class Measured:
    """What a training costs, of this session.

    Attributes:
        tokens: that the model read; padding does not count.
        seconds: from the first step to the last, checkpoints and all.
    """

    tokens: Any = 0
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """For the record; `gpu_memory` in bytes at its peak, None without a GPU."""
        import torch

        return {
            "seconds": round(self.seconds, 2),
            "tokens_per_second": round(int(self.tokens) / self.seconds, 1) if self.seconds else None,
            "gpu_memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        }


def make_trainer(
    loss: Loss,
    model: Any,
    teacher: Any,
    tokenizer: Any,
    options: tuple[Any, Any],
    rows: Any,
    progress: Progress,
) -> Any:
    """TRL's trainer for the loss, under watch: `trainer.measured` tells what it cost.

    Args:
        loss: `sft` or `distill`.
        model: to train.
        teacher: of `distill`, whose distribution is learnt; else None.
        tokenizer: of both.
        options: from `configs`.
        rows: input_ids and labels.
        progress: told the steps done, with the loss.

    Raises:
        FactoryError: PEFT or TRL refuse a value.
    """
    from transformers import PrinterCallback
    from trl import SFTTrainer

    lora, arguments = options
    base: Any = SFTTrainer
    more: dict[str, Any] = {}
    if loss == "distill":
        from trl.experimental.gkd import GKDTrainer
        from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

        base = GKDTrainer
        # Its own collator pads in front, where models with learnt positions lose count.
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        collator = DataCollatorForLanguageModeling(
            pad_token_id=tokenizer.pad_token_id, pad_to_multiple_of=arguments.pad_to_multiple_of
        )
        more = {"teacher_model": teacher.requires_grad_(False), "data_collator": collator}
    vocabulary = model.config.get_text_config().vocab_size
    losses, measured = Losses(math.log(vocabulary), bool(arguments.fp16)), Measured()
    try:
        trainer = _watched(base)(
            model=model,
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[_callback(progress, losses, measured)],
            **more,
        )
    except REFUSALS as error:
        raise refusal("train", error) from error
    if loss == "sft":
        from factory.stages.train_head import lighten

        lighten(model)  # which TRL has given its head, and PEFT wraps as it is
    trainer.losses, trainer.measured = losses, measured
    trainer.remove_callback(PrinterCallback)
    _follow(trainer)
    return trainer


def _watched(base: Any) -> Any:
    """A trainer class that has `losses` and `measured` see every batch."""

    class Watched(base):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")  # rows that are packed have none, and no padding
            self.measured.tokens += inputs["input_ids"].numel() if mask is None else mask.sum()
            loss = super().training_step(model, inputs, *args, **kwargs)
            self.losses.add(float(loss), self.state.global_step + 1)
            return loss

    return Watched


def _callback(progress: Progress, losses: Losses, measured: Measured) -> Any:
    from transformers import TrainerCallback

    class Report(TrainerCallback):
        """Tells progress, logs what would be lost, and marks a checkpoint once all in it is on disk."""

        told, began = "", 0.0

        def _log_too(self, state: Any, control: Any) -> None:
            # A checkpoint does not hold the losses since the last log: a resumed run would forget them.
            # And a recipe may log more rarely than it has steps, or never.
            if control.should_save or state.global_step >= state.max_steps:
                control.should_log = True

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began = time.monotonic()
            logged = (entry["loss"] for entry in state.log_history if "loss" in entry)
            losses.first = next(logged, None)  # of a run that goes on where another broke off

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            measured.seconds = time.monotonic() - self.began

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                self.told = f"loss {logs['loss']:.3f}"

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            losses.end_step(state.global_step)
            self._log_too(state, control)
            progress(state.global_step, state.max_steps, "steps", self.told)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._log_too(state, control)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            wait()  # for what the other processes put into it
            if is_first():
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()

    return Report()


def _follow(trainer: Any) -> None:
    """Keeps what follows a training out of the artifact: below the working folder, as those tools do."""
    from transformers.integrations import TensorBoardCallback

    args = trainer.args
    if "wandb" in reporters(args.report_to):
        os.environ.setdefault("WANDB_PROJECT", args.project)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(Path("tensorboard", args.project, args.run_name or "train"))


@contextmanager
def told_if_full(what: str, where: str, mend: str) -> Iterator[None]:
    """Names the setting to lower where a GPU's memory does not do for `what`."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        said = f"the device has too little memory {what} ({reason})"
        raise FactoryError(said, where=where, mend=mend) from error


def fit(trainer: Any, checkpoint: str | None) -> None:
    """Trains. What would end the same way again is told as such, with what to change.

    Args:
        trainer: from `make_trainer`.
        checkpoint: to go on from.

    Raises:
        FactoryError: the device has too little memory, a library refuses a value, or the loss or the weights
            are no numbers any more.
    """
    mend = "Lower it or max_length, or free the device's memory"
    with told_if_full("for a step", "train.sft.per_device_train_batch_size", mend):
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except REFUSALS as error:  # such as a schedule that lacks one of its lr_scheduler_kwargs
            raise refusal("train", error) from error
    weights = (p for p in trainer.model.parameters() if p.requires_grad)
    parts = (p.to_local() if hasattr(p, "to_local") else p for p in weights)  # under FSDP each has its own
    if not all(bool(p.isfinite().all()) for p in parts):
        raise FactoryError(
            f"training diverged: at step {trainer.state.global_step:,}, the last one, the weights are no "
            "numbers any more",
            where="train.sft.learning_rate",
            mend="It is likely too high: lower it, or add warmup_steps",
        )


def curve(history: Iterable[Mapping[str, Any]], name: str) -> list[list[float]]:
    """What was logged under a name as [step, value] pairs, with five digits that count.

    A norm of gradients that overflowed is left out: in fp16 the scaler passes over such a step.
    """
    logged = ((entry["step"], entry[name]) for entry in history if name in entry)
    return [[step, float(f"{value:.5g}")] for step, value in logged if math.isfinite(value)]


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; torn ones are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / _COMPLETE).exists():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None
