"""Methods of training: what learns, what stays to the bit, what is written, and that all of them resume."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from trained import ROWS, Stop, dataset, run, stopping_at, unmeasured, weights

from factory import prompts
from factory.errors import FactoryError
from factory.recipe.training import quantiser
from factory.stages.train_methods import freeze_half
from factory.stages.train_options import precision

BLOCKS = 4
FULL: Mapping[str, Any] = {"method": "full", "sft": {"learning_rate": 1e-2}}
HALF: Mapping[str, Any] = {**FULL, "freeze": "half"}
DISTILL: Mapping[str, Any] = {"loss": "distill", "sft": {"learning_rate": 1e-2}}


@pytest.fixture(scope="module")
def pruned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without its last two blocks."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("pruned") / "model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="bfloat16")
    model.model.layers = model.model.layers[:BLOCKS]
    model.config.num_hidden_layers = BLOCKS
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows") / "data", ROWS)


def changed(before: Path, after: Path) -> dict[str, bool]:
    """Whether a tensor differs, by name."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys()
    return {name: not old[name].equal(new[name]) for name in old}


def test_full_fine_tuning_changes_every_weight_and_writes_no_adapter(
    pruned: Path, rows: Path, tmp_path: Path
) -> None:
    facts = run(pruned, {"math": rows}, tmp_path, **FULL)
    assert all(changed(pruned, tmp_path / "model").values())
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    assert facts["trainable_parameters"] == facts["parameters"]
    assert (facts["used"]["method"], facts["used"]["rank"]) == ("full", None)
    assert (facts["half"], facts["adapter"]) == (None, False)


def test_full_fine_tuning_has_a_rate_of_its_own(pruned: Path, rows: Path, tmp_path: Path) -> None:
    from factory.data.rows import DataSpec
    from factory.stages import train

    for method, rate in (("full", 2e-5), ("lora", 1e-4)):
        (tmp_path / method).mkdir()
        settings = train.Settings(
            data=(DataSpec(name="math"),), targets="original", method=method, sft={"max_steps": 1}
        )
        inputs = {"model": pruned, "data.math": rows}
        facts = train.run(settings, inputs, tmp_path / method, lambda *_, **__: None)
        assert facts["used"]["learning_rate"] == rate


