"""Training in several processes: the same rows in every step, the same curve, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.rows import DataSpec
from factory.errors import FactoryError
from factory.run.child import ChildFailed, run_stage
from factory.stages import train, train_processes
from factory.stages.train_order import StepOrder
from factory.stages.train_processes import rebuilt, share

COUNT = 11  # neither a step nor the processes divide it
LORA = {"r": 4, "lora_alpha": 8}
# Four rows a step, three steps an epoch, of which the last has three rows.
SFT = {
    "num_train_epochs": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2, "save_steps": 2,
}  # fmt: skip
# The first step of a run that goes on, behind the checkpoint of step 2 or 4. Which of them it is, is the
# machine's: reports of steps that follow each other in less than a tenth of a second are left out.
RESUMED = (3, 5)
ATOL = 2e-5  # of losses near 6: rounding of float32 sums in another order


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        {"instruction": f"What is {i}?", "response": "It is " + "so " * (i % 5) + f"{i}."}
        for i in range(COUNT)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def settings(processes: int = 1, **changes: Any) -> train.Settings:
    sft = {**SFT, **changes.pop("sft", {})}
    own = {"data": (DataSpec(name="math"),), "targets": "original", "lora": LORA, "sft": sft}
    return train.Settings(**{**own, "processes": processes, **changes})


def run(chosen: train.Settings, inputs: dict[str, Path], out: Path, progress: Any = None, **more: Any) -> Any:
    """The stage in processes of its own; its facts."""
    out.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda *report: None)
    count = {"processes": chosen.processes, **more}
    return run_stage("factory.stages.train", chosen, inputs, out, tell, log=out.parent / "log", **count)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, rows: Path) -> dict[str, Path]:
    return {"model": tiny_model, "data.math": rows}


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("alone") / "out"
    return out, run(settings(), inputs, out).facts


def adapter(out: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(out / "adapter" / "adapter_model.safetensors")


def close(one: Path, other: Path) -> bool:
    import torch

    mine, theirs = adapter(one), adapter(other)
    assert mine.keys() == theirs.keys()
    # Adam's first steps go by the sign of a gradient: where that is rounding, weights differ by a step.
    return all(torch.allclose(mine[name], theirs[name], atol=2e-4) for name in mine)


def losses(facts: Any) -> list[float]:
    return [loss for _, loss in facts["losses"]]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one_with_twice_the_accumulation(
    inputs: dict[str, Path], alone: tuple[Path, Any], tmp_path: Path
) -> None:
    heard: list[Any] = []
    result = run(settings(2), inputs, tmp_path / "out", lambda *report: heard.append(report))
    one, two = alone[1], result.facts
    assert len(one["losses"]) == 6 and losses(two) == pytest.approx(losses(one), abs=ATOL)
    assert close(tmp_path / "out", alone[0])
    for fact in ("rows", "tokens", "steps", "epochs", "used", "trainable_parameters"):
        assert two[fact] == one[fact], fact
    assert two["processes"] == {"count": 2, "strategy": "ddp", "backend": "gloo"}
    assert "processes" not in one and len(result.peaks) == 2
    files = [sorted(str(p.relative_to(out)) for p in out.rglob("*")) for out in (tmp_path / "out", alone[0])]
    assert files[0] == files[1]
    assert [report[0] for report in heard] == sorted({report[0] for report in heard})  # said once


@pytest.mark.slow
def test_of_packed_rows_too(inputs: dict[str, Path], tmp_path: Path) -> None:
    packed = {"packing": True, "max_length": 64, "per_device_train_batch_size": 1}
    one = run(settings(sft=packed), inputs, tmp_path / "one").facts
    two = run(settings(2, sft=packed), inputs, tmp_path / "two").facts
    assert losses(two) == pytest.approx(losses(one), abs=ATOL)
    assert close(tmp_path / "one", tmp_path / "two")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from factory.run.child import run_stage
from factory.stages import train

def progress(done, total, unit, note=""):
    if done >= 3:
        os.kill(os.getpid(), signal.SIGKILL)

settings = train.Settings.model_validate_json(sys.argv[1])
out = Path(sys.argv[3])
inputs = {role: Path(path) for role, path in json.loads(sys.argv[2]).items()}
run_stage("factory.stages.train", settings, inputs, out, progress, log=out.parent / "log", processes=2)
"""


