"""Models measured in turns, in processes of their own: what is counted, whose memory it is, how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from factory.errors import FactoryError
from factory.models.measure import WARM_UPS, Measured, Spread, Turn, Workload, measure, ratios

WORK = Workload(batch=2, prompt=12, new=5, rounds=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with weights of 100 MB, and one with 2 of its 20 blocks and no weights in its folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    large, small = tmp_path_factory.mktemp("models") / "large", tmp_path_factory.mktemp("models") / "small"
    shape = {
        "vocab_size": 64, "hidden_size": 256, "intermediate_size": 1280, "num_attention_heads": 4,
        "max_position_embeddings": 64, "tie_word_embeddings": True,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(num_hidden_layers=20, **shape)).save_pretrained(large)
    LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **shape)).config.save_pretrained(small)
    return large, small


@pytest.fixture(scope="module")
def taken(folders: tuple[Path, Path]) -> tuple[Measured, Measured, list[str]]:
    """Both measured, and the models' names in the order of their turns."""
    order: list[str] = []
    large, small = measure(
        folders, WORK, threads=1, progress=lambda done, total, unit, note: order.append(note)
    )
    return large, small, order


def test_models_take_turns_in_an_order_that_flips(taken: tuple[Measured, Measured, list[str]]) -> None:
    order = taken[2]
    assert order[:2] == ["loaded large", "loaded small"]
    assert order[2:] == (["large", "small", "small", "large"] * 3)[: 2 * (WARM_UPS + WORK.rounds)]


def test_only_rounds_after_the_warm_up_count(taken: tuple[Measured, Measured, list[str]]) -> None:
    assert [len(model.turns) for model in taken[:2]] == [WORK.rounds, WORK.rounds]


def test_fewer_blocks_are_faster(taken: tuple[Measured, Measured, list[str]]) -> None:
    large, small, _ = taken
    found = ratios(large, small, WORK)
    assert found["prefill_seconds"].median < 0.7
    assert found["decode_seconds"].median < 0.7
    assert found["tokens_per_second"].median > 1.4


def test_peak_memory_is_the_models_own(taken: tuple[Measured, Measured, list[str]]) -> None:
    large, small, _ = taken
    assert large.weight_bytes > 95e6 > 15e6 > small.weight_bytes
    assert large.peak - large.before_bytes > large.weight_bytes
    assert large.peak - small.peak > 0.8 * (large.weight_bytes - small.weight_bytes)
    assert large.load_peak >= large.before_bytes > 0


def test_facts_tell_what_ran(taken: tuple[Measured, Measured, list[str]]) -> None:
    large, small, _ = taken
    assert (large.weights, small.weights) == ("checkpoint", "random")
    assert (large.device, large.dtype, large.threads) == ("cpu", "float32", 1)
    facts = json.loads(json.dumps(large.facts(WORK)))
    assert facts["peak"] == large.peak and len(facts["turns"]) == WORK.rounds
    assert set(facts["decode_seconds"]) == {"median", "low", "high"}


def test_rates_and_ratios_by_hand() -> None:
    work = Workload(batch=4, prompt=10, new=11, rounds=3)

    def model(*turns: tuple[float, float]) -> Measured:
        made = tuple(Turn(prefill, decode, 0) for prefill, decode in turns)
        return Measured("m", "checkpoint", "cpu", "float32", 1, 0.0, 0, 0, 0, made)

    base, other = model((1, 2), (2, 4), (4, 4)), model((0.5, 1), (1.5, 2), (1, 4))
    series = base.series(work)
    assert series["decode_seconds"] == [0.2, 0.4, 0.4]
    assert series["decode_tokens_per_second"] == [20, 10, 10]
    assert series["tokens_per_second"] == [44 / 3, 44 / 6, 44 / 8]
    # Within rounds: 0.5, 0.75, 0.25; the medians' own ratio would be 1 / 2.
    assert ratios(base, other, work)["prefill_seconds"] == Spread(0.5, 0.25, 0.75)


def test_a_turn_is_one_prompt_and_then_single_tokens(tiny_model: Path) -> None:
    import torch

    from factory.models import load
    from factory.models.turns import generate

    model, seen, waits = load.causal_lm(tiny_model), [], []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda module, args, out: rows.append(out.shape[1]))
    prefill, decode = generate(model, torch.full((3, 7), 9), 4, lambda: waits.append(len(seen)))
    assert seen == [(3, 7), (3, 1), (3, 1), (3, 1)]
    assert rows == [1, 1, 1, 1]  # the head for the last position alone
    assert waits == [0, 1, 4]  # the clock is read when the device is done
    assert prefill > 0 and decode > 0


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (Workload(prompt=2000), "the model has 1024 positions.*Lower --prompt"),
        (Workload(new=1), "too small a workload"),
    ],
)
def test_workloads_that_cannot_be_run(tiny_model: Path, work: Workload, says: str) -> None:
    with pytest.raises(FactoryError, match=says):
        measure([tiny_model], work, threads=1)


def test_a_missing_shard_is_told_by_its_name(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FactoryError, match=r"model-00001-of-00002\.safetensors") as refused:
        measure([tmp_path], WORK, threads=1)
    assert refused.value.exit_code == 2


def test_a_model_works_only_when_it_is_asked_and_leaves_when_nobody_is_left(tiny_model: Path) -> None:
    read, write = os.pipe()
    order = json.dumps({"model": str(tiny_model), "work": asdict(WORK)})
    boot = "from factory.models.turns import main; main()"
    command = [sys.executable, "-c", boot, str(write), order]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(write,), bufsize=0)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as answers:
        assert json.loads(answers.readline())["weights"] == "checkpoint"
        assert not select.select([answers], [], [], 0.5)[0]
        assert child.stdin is not None
        child.stdin.write(b"turn\n")
        assert set(json.loads(answers.readline())) == {"prefill", "decode", "peak"}
        assert not select.select([answers], [], [], 0.5)[0]
        child.stdin.close()
        assert child.wait(timeout=20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds children through /proc")
def test_children_end_with_a_killed_parent(tiny_model: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "factory.cli",
        "measure",
        str(tiny_model),
        "--rounds",
        "100000",
        "--json",
    ]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    for line in parent.stdout:
        if json.loads(line).get("done"):  # a turn is over: the child lives and works
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline, "a child outlived its parent"
        time.sleep(0.1)