def test_half_of_each_category_stays_to_the_bit(pruned: Path, rows: Path, tmp_path: Path) -> None:
    facts = run(pruned, {"math": rows}, tmp_path, **HALF)
    moved = changed(pruned, tmp_path / "model")
    matrices = {name: moved[name] for name in moved if "_proj" in name}
    assert facts["half"] == {"matrices": len(matrices), "frozen": len(matrices) // 2}
    assert sum(matrices.values()) * 2 == len(matrices) == 7 * BLOCKS
    learning = []
    for block in range(BLOCKS):
        of = {name: m for name, m in moved.items() if f"layers.{block}." in name}
        assert sum(m for name, m in of.items() if "self_attn" in name) == 2
        learning.append(sum(m for name, m in of.items() if "mlp" in name))
        assert sum(m for name, m in of.items() if "layernorm" in name) == 1
    assert sorted(learning) == [1, 1, 2, 2]
    assert moved["model.embed_tokens.weight"] and moved["model.norm.weight"]
    other = tmp_path / "other"
    run(pruned, {"math": rows}, other, **HALF, seed=1)
    assert changed(pruned, other / "model") != moved


def test_an_odd_number_of_blocks_is_halved_as_near_as_whole_matrices_allow() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=5, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    assert freeze_half(model, 0) == {"matrices": 35, "frozen": 10 + 8}
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, learning in learns.items():
        if name.endswith("_proj.bias"):
            assert learning == learns[name.replace("bias", "weight")], name


def divergence(teacher: Path, student: Path, beta: float) -> float:
    """Mean over responses and their stop tokens of KL(teacher, student), or the other way round at beta 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(student)
    models = [AutoModelForCausalLM.from_pretrained(path, dtype="float32") for path in (teacher, student)]
    total, count = 0.0, 0
    for question, answer in ROWS:
        prompt = tokenizer.apply_chat_template(
            prompts.messages("instruct", question), add_generation_prompt=True, tokenize=False
        )
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(f"{prompt}{answer}<|end|>")["input_ids"]])
        with torch.no_grad():
            p, q = (model(ids).logits[0, start - 1 : -1].log_softmax(-1) for model in models)
        p, q = (q, p) if beta == 1 else (p, q)
        total += float((p.exp() * (p - q)).sum())
        count += ids.shape[1] - start
    return total / count


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_distillation_is_the_divergence_from_the_base_on_the_response(
    tiny_model: Path, pruned: Path, rows: Path, tmp_path: Path, beta: float
) -> None:
    sft = {"max_steps": 1, "per_device_train_batch_size": 8}
    facts = run(pruned, {"math": rows}, tmp_path, loss="distill", beta=beta, sft=sft, teacher=tiny_model)
    assert facts["epochs"] == 1  # all rows in this one step: the adapter has not moved yet
    assert facts["loss_first"] == pytest.approx(divergence(tiny_model, pruned, beta), abs=2e-4)
    assert (tmp_path / "adapter").exists()


def test_a_model_has_nothing_to_learn_from_itself(pruned: Path, rows: Path, tmp_path: Path) -> None:
    facts = run(pruned, {"math": rows}, tmp_path, **DISTILL, teacher=pruned)
    assert facts["loss_first"] == pytest.approx(0, abs=1e-6)


def test_what_is_distilled_comes_nearer_to_the_base(
    tiny_model: Path, pruned: Path, rows: Path, tmp_path: Path
) -> None:
    settings = {**DISTILL, "sft": {"learning_rate": 1e-2, "max_steps": 20}}
    run(pruned, {"math": rows}, tmp_path, **settings, teacher=tiny_model)
    before, after = (divergence(tiny_model, folder, 0) for folder in (pruned, tmp_path / "model"))
    assert after < 0.8 * before


def test_a_teacher_with_another_vocabulary_is_refused(pruned: Path, rows: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pruned)
    model.resize_token_embeddings(300)
    model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(FactoryError, match="vocab_size"):
        run(pruned, {"math": rows}, tmp_path / "out", **DISTILL, teacher=tmp_path / "teacher")


@pytest.mark.parametrize(
    "method",
    [FULL, HALF, DISTILL, {**FULL, "loss": "distill"}],
    ids=["full", "half", "distill", "distill-full"],
)
def test_every_method_resumes_to_the_same_weights(
    tiny_model: Path, pruned: Path, rows: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    settings = {**method, "sft": {**method["sft"], "max_steps": 5, "save_steps": 2}}
    teacher = tiny_model if "loss" in method else None
    facts = run(pruned, {"math": rows}, tmp_path / "straight", teacher=teacher, **settings)
    with pytest.raises(Stop):
        run(pruned, {"math": rows}, tmp_path / "broken", stopping_at(4), teacher=teacher, **settings)
    assert (tmp_path / "broken" / "checkpoints" / "checkpoint-2").exists()
    said: list[int] = []
    again = run(
        pruned, {"math": rows}, tmp_path / "broken", lambda done, *_: said.append(done), teacher=teacher,
        **settings,
    )  # fmt: skip
    assert said[0] > 2
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")
    assert unmeasured(again) == unmeasured(facts)


def test_an_adapter_for_4_bit_weights_is_merged_into_the_whole_ones(
    pruned: Path, rows: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    facts = run(pruned, {"math": rows}, tmp_path, method="qlora", sft={"learning_rate": 1e-2})
    assert facts["used"]["method"] == "qlora"
    base = AutoModelForCausalLM.from_pretrained(pruned, dtype="float32")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload().to(torch.bfloat16)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), stored.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    moved = changed(pruned, tmp_path / "model")
    assert {name for name, m in moved.items() if m} == {name for name in moved if "_proj" in name}


def test_4_bit_weights_learn_from_the_base_too(
    tiny_model: Path, pruned: Path, rows: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    settings = {"loss": "distill", "sft": {"learning_rate": 1e-2, "max_steps": 20}}
    run(pruned, {"math": rows}, tmp_path, method="qlora", **settings, teacher=tiny_model)
    before, after = (divergence(tiny_model, folder, 0) for folder in (pruned, tmp_path / "model"))
    assert after < before


def test_4_bit_weights_without_their_library_are_refused(pruned: Path, rows: Path, tmp_path: Path) -> None:
    if quantiser() is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(FactoryError, match="needs bitsandbytes, which is not installed") as refused:
        run(pruned, {"math": rows}, tmp_path, method="qlora")
    assert refused.value.where == "train.method"


def test_one_of_the_half_precisions_excludes_the_other() -> None:
    assert precision("cpu", {}) == {}
    assert precision("cpu", {"fp16": True}) == {"bf16": False}
    assert precision("cpu", {"bf16": True}) == {"fp16": False}
