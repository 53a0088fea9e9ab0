"""What a model card tells of speed: measured beside the base, and as a draft of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import reported
from card_runs import build

from factory.hub.card import model_card
from factory.run.folder import RUN


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median / 2, "high": median * 2}


def measured(seconds: float, peak: int) -> dict[str, Any]:
    names = ("prefill_seconds", "decode_seconds", "tokens_per_second")
    sizes = {"peak": peak, "before_bytes": 250_000_000, "weight_bytes": peak - 300_000_000}
    one = {"device": "NVIDIA X", "dtype": "bfloat16", "threads": 1, **sizes}
    return one | {name: spread(seconds) for name in names}


MEASURED = {
    "workload": {"batch": 1, "prompt": 256, "new": 64, "rounds": 5, "dtype": None},
    "others": 1.25,
    "models": {"base": measured(0.02, 900_000_000), "pruned": measured(0.015, 700_000_000)},
    "ratios": {name: spread(0.75) for name in ("prefill_seconds", "decode_seconds", "tokens_per_second")},
}


def _accepted(value: float) -> dict[str, Any]:
    tokens = {"value": 1 + value, "low": 1.0, "high": 2.0}
    return {
        "texts": 32, "tokens": 900, "rate": {"value": value, "low": value - 0.02, "high": value + 0.02},
        "k": [{"k": k, "tokens": tokens} for k in range(1, 9)],
    }  # fmt: skip


FASTEST = {"k": 3, "expected": 1.1, "speed_up": {"value": 1.12, "low": 1.05, "high": 1.2}}
DRAFTED = {
    "target": "base",
    "precision": "float32",
    "temperature": 0.7,
    "sets": {"math": {"trained": False}, "seen": {"trained": True}},
    "greedy": {"all": _accepted(0.81), "math": _accepted(0.81), "seen": _accepted(0.95)},
    "sampled": {"all": _accepted(0.62), "math": _accepted(0.62), "seen": _accepted(0.9)},
    "latency": {"rounds": 40},
    "others": 0.7,
    "expected": {"greedy": [{"k": k, "value": 1.3} for k in range(1, 9)]},
    "forward": {"greedy": [{"k": k, "value": 1.5} for k in range(1, 9)]},
    "measured": {**FASTEST, "rounds": 5, "prompts": 12, "by_k": [FASTEST], "by_set": {"math": FASTEST}},
    "blocks": {"draft": 9, "target": 12},
    "pays": {
        **{"removed": 3, "forward": 2, "of": 12, "k": 3, "why": "as measured"},
        **{"per_block": 0.001, "besides": 0.002, "a_token": 0.003, "a_step": 0.0},
    },
}


def add(run: Path, name: str, facts: dict[str, Any]) -> None:
    """Gives a finished run one more step."""
    stage, key = name.partition("/")[0], f"{len(name):016x}"
    place = run.parent / "store" / stage / key
    place.mkdir(parents=True)
    record = {"stage": stage, "name": name, "key": key, "facts": facts, "machine": reported.MACHINE}
    record |= {"inputs": {}, "settings": {}, "seconds": 1.0, "files": {}}
    (place / "record.json").write_text(json.dumps(record))
    page = json.loads((run / RUN).read_text())
    page["steps"].append({"name": name, "stage": stage, "key": key, "done": True, "seconds": 1.0})
    (run / RUN).write_text(json.dumps(page))


def test_speed_and_memory_stand_beside_the_base_where_they_were_measured(
    tmp_path: Path, tiny_model: Path
) -> None:
    run = build(tmp_path, tiny_model)
    before = model_card(run, "merged", "org/x", {}).text
    assert "this is no measurement of latency" in before and "Measured as a draft" not in before
    add(run, "measure", MEASURED)
    add(run, "draft/merged", DRAFTED)
    text = model_card(run, "merged", "org/x", {}).text
    assert "| each further token | 20.0 ms | 15.0 ms | 0.75 (0.38 .. 1.50) |" in text
    assert "| memory at the peak | 900.00 MB | 700.00 MB | 0.78 |" in text
    assert "Batch 1, 256 + 64 tokens, bfloat16, on NVIDIA X." in text and "allocated on the GPU" in text
    assert "Other processes kept 1.2 processors busy meanwhile: times are too long" in text
    assert "this is no measurement of latency" not in text
    times = "\N{MULTIPLICATION SIGN}"
    said = (
        "Measured as a draft of the base in float32, over 32 texts that it wrote: 81 % of its tokens are "
        f"accepted in greedy decoding, 62 % at temperature 0.7; it makes decoding faster: {times} 1.12 "
        f"[1.05, 1.20] with 3 proposed tokens a step, on 12 prompts, of which {times} 1.10 was to be "
        f"expected; over all texts {times} 1.30, {times} 1.50 if forward passes were all that it takes, in "
        "brackets the least and the most of 5 rounds."
    )
    assert said in text
    assert "Other processes kept 0.7 processors busy meanwhile" in text
    assert (
        "It pays from 3 removed blocks on (of 12; here 3 are gone); if forward passes were all that it takes"
        ", from 2 on. A forward pass takes 1 ms a block"
    ) in text
    assert f"| 62.0 [60.0,\N{NO-BREAK SPACE}64.0] | 1.81 | {times} 1.12 (K = 3) |" in text
    assert "| seen, which variants were trained on | 95.0 [93.0,\N{NO-BREAK SPACE}97.0] |" in text
    assert "draft.generation_config.num_assistant_tokens = 3  # as it was measured" in text
    assert "Measured as a draft" not in model_card(run, "math-self", "org/x", {}).text


def test_a_draft_of_another_target_is_shown_beside_that(tmp_path: Path, tiny_model: Path) -> None:
    run = build(tmp_path / "runs", tiny_model)
    add(run, "draft/merged", {**DRAFTED, "target": "org/large"})
    text = model_card(run, "merged", "org/x", {}).text
    assert "As a draft of `org/large` (assisted generation)" in text
    assert "Measured as a draft of `org/large` in float32" in text
    assert 'base_id = "org/large"\n' in text