@pytest.mark.slow
def test_a_run_of_two_that_was_killed_leaves_nobody_and_resumes_bit_for_bit(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    chosen = settings(2, lora={**LORA, "lora_dropout": 0.2})
    straight = run(chosen, inputs, tmp_path / "straight").facts
    out = tmp_path / "killed" / "out"
    out.mkdir(parents=True)
    words = [chosen.model_dump_json(), json.dumps({k: str(v) for k, v in inputs.items()}), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    psutil.wait_procs(ranks(out), timeout=60)
    assert not ranks(out)
    assert [path.name for path in (out / "checkpoints").glob("*/complete")]
    said: list[int] = []
    resumed = run(chosen, inputs, out, lambda done, *_: said.append(done)).facts
    assert min(said) in RESUMED and resumed["losses"] == straight["losses"]
    for name, weight in adapter(tmp_path / "straight").items():
        assert weight.equal(adapter(out)[name]), name


def ranks(out: Path) -> list[psutil.Process]:
    """The processes that have a folder in their command line, by rank; not those that watch them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if any(str(out) in word for word in process.cmdline()):
                found.setdefault(int(process.environ()["RANK"]), process)
        except psutil.Error:
            continue
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
def test_two_go_on_where_one_was_broken_off(
    inputs: dict[str, Path], alone: tuple[Path, Any], tmp_path: Path
) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(done: int, *_: Any) -> None:
        if done >= 3:
            raise Stop

    with pytest.raises(Stop):
        run(settings(), inputs, tmp_path / "out", stop)
    said: list[int] = []
    facts = run(settings(2), inputs, tmp_path / "out", lambda done, *_: said.append(done)).facts
    assert min(said) in RESUMED and losses(facts) == pytest.approx(losses(alone[1]), abs=ATOL)
    assert close(tmp_path / "out", alone[0])


@pytest.mark.slow
def test_a_rank_that_is_killed_while_it_trains_is_named_and_ends_all(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    killed: list[psutil.Process] = []

    def kill(*_: Any) -> None:
        if not killed:
            killed.append(ranks(out)[1])
            killed[0].kill()

    with pytest.raises(ChildFailed) as caught:
        run(settings(2, sft={"max_steps": 2000, "save_strategy": "no"}), inputs, out, kill)
    assert str(caught.value) == "rank 1 of 2 was killed by SIGKILL (out of memory?)"
    assert not ranks(out)


@pytest.mark.slow
def test_another_strategy_than_asked_for_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    """On a CPU the libraries make DDP of FSDP without a word."""
    with pytest.raises(FactoryError) as caught:
        run(settings(2, strategy="fsdp"), inputs, tmp_path / "out")
    assert str(caught.value) == (
        "--strategy: training was asked for under fsdp, and ddp came up. fsdp needs a GPU for each process."
    )


def test_another_number_of_processes_than_asked_for_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(FactoryError, match=r"asked for in 4 processes, and 1 came up"):
        train.run(settings(4), inputs, tmp_path, lambda *report: None)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 16))
def test_processes_share_a_step_exactly_or_not_at_all(batch: int, accumulation: int, processes: int) -> None:
    found = share(batch, accumulation, processes)
    assert (found is None) == (batch * accumulation % processes > 0)
    if found is not None:
        assert found[0] * found[1] * processes == batch * accumulation
        assert accumulation % processes or found == (batch, accumulation // processes)


@given(
    count=st.integers(1, 60), batch=st.integers(1, 4), each=st.integers(1, 3), processes=st.integers(1, 4),
    epoch=st.integers(0, 3), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_a_step_reads_the_rows_that_one_process_reads(
    count: int, batch: int, each: int, processes: int, epoch: int, seed: int
) -> None:
    """`each` batches a step in every process, against accelerate's own order in one."""
    from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
    from torch.utils.data import BatchSampler

    lengths = [1 + i * 7 % 13 for i in range(count)]
    step_rows = batch * each * processes
    steps = -(-count // step_rows)
    order = StepOrder(lengths, step_rows, batch * processes, seed, lambda: epoch * steps)
    shards = [
        list(BatchSamplerShard(BatchSampler(order, batch, False), processes, rank))  # type: ignore[arg-type]
        for rank in range(processes)
    ]
    assert len({len(shard) for shard in shards}) == 1  # nobody waits for one that has ended
    theirs = SeedableRandomSampler(range(count), data_seed=seed)  # type: ignore[arg-type]
    theirs.set_epoch(epoch)
    expected = list(theirs)
    for number in range(steps):
        batches = [b for shard in shards for b in shard[number * each : (number + 1) * each]]
        read = sorted(i for b in batches for i in b if i < count)
        assert read == sorted(expected[number * step_rows : (number + 1) * step_rows])
    assert len(shards[0]) == -(-count // (batch * processes))


def test_small_portions_on_a_cpu_teach_the_same(
    inputs: dict[str, Path], alone: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_processes, "SMALL", 0)
    monkeypatch.setattr(train_processes, "FILLED", 1)
    seen: list[int] = []
    step = train_processes.prepare

    def prepare(trainer: Any, *chosen: Any) -> None:
        seen.extend((trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps))
        step(trainer, *chosen)

    monkeypatch.setattr(train_processes, "prepare", prepare)
    facts = train.run(settings(), inputs, tmp_path, lambda *report: None)
    assert seen == [1, 4] and facts["used"] == alone[1]["used"]
    assert losses(facts) == pytest.approx(losses(alone[1]), abs=ATOL)
    assert close(tmp_path, alone[0])


def test_a_gathered_state_makes_the_model_it_came_from(inputs: dict[str, Path], tmp_path: Path) -> None:
    """What FSDP gathers is a plain state dict; here it comes from a model in one piece."""
    import torch
    from peft import LoraConfig, get_peft_model

    from factory.models import load

    source = inputs["model"]
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trained = get_peft_model(load.causal_lm(source), lora)
    for name, weight in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    fresh = rebuilt(source, lora, trained, trained.state_dict()).merge_and_unload()
    for mine, theirs in zip(fresh.parameters(), trained.merge_and_unload().parameters(), strict=True):
        assert torch.equal(mine, theirs)
    whole = load.causal_lm(source)
    torch.nn.init.normal_(whole.model.norm.weight)
    assert rebuilt(source, None, whole, whole.state_dict()).model.norm.weight.equal(whole.model.norm.weight)
