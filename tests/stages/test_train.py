"""Training: stock folders out, the loss where it belongs, and the same weights after any interruption."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trained import LORA, ROWS, SFT, Stop, dataset, run, unmeasured, weights

from factory import prompts
from factory.data.rows import DataSpec
from factory.errors import FactoryError
from factory.stages import train
from factory.stages.train import Settings


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows") / "data", ROWS)


@pytest.fixture(scope="module")
def trained(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("trained")
    return out, run(tiny_model, {"math": rows}, out)


def test_the_result_is_the_pruned_models_folder_with_other_weights(
    tiny_model: Path, trained: tuple[Path, Any]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, _ = trained
    assert {path.name for path in out.iterdir()} == {"model", "adapter"}
    for path in tiny_model.iterdir():
        same = (out / "model" / path.name).read_bytes() == path.read_bytes()
        assert same == (path.suffix != ".safetensors"), path.name
    assert not [path for path in out.rglob("*") if path.suffix in {".bin", ".pt", ".pth"}]
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert AutoTokenizer.from_pretrained(out / "model").chat_template


def test_the_adapter_on_the_pruned_model_is_the_merged_model(
    tiny_model: Path, trained: tuple[Path, Any]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out, _ = trained
    assert str(tiny_model) not in (out / "adapter" / "adapter_config.json").read_text()
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")
    ours = PeftModel.from_pretrained(base, out / "adapter").merge_and_unload().to(torch.bfloat16)
    stored = AutoModelForCausalLM.from_pretrained(out / "model")
    for (name, mine), (_, theirs) in zip(ours.named_parameters(), stored.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_the_facts(trained: tuple[Path, Any]) -> None:
    facts = trained[1]
    assert (facts["rows"], facts["rows_left_out"], facts["steps"]) == (len(ROWS), 0, 3)
    # Bytes of text, and four marks: user, end, assistant, end.
    assert facts["tokens"] == sum(len(question) + len(answer) + 4 for question, answer in ROWS)
    assert facts["tokens_trained"] == sum(len(answer) + 1 for _, answer in ROWS)
    assert [step for step, _ in facts["losses"]] == [1, 2, 3]
    assert facts["adapter"] and facts["losses"][0][1] == facts["loss_first"] > facts["loss_last"] > 0
    # Seven matrices a block, r * (in + out) each.
    assert facts["trainable_parameters"] == 6 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert facts["used"] == {
        "method": "lora", "learning_rate": 1e-3, "schedule": "cosine", "rank": 4, "alpha": 8, "batch": 4,
        "packing": False, "max_length": 1024, "precision": "fp32",
    }  # fmt: skip


def test_a_batch_is_what_a_step_reads(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    sft = {"max_steps": 1, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    facts = run(tiny_model, {"math": rows}, tmp_path, sft=sft)
    assert facts["used"]["batch"] == len(ROWS) * facts["epochs"] == 8


def test_whoever_may_read_the_config_may_read_the_weights(trained: tuple[Path, Any]) -> None:
    modes = {path.stat().st_mode for path in trained[0].rglob("*") if path.is_file()}
    assert len(modes) == 1


def completion_loss(model_folder: Path, rows: list[tuple[str, str]]) -> float:
    """Mean loss over responses and their stop tokens, one row at a time, with the stock model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32")
    total, count = 0.0, 0
    for question, answer in rows:
        prompt = tokenizer.apply_chat_template(
            prompts.messages("instruct", question), add_generation_prompt=True, tokenize=False
        )
        start = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(f"{prompt}{answer}<|end|>")["input_ids"]])
        with torch.no_grad():
            logits = model(ids).logits[0, start - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
        count += ids.shape[1] - start
    return total / count


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_on_response_and_stop_token_of_each_row_alone(
    tiny_model: Path, rows: Path, tmp_path: Path, packing: bool
) -> None:
    sft = {"max_steps": 1, "per_device_train_batch_size": 1 if packing else 8, "packing": packing}
    facts = run(tiny_model, {"math": rows}, tmp_path, sft=sft)
    assert facts["epochs"] == 1  # all rows in this one step: the adapter has not moved yet
    assert facts["loss_first"] == pytest.approx(completion_loss(tiny_model, ROWS), abs=2e-4)


def test_self_targets_are_the_selected_responses_of_the_artifact(
    tiny_model: Path, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    from datasets import Dataset

    def artifact(name: str, responses: list[str]) -> Path:
        columns = {
            "instruction": [question for question, _ in ROWS],
            "context": [""] * len(ROWS),
            "original": ["never read"] * len(ROWS),
            "response": responses,
        }
        (tmp_path / name / "data").mkdir(parents=True)
        Dataset.from_dict(columns).to_parquet(str(tmp_path / name / "data" / "train-00000.parquet"))
        return tmp_path / name

    same = artifact("same", [answer for _, answer in ROWS])
    other = artifact("other", ["No."] * len(ROWS))
    run(tiny_model, {"math": same}, tmp_path / "a", targets="self")
    run(tiny_model, {"math": other}, tmp_path / "b", targets="self")
    assert weights(tmp_path / "a") == weights(trained[0])
    assert weights(tmp_path / "b") != weights(trained[0])


def test_the_seed_decides(tiny_model: Path, rows: Path, trained: tuple[Path, Any], tmp_path: Path) -> None:
    run(tiny_model, {"math": rows}, tmp_path / "again")
    run(tiny_model, {"math": rows}, tmp_path / "other", seed=1)
    assert weights(tmp_path / "again") == weights(trained[0])
    assert weights(tmp_path / "other") != weights(trained[0])


def test_a_broken_run_resumes_and_gives_the_same_weights(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    lora, sft = {"lora_dropout": 0.2}, {"max_steps": 6, "save_steps": 2}
    facts = run(tiny_model, {"math": rows}, tmp_path / "straight", lora=lora, sft=sft)

    def stop(done: int, *_: Any) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        run(tiny_model, {"math": rows}, tmp_path / "broken", stop, lora=lora, sft=sft)
    checkpoints = tmp_path / "broken" / "checkpoints"
    shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "checkpoint-5")
    for torn in ("complete", "optimizer.pt", "trainer_state.json"):
        (checkpoints / "checkpoint-5" / torn).unlink()
    said: list[int] = []
    resumed = run(
        tiny_model,
        {"math": rows},
        tmp_path / "broken",
        lambda done, *_: said.append(done),
        lora=lora,
        sft=sft,
    )
    assert said == [5, 6]
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")
    assert unmeasured(resumed) == unmeasured(facts)
    assert not checkpoints.exists()


@pytest.mark.parametrize("logging", [{"logging_steps": 50}, {"logging_strategy": "no"}])
def test_losses_are_kept_however_rarely_they_are_logged(
    tiny_model: Path, rows: Path, tmp_path: Path, logging: dict[str, Any]
) -> None:
    """Also those of the steps before an interruption."""
    sft = {"max_steps": 6, "save_steps": 4, **logging}
    facts = run(tiny_model, {"math": rows}, tmp_path / "straight", sft=sft)
    assert [step for step, _ in facts["losses"]] == [4, 6]
    assert facts["loss_first"] == facts["losses"][0][1] > facts["loss_last"] == facts["losses"][1][1] > 0

    def stop(done: int, *_: Any) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        run(tiny_model, {"math": rows}, tmp_path / "broken", stop, sft=sft)
    assert unmeasured(run(tiny_model, {"math": rows}, tmp_path / "broken", sft=sft)) == unmeasured(facts)
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")


def test_a_run_without_a_checkpoint_has_a_loss(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    sft = {"max_steps": 2, "logging_steps": 50, "save_strategy": "no"}
    facts = run(tiny_model, {"math": rows}, tmp_path, sft=sft)
    assert [step for step, _ in facts["losses"]] == [2]


def test_a_run_killed_behind_its_last_step_only_saves(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    sft = {"max_steps": 2, "save_steps": 2}
    run(tiny_model, {"math": rows}, tmp_path / "straight", sft=sft)

    def stop(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "write_model", stop)
        with pytest.raises(Stop):
            run(tiny_model, {"math": rows}, tmp_path / "broken", sft=sft)
    assert (tmp_path / "broken" / "checkpoints" / "checkpoint-2").exists()
    run(tiny_model, {"math": rows}, tmp_path / "broken", sft=sft)
    assert weights(tmp_path / "broken") == weights(tmp_path / "straight")


KILLED = """
import os, signal, sys
from pathlib import Path
from factory.stages import train

def progress(done, total, unit, note=""):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

settings = train.Settings.model_validate_json(sys.argv[1])
model, teacher, rows, out = map(Path, sys.argv[2:])
train.run(settings, {"model": model, "teacher": teacher, "data.math": rows}, out, progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        {"lora": LORA},
        {"method": "full"},
        {"method": "full", "freeze": "half"},
        {"lora": LORA, "loss": "distill"},
    ],
    ids=["lora", "full", "half", "distill"],
)
def test_a_kill_at_a_step_changes_nothing_in_the_end(
    tiny_model: Path, rows: Path, trained: tuple[Path, Any], tmp_path: Path, method: dict[str, Any]
) -> None:
    sft, teacher = {"max_steps": 6, "save_steps": 2}, trained[0] / "model"
    run(tiny_model, {"math": rows}, tmp_path / "straight", sft=sft, teacher=teacher, **method)
    settings = Settings(data=(DataSpec(name="math"),), targets="original", sft={**SFT, **sft}, **method)
    (tmp_path / "killed").mkdir()
    words = [settings.model_dump_json(), str(tiny_model), str(teacher), str(rows), str(tmp_path / "killed")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoints" / "checkpoint-4").exists()
    run(tiny_model, {"math": rows}, tmp_path / "killed", sft=sft, teacher=teacher, **method)
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_several_datasets_are_trained_on_together(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    more = dataset(tmp_path / "more", [("Why?", "Because.")] * 4)
    facts = run(tiny_model, {"b": rows, "a": more}, tmp_path / "out", sft={"max_steps": 1})
    assert facts["rows"] == len(ROWS) + 4


def test_what_was_trained_comes_back_and_stops(tiny_model: Path, tmp_path: Path) -> None:
    from factory.engines import Request, Sampling, load

    rows = dataset(tmp_path / "data", [("Who?", "I.")])
    sft = {"max_steps": 60, "learning_rate": 2e-2}
    run(tiny_model, {"one": rows}, tmp_path / "out", lora={"r": 8, "lora_alpha": 16}, sft=sft)
    request = Request(0, tuple(prompts.messages("instruct", "Who?")))
    for folder, finish in ((tiny_model, "length"), (tmp_path / "out" / "model", "stop")):
        (result,) = load("transformers", folder, 1).generate([request], Sampling(8))
        assert result.finish == finish
    assert result.text == "I."


def test_rows_that_are_too_long_are_left_out_whole(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    longest = max(len(question) + len(answer) + 4 for question, answer in ROWS)
    sft = {"max_steps": 1, "max_length": longest - 1}
    facts = run(tiny_model, {"math": rows}, tmp_path, sft=sft)
    assert facts["rows_left_out"] > 0
    assert facts["rows"] + facts["rows_left_out"] == len(ROWS)


@pytest.mark.parametrize(
    ("lora", "sft", "where"),
    [
        ({}, {"lr_scheduler_type": "cosin"}, "train.sft.lr_scheduler_type"),
        ({}, {"optim": "adamn"}, "train.sft.optim"),
        ({}, {"max_length": 8}, "train.sft.max_length: no row fits max_length, 8 tokens (8 rows left out)"),
        ({"r": 0}, {}, "train"),
        ({"target_modules": ["nowhere"]}, {}, "train"),
        ({"modules_to_save": ["lm_head"]}, {}, "train.lora: this model's embeddings"),
        ({"init_lora_weights": "nonsense"}, {}, "train"),
        ({}, {"lr_scheduler_type": "cosine_with_min_lr"}, "train: the library refuses this: One of min_lr"),
        ({}, {"learning_rate": 1e30}, "train.sft.learning_rate: the loss became"),
    ],
)
def test_a_value_the_libraries_refuse_is_one_line(
    tiny_model: Path, rows: Path, tmp_path: Path, lora: dict[str, Any], sft: dict[str, Any], where: str
) -> None:
    with pytest.raises(FactoryError) as refused:
        run(tiny_model, {"math": rows}, tmp_path, lora=lora, sft=sft)
    assert str(refused.value).startswith(where)
    assert "\n" not in str(refused.value)


def test_too_little_memory_is_told_with_what_to_lower(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from trl import SFTTrainer

    def starve(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(SFTTrainer, "training_step", starve)
    with pytest.raises(FactoryError, match=r"too little memory for a step.*Lower it or max_length"):
        run(tiny_model, {"math": rows}, tmp_path)


def test_too_little_memory_for_the_model_is_told_with_what_needs_less(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    def starve(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 16.00 GiB")

    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", starve)
    with pytest.raises(FactoryError, match=r"train.method: .*to hold the model.*method: qlora"):
        run(tiny_model, {"math": rows}, tmp_path, method="full")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}", "never stop"),
    ],
)
def test_a_template_that_cannot_train_a_stop_is_refused(
    tiny_model: Path, rows: Path, tmp_path: Path, template: str | None, reason: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    path = tmp_path / "model" / "chat_template.jinja"
    if template is None:
        path.unlink()
    else:
        path.write_text(template)
    with pytest.raises(FactoryError, match=reason):
        run(tmp_path / "model", {"math": rows}, tmp_path / "out")
