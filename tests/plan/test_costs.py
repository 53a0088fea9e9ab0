"""What `factory plan` says a recipe takes: against arithmetic by hand, and without fetching a weight."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written import ROWS, jsonl, write

from factory.cli import call
from factory.plan import costs
from factory.plan.costs.gpu_kinds import FAST, KINDS
from factory.plan.plan import Plan
from factory.plan.sweep import plan_file
from factory.stages import NAMES

WIDTH, INNER, VOCABULARY, BLOCKS = 1024, 4096, 32_000, 16
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": BLOCKS,
    "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": 16, "num_key_value_heads": 16,
    "vocab_size": VOCABULARY, "tie_word_embeddings": False, "max_position_embeddings": 4096,
}  # fmt: skip
BLOCK = 4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH
BASE = 2 * VOCABULARY * WIDTH + WIDTH + BLOCKS * BLOCK
PRUNED = BASE - 6 * BLOCK
RECIPE = """\
name: middling
base: {model: llama}
prune: {drop: 6, calibration: {dataset: texts, rows: 2, max_tokens: 64}}
datasets: {math: {id: math, prompt: math}}
regenerate: {engine: vllm, max_new_tokens: 64}
train: {sft: {num_train_epochs: 2, max_length: 512}}
variants:
  lora: {data: [math], targets: self}
  full: {data: [math], targets: original, train: {method: full}}
  both: {merge: linear, of: [lora, full], weights: [1, 1]}
evaluate: {suite: sandbox_v1, tasks: [arc, gsm8k], limit: 10}
"""
TIMED = """\
drift: {rows: 50, max_new_tokens: 1, batch_size: 10, text: {dataset: texts, rows: 4, max_tokens: 64}}
measure: {batch: 3, prompt: 100, new: 20, rounds: 4}
draft:
  models: [pruned]
  target: {model: larger}
  max_new_tokens: 64
  prompts:
    open: {id: texts, prompt: text, rows: 4, prompt_tokens: 8}
    math: {of: math, rows: 7}
"""


def sparse_llama(folder: Path, blocks: int = BLOCKS) -> None:
    """A Llama, of 16 blocks 334 M parameters, as a folder: config, headers, and a hole for its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": blocks}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {}}}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    shapes: dict[str, list[int]] = {
        "model.embed_tokens.weight": [VOCABULARY, WIDTH], "lm_head.weight": [VOCABULARY, WIDTH],
        "model.norm.weight": [WIDTH],
    }  # fmt: skip
    for block in range(blocks):
        for name, shape in (
            *((f"self_attn.{side}_proj", [WIDTH, WIDTH]) for side in "qkvo"),
            *((f"mlp.{side}_proj", [INNER, WIDTH]) for side in ("gate", "up")),
            ("mlp.down_proj", [WIDTH, INNER]), ("input_layernorm", [WIDTH]),
            ("post_attention_layernorm", [WIDTH]),
        ):  # fmt: skip
            shapes[f"model.layers.{block}.{name}.weight"] = shape
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight")
    sparse_llama(folder / "llama")
    sparse_llama(folder / "larger", 2 * BLOCKS)
    jsonl(folder / "texts" / "train.jsonl", *({"text": f"text {i}"} for i in range(4)))
    jsonl(folder / "math" / "train.jsonl", *(ROWS * 200))
    jsonl(folder / "math" / "test.jsonl", *(ROWS * 20))
    return write(folder, RECIPE)


