"""Train: LoRA fine-tuning of the pruned model on original or regenerated responses; merge and evaluate
read the result.

TRL's SFTTrainer with PEFT on conversational prompt/completion rows, so the loss is on the response and
its stop token alone. `lora` and `sft` take PEFT's and TRL's own field names over our defaults
(train_options.py).
The adapter is merged into the weights: `model/` is a stock folder that differs from the pruned model in
nothing but its weights. A run that was killed resumes from its last whole checkpoint, bit for bit.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory import prompts
from factory.data import DataSpec
from factory.errors import FactoryError
from factory.models import load
from factory.models.carried import carry_files
from factory.models.checkpoint import follow_umask, stored_dtype
from factory.stages import Frozen, Progress
from factory.stages.train_options import REFUSALS, configs, refusal, refuse_tied, used
from factory.training_rows import TrainingRows
from factory.wording import counted

VERSION = 2
LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "peft", "accelerate")

CURVE_POINTS = 50
_COMPLETE = "complete"  # a file in a checkpoint folder: everything before it was written


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the datasets, by name; their rows are put together and shuffled.
        shares: of each dataset in the mix, where it takes counting rows to know how many that are.
        targets: `original` trains on the datasets' own responses (SFT), `self` on regenerated ones.
        lora: fields of PEFT's LoraConfig over `LORA`.
        sft: fields of TRL's SFTConfig over `SFT` and `SFT_ON`.
        seed: of the shuffling, the adapter's first weights and dropout.
    """

    data: tuple[DataSpec, ...] = Field(min_length=1)
    shares: dict[str, float] = Field(default_factory=dict)
    targets: Literal["original", "self"]
    lora: dict[str, Any] = Field(default_factory=dict)
    sft: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes model/ (merged, stock) and adapter/ (LoRA weights, as float32).

    Args:
        settings: see `Settings`.
        inputs: `model`, the pruned model's folder; `data.<name>`, for each dataset its folder, or the
            regenerated artifact where targets is `self`.
        out: may hold checkpoints/ of an interrupted run of the same step.
        progress: told the steps done, with the loss.

    Returns:
        Rows trained on and left out as too long, rows taken of each dataset (those left out among them),
        tokens of the rows trained on, steps, epochs, first and last loss, the loss curve as [step, loss]
        pairs, parameters and how many of them were trained, and `used`: the values behind the run, written
        in the recipe or not.

    Raises:
        FactoryError: PEFT or TRL refuse a value, the tokenizer has no chat template, the template does
            not end a turn with a stop token, no row fits max_length, the device has too little memory,
            or the weights grew until they were no numbers.
    """
    import datasets
    import torch
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    source = inputs["model"]
    tokenizer = load.tokenizer(source)
    lora, arguments = configs(settings.lora, settings.sft, settings.seed, out / "checkpoints")
    transformers.set_seed(settings.seed)
    # LoRA on frozen weights: on a CPU both are float32; on a GPU the base stays in its own dtype.
    model = load.causal_lm(source).train()
    refuse_tied(model, lora)
    source_rows = TrainingRows(settings.targets, settings.data, inputs, settings.shares)
    rows, tokens, left_out = _rows(settings, inputs, source_rows, tokenizer, model, arguments.max_length)
    trainer = _trainer(settings, model, tokenizer, (lora, arguments), rows, progress)
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    _fit(trainer, _last_checkpoint(out / "checkpoints"))
    state = trainer.state

    _save_adapter(trainer.model, out / "adapter")
    merged = trainer.model.merge_and_unload().to(getattr(torch, stored_dtype(source)))
    shutil.rmtree(out / "model", ignore_errors=True)
    merged.save_pretrained(out / "model")
    carry_files(source, out / "model")
    shutil.copyfile(source / "config.json", out / "model" / "config.json")
    follow_umask(out)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)

    curve = [[entry["step"], round(entry["loss"], 5)] for entry in state.log_history if "loss" in entry]
    return {
        "rows": len(rows),
        "rows_left_out": left_out,
        "taken": source_rows.taken,
        "tokens": tokens,
        "steps": state.global_step,
        "epochs": round(state.epoch, 3),
        "loss_first": curve[0][1],
        "loss_last": curve[-1][1],
        "losses": curve[:: math.ceil(len(curve) / CURVE_POINTS)],
        "parameters": merged.num_parameters(),
        "trainable_parameters": trainable,
        "used": used(lora, trainer.args),
    }


def _rows(
    settings: Settings,
    inputs: Mapping[str, Path],
    source: TrainingRows,
    tokenizer: Any,
    model: Any,
    max_length: int | None,
) -> tuple[Any, int, int]:
    """The training rows as TRL wants them, shuffled; how many tokens they have; how many were too long."""
    from datasets import Dataset

    if not tokenizer.chat_template:
        raise FactoryError(
            "the tokenizer has no chat template",
            where=str(inputs["model"]),
            mend="Use an instruction-tuned model, or add chat_template.jinja to the base",
        )
    stops = model.generation_config.eos_token_id
    stops = tokenizer.eos_token_id if stops is None else stops
    stops = set(stops if isinstance(stops, list) else [stops])
    rows, tokens, left_out = [], 0, 0
    for spec, instruction, context, response in source:
        prompt = prompts.messages(spec.prompt, instruction, context)
        completion = [{"role": "assistant", "content": response}]
        ids = tokenizer.apply_chat_template(prompt + completion, tokenize=True, return_dict=False)
        if not stops & set(ids[-3:]):  # some templates put a line end behind it
            raise FactoryError(
                "the chat template does not end the assistant's turn with a stop token of the model, "
                "so the trained model would never stop",
                where=str(inputs["model"]),
                mend="Add the template's last token to eos_token_id in generation_config.json",
            )
        if max_length is not None and len(ids) > max_length:
            left_out += 1
            continue
        rows.append({"prompt": prompt, "completion": completion})
        tokens += len(ids)
    if not rows:
        raise FactoryError(
            f"no row fits max_length, {max_length} tokens ({counted(left_out, 'row')} left out)",
            where="train.sft.max_length",
            mend="Raise it",
        )
    return Dataset.from_list(rows).shuffle(seed=settings.seed), tokens, left_out


def _trainer(
    settings: Settings, model: Any, tokenizer: Any, options: tuple[Any, Any], rows: Any, progress: Progress
) -> Any:
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTTrainer

    class Report(TrainerCallback):
        """Tells progress, logs what would be lost, and marks a checkpoint once all in it is on disk."""

        loss = ""

        def _log_too(self, state: Any, control: Any) -> None:
            # A checkpoint does not hold the losses since the last log: a resumed run would forget them.
            # And a recipe may log more rarely than it has steps, or never.
            if control.should_save or state.global_step >= state.max_steps:
                control.should_log = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                self.loss = f"loss {logs['loss']:.3f}"

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._log_too(state, control)
            progress(state.global_step, state.max_steps, "steps", self.loss)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._log_too(state, control)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()

    lora, arguments = options
    try:
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[Report()],
        )
    except REFUSALS as error:
        raise refusal("train", error) from error
    trainer.remove_callback(PrinterCallback)
    if "logging_steps" not in settings.sft:
        steps = arguments.max_steps
        if steps <= 0:
            batches = len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps
            steps = math.ceil(batches * arguments.num_train_epochs)
        arguments.logging_steps = 10 if steps >= 100 else 1  # divides save_steps: a resumed curve is the same
    return trainer


def _fit(trainer: Any, checkpoint: str | None) -> None:
    """Trains. What would end the same way again is told as such, with what to change."""
    import torch

    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        raise FactoryError(
            f"the device has too little memory for a step ({str(error).split('. ')[0]})",
            where="train.sft.per_device_train_batch_size",
            mend="Lower it or max_length, or free the device's memory",
        ) from error
    except REFUSALS as error:  # such as a schedule that lacks one of its lr_scheduler_kwargs
        raise refusal("train", error) from error
    weights = (p for p in trainer.model.parameters() if p.requires_grad)
    if not all(bool(p.isfinite().all()) for p in weights):
        raise FactoryError(
            "training diverged: the weights are no numbers any more",
            where="train.sft.learning_rate",
            mend="Lower it",
        )


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; torn ones are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / _COMPLETE).exists():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def _save_adapter(model: Any, folder: Path) -> None:
    """The LoRA weights without what names this machine: PEFT writes the base's path and a card with it."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": None}
    if isinstance(config["target_modules"], list):  # a set until here, in any order
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
