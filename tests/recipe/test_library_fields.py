"""What a recipe may set of PEFT, TRL and mergekit: names, types and values that no training takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import SANDBOX_RECIPE, refused, write

from factory.recipe.library_fields import BOUNDS, CONTROLLED, MEANT, UNUSABLE, complaint
from factory.recipe.library_sources import fields, forms
from factory.recipe.recipe import load_recipe

# A field of `train`, a value that could only fail later, and words of the message.
FIELDS = {
    "lora.rank=8": "PEFT's LoraConfig has no field 'rank'. Write 'r', if that is meant.",
    "sft.lr=1e-3": "TRL's SFTConfig has no field 'lr'. Write 'learning_rate', if that is meant.",
    "sft.lerning_rate=1e-3": "TRL's SFTConfig has no field 'lerning_rate'. Write 'learning_rate'",
    "sft.gpus=3": "TRL's SFTConfig has no field 'gpus'. The documentation of TRL's SFTConfig lists them all.",
    "lora.r=0": "'r' should be at least 1 and at most 65,536",
    "lora.r=100000000": "'r' should be at least 1 and at most 65,536",
    "lora.r=four": "'r' should be a whole number, not 'four'",
    "lora.lora_alpha=0": "'lora_alpha' should be more than 0",
    "lora.lora_dropout=1.5": "'lora_dropout' should be at least 0 and less than 1",
    "lora.lora_dropout=-0.1": "'lora_dropout' should be at least 0 and less than 1",
    "lora.bias=al": "'bias' cannot be 'al'. Write 'all'",
    "lora.init_lora_weights=gausian": "'init_lora_weights' cannot be 'gausian'. Write 'gaussian'",
    "lora.init_lora_weights=3": "'init_lora_weights' cannot be 3",
    "lora.target_modules=3": "'target_modules' should be a list (each entry text) or text or null, not 3",
    "lora.target_modules=[3]": "'target_modules' should be a list (each entry text) or text or null, not [3]",
    "lora.modules_to_save=lm_head": "'modules_to_save' should be a list (each entry text) or null",
    "lora.rank_pattern=3": "'rank_pattern' should be a mapping of keys to values or null",
    "sft.learning_rate=0": "'learning_rate' should be more than 0",
    "sft.learning_rate=-1e-3": "'learning_rate' should be more than 0",
    "sft.learning_rate=null": "'learning_rate' should be a number, not nothing",
    "sft.max_steps=0": "'max_steps' should be at least 1, or -1 for num_train_epochs to decide",
    "sft.max_steps=-1000000000000": "'max_steps' should be at least 1, or -1",
    "sft.eval_accumulation_steps=-9000000000": "'eval_accumulation_steps' should be at least -2,147,483,647",
    "sft.max_steps=-2": "'max_steps' should be at least 1",
    "sft.max_steps=1000000000000": "'max_steps' should be at most 2,147,483,647, not 1000000000000",
    "sft.max_steps=1.5": "'max_steps' should be a whole number",
    "sft.num_train_epochs=1e300": "'num_train_epochs' should be at most 2,147,483,647, not 1e+300",
    "sft.num_train_epochs=0": "'num_train_epochs' should be more than 0",
    "sft.per_device_train_batch_size=0": "'per_device_train_batch_size' should be at least 1",
    "sft.gradient_accumulation_steps=0": "'gradient_accumulation_steps' should be at least 1",
    "sft.logging_steps=0": "'logging_steps' should be a whole number of steps, or a share",
    "sft.logging_steps=2.5": "'logging_steps' should be a whole number of steps",
    "sft.save_steps=-1": "'save_steps' should be a whole number of steps",
    "sft.warmup_steps=-1": "'warmup_steps' should be at least 0",
    "sft.weight_decay=-0.1": "'weight_decay' should be at least 0",
    "sft.max_grad_norm=-1": "'max_grad_norm' should be at least 0",
    "sft.adam_beta2=1": "'adam_beta2' should be at least 0 and less than 1",
    "sft.max_length=15": "'max_length' should be at least 16",
    "sft.lr_scheduler_type=cosin": "'lr_scheduler_type' cannot be 'cosin'. Write 'cosine'",
    "sft.lr_scheduler_type=greedy": "'lr_scheduler_type' cannot be 'greedy': it follows scores",
    "sft.optim=adamw_torc": "'optim' cannot be 'adamw_torc'. Write 'adamw_torch'",
    "sft.optim=3": "'optim' cannot be 3",
    "sft.save_strategy=step": "'save_strategy' cannot be 'step'. Write 'steps'",
    "sft.packing=maybe": "'packing' should be true or false",
    "sft.lr_scheduler_kwargs=[1]": "'lr_scheduler_kwargs' should be a mapping",
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_that_no_training_takes_is_refused(field: str, tmp_path: Path) -> None:
    (kind, name), value = field.split("=")[0].split("."), field.partition("=")[2]
    other = "  lora: {r: 4}\n  sft: {max_steps: 3, learning_rate: 1e-3}\n"
    path = write(tmp_path, SANDBOX_RECIPE.replace(other, f"  {kind}:\n    {name}: {value}\n"))
    message = refused(path)
    assert message.startswith(f"{path}:11: {FIELDS[field]}"), message
    assert f"--set variants.own.train.{field}: {FIELDS[field]}" in refused(
        write(tmp_path, SANDBOX_RECIPE), f"variants.own.train.{field}"
    )


@pytest.mark.parametrize(
    "field",
    ["sft.max_steps=-1", "sft.warmup_steps=0.1", "sft.logging_steps=0.1", "sft.logging_steps=5",
     "sft.max_length=16", "sft.max_length=null", "sft.lr_scheduler_type=cosine_with_restarts",
     "sft.optim=adafactor", "sft.save_strategy=epoch", "sft.num_train_epochs=0.5",
     "sft.lr_scheduler_kwargs={num_cycles: 2}",
     "lora.r=1", "lora.lora_dropout=0", "lora.bias=lora_only", "lora.init_lora_weights=pissa_niter_4",
     "lora.init_lora_weights=true", "lora.target_modules=[q_proj]", "lora.target_modules=null",
     "lora.layers_to_transform=[0, 1]", "lora.rank_pattern={q_proj: 8}", "lora.modules_to_save=[lm_head]"],
)  # fmt: skip
def test_a_value_that_training_takes_passes(field: str, tmp_path: Path) -> None:
    load_recipe(write(tmp_path, SANDBOX_RECIPE), [f"train.{field}"])


def test_library_fields_are_those_of_the_libraries() -> None:
    from dataclasses import fields as dataclass_fields

    from peft import LoraConfig
    from trl import SFTConfig

    assert set(fields("sft")) == {field.name for field in dataclass_fields(SFTConfig)}
    inherited = {"task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path",
                 "revision", "inference_mode"}  # fmt: skip
    assert set(fields("lora")) == {field.name for field in dataclass_fields(LoraConfig)} - inherited
    assert set(CONTROLLED["sft"]) <= set(fields("sft"))
    for kind, words in MEANT.items():
        assert not set(words) & set(fields(kind)) and set(words.values()) <= set(fields(kind))
    assert set(BOUNDS) | set(UNUSABLE) <= set(fields("sft")) | set(fields("lora"))


def test_names_to_choose_from_are_those_of_the_libraries() -> None:
    from transformers.trainer_utils import SaveStrategy, SchedulerType
    from transformers.training_args import OptimizerNames

    enums = {"optim": OptimizerNames, "lr_scheduler_type": SchedulerType, "save_strategy": SaveStrategy}
    for field, enum in enums.items():
        (form,) = forms(fields("sft")[field])
        assert set(form.words) == {member.value for member in enum}


def test_the_defaults_of_the_train_stage_pass_as_values_of_a_recipe(tmp_path: Path) -> None:
    from factory.stages.train_options import LORA, SFT, SFT_ON

    sft = {key: value for values in (SFT, *SFT_ON.values()) for key, value in values.items()}
    assert [complaint("lora", key, value) for key, value in LORA.items()] == [None] * len(LORA)
    wrong = {key: found for key, value in sft.items() if (found := complaint("sft", key, value))}
    assert wrong.keys() <= CONTROLLED["sft"].keys()
