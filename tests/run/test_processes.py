"""`factory run --processes`: what it asks of a recipe and of the machine, and that no key knows of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.cli import call
from factory.errors import FactoryError
from factory.plan.sweep import plan_file
from factory.run.processes import spread
from factory.stages import train
from factory.stages.train_processes import Strategy

RECIPE = """\
name: tiny
base: {model: sandbox/base}
prune: {drop: 2, proof: false, calibration: {dataset: sandbox/corpus, rows: 4, max_tokens: 32}}
datasets:
  math: {id: sandbox/math, prompt: math, check: final_number, rows: 16}
train:
  sft:
    max_steps: 2
    per_device_train_batch_size: 3
    gradient_accumulation_steps: 4
variants:
  math-sft: {data: [math], targets: original}
  other:
    data: [math]
    targets: original
    train:
      sft: {learning_rate: 0.01}
evaluate: {suite: sandbox_v1, limit: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def refused(recipe: Path, processes: int, *overrides: str, strategy: Strategy = "ddp") -> str:
    with pytest.raises(FactoryError) as caught:
        spread(plan_file(recipe, overrides), processes, strategy)
    return str(caught.value)


def test_only_trainings_are_spread_and_no_key_changes(recipe: Path) -> None:
    plan = plan_file(recipe, ())
    several = spread(plan, 6, "ddp")
    assert [step.key for step in several.steps] == [step.key for step in plan.steps]
    asked = {s.name: s.settings.processes for s in several.steps if isinstance(s.settings, train.Settings)}
    assert asked == {"train/math-sft": 6, "train/other": 6}
    assert spread(plan, 1, "ddp") is plan


def test_so_are_those_of_a_sweep(recipe: Path) -> None:
    plan = plan_file(recipe, ["sweep.prune.drop=[1, 2]"])
    several = [s for s in spread(plan, 2, "ddp").steps if isinstance(s.settings, train.Settings)]
    assert len(several) == 4 and all(step.settings.processes == 2 for step in several)  # type: ignore[attr-defined]


def test_a_step_that_cannot_be_shared_is_refused_with_its_line_and_what_would_do(recipe: Path) -> None:
    assert refused(recipe, 5) == (
        f"{recipe}:10: a step reads 12 rows (per_device_train_batch_size 3 x gradient_accumulation_steps "
        "4), which 5 processes cannot share. Use --processes 2, 3 or 4, or set gradient_accumulation_steps "
        "to 5."
    )


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.sft.dataloader_drop_last=true", "would drop other rows"),
        ("train.sft.train_sampling_strategy=sequential", "reads other rows in every process"),
        ("train.sft.fsdp=full_shard", "fsdp says how processes share the work"),
        ("train.loss=distill", "`loss: distill` trains in one process"),
    ],
)
def test_what_reads_other_rows_in_several_processes_is_refused(
    recipe: Path, override: str, line: str
) -> None:
    said = refused(recipe, 2, override)
    assert said.startswith(f"--set {override}: ") and line in said


def test_what_is_not_to_be_trained_now_need_not_be_fit_for_it(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(recipe), "--runs-dir", str(tmp_path), "--dry-run", "--processes", "2"]
    words += ["--set", "variants.other.train.loss=distill"]
    assert call(words) == 2
    assert "or train it first in one process, with --only" in capsys.readouterr().err
    assert call([*words, "--only", "train/math-sft"]) == 0
    (other,) = [s for s in plan_file(recipe, [words[-1]]).steps if s.name == "train/other"]
    made = tmp_path / "store" / "train" / other.key
    made.mkdir(parents=True)
    (made / "record.json").write_text('{"files": {}}')
    assert call(words) == 0


def test_a_variants_own_field_is_the_place(recipe: Path) -> None:
    text = RECIPE.replace("{learning_rate: 0.01}", "{learning_rate: 0.01, dataloader_drop_last: true}")
    recipe.write_text(text)
    assert refused(recipe, 2).startswith(
        f"{recipe}:{text[: text.index('dataloader_drop')].count(chr(10)) + 1}: "
    )


@pytest.mark.parametrize(
    ("gpus", "processes", "strategy", "line"),
    [
        (0, 2, "fsdp", "--strategy fsdp shards a model over a GPU for each process, and there is none here. "
                       "Use --strategy ddp."),
        (2, 4, "fsdp", "--strategy fsdp shards a model over a GPU for each process, and there are 2. "
                       "Use --processes 2."),
        (2, 4, "ddp", "--processes 4 wants a GPU for each, and there are 2. Use --processes 2."),
        (1, 2, "ddp", "--processes 2 wants a GPU for each, and there is 1. Leave --processes out."),
    ],
)  # fmt: skip
def test_there_has_to_be_a_gpu_for_each_process_where_there_are_gpus(
    recipe: Path, gpus: int, processes: int, strategy: Strategy, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert refused(recipe, processes, strategy=strategy) == line


def test_a_strategy_is_for_several_processes(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(recipe), "--strategy", "fsdp"]) == 2
    said = "error: --strategy fsdp is for several processes. Add --processes, or leave it out.\n"
    assert capsys.readouterr().err == said


@pytest.mark.slow
def test_a_run_in_two_processes_tells_of_it_in_its_record_and_is_up_to_date_for_one(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(recipe), "--runs-dir", str(tmp_path / "runs"), "--only", "train/math-sft"]
    assert call([*words, "--processes", "2"]) == 0
    (path,) = (tmp_path / "runs" / "store" / "train").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["facts"]["processes"] == {"count": 2, "strategy": "ddp", "backend": "gloo"}
    assert record["facts"]["used"]["batch"] == 12
    assert record["threads"] == 1 and sum(record["peak_memory_each"]) == record["peak_memory"]
    capsys.readouterr()
    assert call(words) == 0
    assert capsys.readouterr().out.startswith("everything is up to date")
