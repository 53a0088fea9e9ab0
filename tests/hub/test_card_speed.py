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
DRAFTED = {
    "target": "base",
    "temperature": 0.7,
    "greedy": {"all": {"texts": 32, "tokens": 900, "rate": {"value": 0.81}}},
    "sampled": {"all": {"texts": 32, "tokens": 900, "rate": {"value": 0.62}}},
    "latency": {"rounds": 40},
    "others": 0.7,
    "best": {"greedy": {"k": 3, "value": 1.3}},
    "measured": {"k": 3, "rounds": 5, "speed_up": {"value": 1.12, "low": 1.05, "high": 1.2}},
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
        "Measured as a draft of the base over 32 texts that it wrote: 81 % of its tokens are accepted in "
        f"greedy decoding, 62 % at temperature 0.7; it makes decoding faster: {times} 1.12 [1.05, 1.20] "
        f"measured with 3 proposed tokens a step, {times} 1.30 expected, in brackets the least and the most "
        "of 5 rounds."
    )
    assert said in text
    assert "Other processes kept 0.7 processors busy meanwhile" in text
    assert "It pays from 3 removed blocks on (of 12; here 3; by the forward passes alone from 2 on)" in text
    assert "Measured as a draft" not in model_card(run, "math-self", "org/x", {}).text
