"""Names of modules in `train.lora`: refused before a run where PEFT would refuse them in the train stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stand_in

from factory.errors import FactoryError
from factory.models.architectures import TABLE
from factory.models.checkpoint import read_config, stored_tensors
from factory.plan.lora_modules import check_modules
from factory.recipe.recipe import Recipe
from factory.recipe.variants import Train


def refused(folder: Path, **lora: Any) -> bool:
    recipe: Recipe = stand_in.recipe("small").model_copy(update={"train": Train(lora=lora)})
    try:
        check_modules(recipe, stored_tensors(folder), read_config(folder), TABLE["llama"])
    except FactoryError:
        return True
    return False


@pytest.mark.parametrize(
    "written",
    [
        ["q_proj"], ["self_attn.q_proj"], ["layers.0.mlp.up_proj"], ["model.layers.1.self_attn.v_proj"],
        ["nowhere"], ["proj"], ["mlp"], ["norm"], ["input_layernorm"],
        "all-linear", "ALL-LINEAR", "q_proj", "all_linear", ".*_proj", ".*proj.*x",
        r".*\.0\.mlp\.(up|down)_proj",
    ],
)  # fmt: skip
def test_target_modules_are_matched_as_peft_matches_them(written: Any, tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    try:
        get_peft_model(model, LoraConfig(target_modules=written, task_type="CAUSAL_LM"))
        by_peft = False
    except ValueError:
        by_peft = True
    assert refused(tiny_model, target_modules=written) == by_peft


def test_a_name_that_matches_nothing_beside_one_that_does_is_refused(tiny_model: Path) -> None:
    """PEFT lets it pass, and trains less than the recipe says."""
    assert refused(tiny_model, target_modules=["q_proj", "v_porj"])


def test_blocks_that_pruning_takes_away_are_no_place_for_an_adapter(tiny_model: Path) -> None:
    for written in (["layers.3.mlp.up_proj"], r".*\.3\..*_proj"):  # 6 blocks, the recipe drops 2
        assert not refused(tiny_model, target_modules=written)
    for written in (["layers.4.mlp.up_proj"], r".*\.4\..*_proj"):
        assert refused(tiny_model, target_modules=written)


def test_a_head_of_its_own_may_be_trained(tiny_model: Path) -> None:
    config = {**read_config(tiny_model), "tie_word_embeddings": False}
    recipe = stand_in.recipe("small").model_copy(
        update={"train": Train(lora={"modules_to_save": ["embed_tokens"]})}
    )
    check_modules(recipe, stored_tensors(tiny_model), config, TABLE["llama"])
    assert refused(tiny_model, modules_to_save=["embed_tokens"])
