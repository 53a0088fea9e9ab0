"""A training that cannot come to good stops at that step, with the likely cause, and leaves no model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trained import ROWS, dataset, run, weights

from factory.errors import FactoryError
from factory.stages.train_watch import STEPS, Losses, curve

BLIND = math.log(1000)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows") / "data", ROWS)


def step(losses: Losses, *values: float) -> None:
    for i, value in enumerate(values, start=1):
        losses.add(value, i)
        losses.end_step(i)


@pytest.mark.parametrize(
    ("half", "before", "where", "mend"),
    [
        (False, [2.0, 2.0], "train.sft.learning_rate", "too high"),
        (False, [], "train", "No weight had changed yet"),
        (True, [2.0], "train.sft.fp16", "fp16 overflows"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_its_step(
    half: bool, before: list[float], where: str, mend: str, value: float
) -> None:
    losses = Losses(BLIND, half)
    step(losses, *before)
    with pytest.raises(FactoryError) as stopped:
        losses.add(value, len(before) + 1)
    error = stopped.value
    assert error.what == f"the loss became {value} at step {len(before) + 1}"
    assert (error.where, mend in (error.mend or "")) == (where, True)


def test_a_loss_far_above_the_first_and_a_blind_guess_stops_once_it_stays_there() -> None:
    losses = Losses(BLIND, False)
    step(losses, 2.0, *[9.0] * (STEPS - 1))
    with pytest.raises(FactoryError, match=r"diverged: at step 9 the loss is 9.00, was 2.00 at first"):
        losses.add(9.0, STEPS + 1)
        losses.end_step(STEPS + 1)


@pytest.mark.parametrize(
    "values",
    [
        [2.0, *[9.0] * (STEPS - 1), 3.0, *[9.0] * (STEPS - 1)],  # hard batches between others
        [2.0, *[5.0] * 20],  # risen, but knows more than nothing
        [9.0, *[12.0] * 20],  # a model that knew nothing to begin with
    ],
)
def test_a_loss_that_may_still_fall_does_not_stop(values: list[float]) -> None:
    step(Losses(BLIND, False), *values)


def test_a_step_of_several_batches_counts_once() -> None:
    losses = Losses(BLIND, False)
    for value in (1.0, 1.5):
        losses.add(value, 1)
    losses.end_step(1)
    assert losses.first == 2.5


def test_a_training_that_explodes_leaves_no_model(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    sft = {"max_steps": 40, "learning_rate": 3.0, "lr_scheduler_type": "constant", "max_grad_norm": 0}
    with pytest.raises(FactoryError, match=r"at step \d+.*It is likely too high: lower it"):
        run(tiny_model, {"math": rows}, tmp_path, method="full", sft=sft)
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoints"}


def test_a_model_that_is_broken_from_the_start_is_told_from_a_rate_too_high(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], math.nan)
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(FactoryError, match=r"the loss became nan at step 1\. No weight had changed yet"):
        run(broken, {"math": rows}, tmp_path / "out")


def test_a_curve_is_what_was_logged_in_numbers() -> None:
    history = [
        {"step": 1, "loss": 2.3456789, "grad_norm": math.inf},
        {"step": 2, "loss": 0.000123456, "grad_norm": 1.5},
        {"step": 2, "train_runtime": 3.0},
    ]
    assert curve(history, "loss") == [[1, 2.3457], [2, 0.00012346]]
    assert curve(history, "grad_norm") == [[2, 1.5]]


def test_what_it_costs_is_measured(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    sft: dict[str, Any] = {"max_steps": 4, "per_device_train_batch_size": 8}
    facts = run(tiny_model, {"math": rows}, tmp_path / "padded", sft=sft)
    packs = {**sft, "per_device_train_batch_size": 1, "packing": True}
    packed = run(tiny_model, {"math": rows}, tmp_path / "packed", sft=packs)
    for found in (facts, packed):  # four times all rows, without padding
        read = found["measured"]["tokens_per_second"] * found["measured"]["seconds"]
        assert read == pytest.approx(4 * found["tokens"], rel=0.05)
    assert [step for step, _ in facts["grad_norms"]] == [1, 2, 3, 4]
    assert facts["learning_rates"][0] == [1, 1e-3] and facts["learning_rates"][-1][1] < 1e-3


@pytest.fixture
def followed(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Runs with someone to look on, from a working folder of its own; gives the artifact and its facts."""

    def follow(name: str) -> tuple[Path, dict[str, Any]]:
        work, out = tmp_path / "work", tmp_path / "out"
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setenv("WANDB_MODE", "offline")
        sft = {"report_to": name, "project": "recipe", "run_name": "variant"}
        facts = run(tiny_model, {"math": rows}, out, sft=sft)
        run(tiny_model, {"math": rows}, tmp_path / "alone")
        assert weights(out) == weights(tmp_path / "alone")
        assert {path.name for path in out.iterdir()} == {"model", "adapter"}
        assert not [path for path in out.rglob("*.json") if str(tmp_path) in path.read_text()]
        return work, facts

    return follow


def test_tensorboard_gets_the_losses_below_the_working_folder(followed: Any) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work, facts = followed("tensorboard")
    events = EventAccumulator(str(work / "tensorboard" / "recipe" / "variant")).Reload()
    seen = [[scalar.step, scalar.value] for scalar in events.Scalars("train/loss")]
    assert seen == [[step, pytest.approx(loss, rel=1e-3)] for step, loss in facts["losses"]]


def test_trackio_gets_the_losses_under_the_names_of_recipe_and_variant(followed: Any) -> None:
    pytest.importorskip("trackio")
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    _, facts = followed("trackio")
    (found,) = Api().runs("recipe")
    assert found.name == "variant"
    told = [
        line["train/loss"] for line in SQLiteStorage.get_logs("recipe", "variant") if "train/loss" in line
    ]
    assert told == [pytest.approx(loss, rel=1e-3) for _, loss in facts["losses"]]


def test_weights_and_biases_gets_the_losses_under_the_names_of_recipe_and_variant(followed: Any) -> None:
    pytest.importorskip("wandb")
    work, _ = followed("wandb")
    (folder,) = (work / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