@pytest.fixture(scope="module")
def timed(eight: Path) -> Path:
    """The same recipe with all that measures models."""
    path = eight.with_name("timed.yaml")
    path.write_text(RECIPE + TIMED, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def planned(eight: Path) -> Plan:
    return plan_file(eight)


@pytest.fixture(scope="module")
def found(planned: Plan) -> costs.Costs:
    return costs.estimate(planned)


def work(found: costs.Costs, step: str) -> costs.Work:
    return next(one for one in found.work if one.step == step)


def flops(found: costs.Costs, step: str, how: str) -> float:
    return sum(one.flops for one in work(found, step).passes if one.how == how)


def test_weights_are_what_they_weigh(planned: Plan, found: costs.Costs) -> None:
    assert planned.parameters == {"base": BASE, "pruned": PRUNED}
    assert work(found, "prune").disk == work(found, "merge/both").disk == 2 * PRUNED
    assert work(found, "regenerate/math").memory > 2 * BASE


def test_learning_takes_what_the_arithmetic_says(found: costs.Costs) -> None:
    """Six FLOPs a weight and token, eight where activations are computed anew; sixteen bytes a weight."""
    full, lora = work(found, "train/full"), work(found, "train/lora")
    learning = {name: flops(found, f"train/{name}", "train") for name in ("full", "lora")}
    rows, weights = 1000 * 2, PRUNED - VOCABULARY * WIDTH  # looking up an embedding is no FLOP
    tokens = (40 + 5 / 4) + 7 / 4  # a template, `say 1`, `it is 1`, at four characters a token
    assert learning["full"] == pytest.approx(8 * weights * rows * tokens, rel=0.02)
    assert learning["lora"] == pytest.approx(6 * weights * rows * tokens, rel=0.02)
    assert 0 < full.memory - 16 * PRUNED < 2e9
    assert 0 < lora.memory - 2 * PRUNED < 2e9


def test_calibration_texts_at_hand_are_as_long_as_they_are(eight: Path, found: costs.Costs) -> None:
    weights = BASE - VOCABULARY * WIDTH
    assert flops(found, "importance", "forward") == pytest.approx(2 * weights * 2 * 2, rel=0.01)  # `text 1`
    jsonl(eight.parent / "long" / "train.jsonl", *({"text": "word " * 1000} for _ in range(4)))
    cut = costs.estimate(plan_file(eight, ["prune.calibration.dataset=long"]))
    assert flops(cut, "importance", "forward") == pytest.approx(2 * weights * 2 * 64, rel=0.01)


def test_what_does_not_fit_is_said(found: costs.Costs) -> None:
    small = replace(KINDS[0], memory=4 * 10**9)
    assert [one.step for one in found.too_large(small)] == ["train/full"]
    assert found.too_large(KINDS[-1]) == []


def test_more_takes_more(eight: Path, found: costs.Costs) -> None:
    def of(*overrides: str) -> costs.Costs:
        return costs.estimate(plan_file(eight, overrides))

    name = "train/lora"
    assert work(of("train.sft.num_train_epochs=4"), name).flops == 2 * work(found, name).flops
    assert work(of("prune.drop=12"), name).memory < work(found, name).memory
    half = of("variants.full.train.freeze=half")
    assert work(half, "train/full").memory < work(found, "train/full").memory
    step = "regenerate/math"
    both = of("regenerate.engine=transformers"), found
    assert [[one.eager for one in work(costs, step).passes] for costs in both] == [[True] * 2, [False] * 2]
    step = "evaluate/base"
    assert work(of("evaluate.limit=5"), step).flops == pytest.approx(work(found, step).flops / 2)


def test_what_learns_from_rewritten_rows_sees_no_more_of_them(eight: Path) -> None:
    fewer = costs.estimate(plan_file(eight, ["datasets.math.rows=100", "variants.full.train.method=lora"]))
    rewritten, original = work(fewer, "train/lora"), work(fewer, "train/full")
    assert rewritten.flops == original.flops


def test_the_fast_end_is_faster_and_dearer_gpus_are_faster(found: costs.Costs) -> None:
    slowest = [found.hours(kind) for kind in KINDS if kind.name in ("T4", "A100 80GB", "H100")]
    assert all(fast < slow for fast, slow in slowest)
    assert [slow for _, slow in slowest] == sorted((slow for _, slow in slowest), reverse=True)


def test_the_slowest_of_computing_reading_and_starting_decides() -> None:
    kind = replace(KINDS[0], flops=100.0, bandwidth=10.0)
    speeds = replace(FAST, forward=0.5, train=0.1, decode=0.5, launch=1.0, launch_eager=3.0)
    few = {"flops": 50.0, "read": 5.0, "blocks": 1.0}

    def seconds(how: costs.How, **more: float) -> float:
        return costs.Passes(how, **{**few, **more}, eager=False).seconds(kind, speeds)

    assert seconds("forward") == seconds("decode") == 1.0 and seconds("train") == 5.0
    assert seconds("forward", flops=500.0) == 10.0 and seconds("train", flops=500.0) == 50.0
    assert seconds("decode", read=50.0) == 10.0 and seconds("decode", blocks=10.0) == 10.0
    assert costs.Passes("decode", **few).seconds(kind, speeds) == 3.0  # Python starts every operation


def test_a_sweep_is_estimated_point_by_point(eight: Path) -> None:
    found = costs.estimate(plan_file(eight, ["sweep.prune.drop=[2, 8]"]))
    assert work(found, "drop=8/prune").disk < work(found, "drop=2/prune").disk


def test_scoring_is_reading_documents_and_writing_answers(
    eight: Path, planned: Plan, found: costs.Costs
) -> None:
    """Ten documents a task: of arc three examples of 19 tokens and a question of 15, of gsm8k two and one.

    Only choices and answers run through the head; every token of an answer reads the weights, as many rows
    of a batch do together, and its own cache. Examples that all questions of a subject share are read once.
    """
    batch = planned.step("evaluate/base").settings.batch_size  # type: ignore[attr-defined]
    whole, blocks = BASE - VOCABULARY * WIDTH, BASE - 2 * VOCABULARY * WIDTH
    arc, gsm8k = 3 * 19 + 15, 2 * 68 + 37
    read = 2 * (blocks * 10 * (arc + gsm8k) + whole * 10 * 7)
    assert flops(found, "evaluate/base", "forward") == pytest.approx(read, rel=0.02)
    mmlu = costs.estimate(plan_file(eight, ["evaluate.tasks=[mmlu]"]))
    read = 2 * (blocks * 4 * (3 * 33 + 10 * 45) + whole * 40 * 4)
    assert flops(mmlu, "evaluate/base", "forward") == pytest.approx(read, rel=0.02)
    new = 10 * 31
    assert flops(found, "evaluate/base", "decode") == pytest.approx(2 * whole * new, rel=0.05)
    answering = next(one for one in work(found, "evaluate/base").passes if one.how == "decode")
    cache = 2 * BLOCKS * WIDTH * 2 * (gsm8k + 31 / 2)
    assert answering.read == pytest.approx(new * (2 * BASE / batch + cache), rel=0.01)
    assert answering.blocks == pytest.approx(new / batch * BLOCKS)
    assert 2 * BASE < work(found, "evaluate/base").memory < 2 * BASE + 3e9


def test_rewriting_is_reading_prompts_with_references_and_writing_as_much(found: costs.Costs) -> None:
    step, rows = "regenerate/math", 1000
    prompt, answer = 40 + 5 / 4 + 7 / 4, 1.2 * 7 / 4
    blocks, whole = BASE - 2 * VOCABULARY * WIDTH, BASE - VOCABULARY * WIDTH
    assert flops(found, step, "forward") == pytest.approx(2 * blocks * rows * prompt, rel=0.02)
    assert flops(found, step, "decode") == pytest.approx(2 * whole * rows * answer, rel=0.02)
    decoding = next(one for one in work(found, step).passes if one.how == "decode")
    cache = 2 * BLOCKS * WIDTH * 2 * (prompt + answer)
    assert decoding.read == pytest.approx(rows * answer * (2 * BASE / 128 + cache), rel=0.05)  # vLLM's batch


def test_weights_are_moved_as_often_as_they_are_read_and_written(found: costs.Costs) -> None:
    base, pruned = 2 * BASE, 2 * PRUNED
    moved = {step: work(found, step).moved for step in ("importance", "prune", "merge/both", "evaluate/base")}
    assert moved == {
        "importance": base,
        "prune": base + 2 * pruned + base + pruned,  # read, written, sealed; the proof reads both
        "merge/both": 3 * pruned,
        "evaluate/base": base,
    }
    one = work(found, "merge/both")
    kind, speeds = KINDS[0], replace(FAST, start=7.0, disk=1e9)
    assert one.seconds(kind, speeds) == pytest.approx(7.0 + 3 * pruned / 1e9)


def test_learning_keeps_an_adapter_and_reads_weights_at_every_step(found: costs.Costs) -> None:
    """2,000 rows of about 43 tokens: packed into 512, one row at a time, three passes for a frozen model."""
    lora = work(found, "train/lora")
    assert 2 * PRUNED < lora.disk < 2.2 * PRUNED
    assert work(found, "train/full").disk == 2 * PRUNED
    assert work(found, "train/full").moved == 2 * PRUNED + 2 * PRUNED


def test_every_stage_is_in_the_estimate(timed: Path) -> None:
    """One that is not could cost anything, and no limit would see it."""
    assert costs.STAGES.keys() == set(NAMES)
    plan = plan_file(timed)
    found = costs.estimate(plan)
    assert [one.step for one in found.work] == [step.name for step in plan.steps]
    idle = [one.step for one in found.work if not one.seconds(KINDS[0], FAST)]
    assert idle == ["report"]


def test_drift_is_answering_and_reading(timed: Path) -> None:
    """The base answers and reads; a model answers, and both read the base's answers."""
    found = costs.estimate(plan_file(timed))
    weights = {"base": BASE - VOCABULARY * WIDTH, "pruned": PRUNED - VOCABULARY * WIDTH}
    question, new, texts = 40 + 5 / 4, 1, 4 * 2
    for name, model in (("base", "base"), ("lora", "pruned")):
        step = f"drift/{name}"
        assert flops(found, step, "decode") == pytest.approx(2 * weights[model] * 50 * new, rel=0.02)
        asked = (weights[model] - VOCABULARY * WIDTH) * 50 * question + weights[model] * texts
        read = (weights["base"] + (weights["pruned"] if name == "lora" else 0)) * 50 * (question + new)
        vectors = weights["base"] * 50 * new
        assert flops(found, step, "forward") == pytest.approx(2 * (asked + read + vectors), rel=0.05)
    assert work(found, "drift/lora").memory > 2 * (BASE + PRUNED)
    twice = costs.estimate(plan_file(timed, ["drift.rows=100"]))
    assert flops(twice, "drift/lora", "decode") == 2 * flops(found, "drift/lora", "decode")


def test_measuring_is_its_turns_with_both_models_in_memory(timed: Path) -> None:
    found = costs.estimate(plan_file(timed))
    weights = BASE + PRUNED - 2 * VOCABULARY * WIDTH
    turns = 2 + 4  # two warm up
    assert flops(found, "measure", "decode") == pytest.approx(2 * weights * turns * 3 * 20, rel=0.05)
    both = work(found, "measure")
    assert both.memory > 2 * (BASE + PRUNED)
    assert (both.starts, both.memory // costs.RESERVE) == (2, 2 + 2 * (BASE + PRUNED) // costs.RESERVE)


def test_a_draft_is_timed_beside_its_target(timed: Path) -> None:
    """The target is another model here: what it weighs and decodes is its own."""
    found = costs.estimate(plan_file(timed))
    larger = BASE + BLOCKS * BLOCK - VOCABULARY * WIDTH
    tried = PRUNED - VOCABULARY * WIDTH
    answers = 2 * (4 + 7) * 32  # greedy and sampled, half as long as they may be
    said = sum(flops(found, f"respond/{name}", "decode") for name in ("open", "math"))
    assert said == pytest.approx(2 * larger * answers, rel=0.02)
    latencies = 201 * (tried + larger * sum(range(1, 10)))
    decoded = 12 * 3 * 32 * (6 * larger + 5 * tried)  # alone, and with each of five numbers of tokens
    assert flops(found, "draft/pruned", "decode") == pytest.approx(2 * (latencies + decoded), rel=0.02)
    assert work(found, "draft/pruned").memory > 2 * (larger + tried)


def test_a_limit_sees_what_is_timed(timed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cost(*overrides: str) -> float:
        found = costs.estimate(plan_file(timed, overrides))
        return found.hours(KINDS[-1])[1] * KINDS[-1].dollars

    long = ["measure.rounds=100", "draft.timed=100", "drift.rows=2000"]
    assert all(cost(one) > cost() for one in long)
    limit = ["--max-cost", f"{(cost() + cost(*long)) / 2}", "--gpu", KINDS[-1].name]
    assert call(["plan", str(timed), *limit]) == 0
    assert call(["plan", str(timed), *limit, *(word for one in long for word in ("--set", one))]) == 2
    assert "--max-cost: this may cost" in capsys.readouterr().err


def test_on_a_cpu_weights_are_float32_and_rows_are_not_packed(planned: Plan) -> None:
    here, there = (costs.estimate(planned, device) for device in ("cpu", "cuda"))
    assert work(here, "evaluate/base").memory - work(there, "evaluate/base").memory == 2 * BASE
    steps = {
        name: work(found, "train/lora").passes[0].blocks for name, found in (("cpu", here), ("cuda", there))
    }
    assert steps["cpu"] > steps["cuda"]


def test_the_command_names_what_it_assumes(eight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", str(eight)]) == 0
    said = capsys.readouterr().out
    for words in (f"{BASE:,} parameters become", "H100", "dollars an hour", "downloads: none"):
        assert words in said
    assert call(["plan", str(eight), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)["costs"]
    assert {one["kind"] for one in told["gpus"]} == {kind.name for kind in KINDS}
    assert all(one["hours"][0] <= one["hours"][1] for one in told["gpus"])
    assert told["steps"]["train/full"]["gpu_memory"] > 16 * PRUNED and told["assumptions"]
