"""The whole way from rows to scores against a second, plain way: v1 as a loop of single forward passes.

Nothing of `factory.tasks` is used for the plain side, so that a mistake in rendering, drawing shots,
batching or scoring shows as a difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.stages import evaluate

NAMES = ("Ann", "Bo", "Cleopatra", "Di", "Ed")
LogProb = Callable[[str, str], float]


def arc_rows(start: int, count: int) -> list[dict[str, Any]]:
    made = []
    for i in range(start, start + count):
        texts = [f"{NAMES[(i + j) % 5]} {'runs ' * j}".strip() for j in range(3 + i % 2)]
        labels = ["A", "B", "C", "D"][: len(texts)]
        made.append(
            {
                "question": f"Who is {NAMES[i % 5]} {i}?",
                "choices": {"text": texts, "label": labels},
                "answerKey": labels[i % 3],
            }
        )
    return made


def winogrande_rows(start: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "sentence": f"{NAMES[i % 5]} gave {i} to {NAMES[(i + 2) % 5]} because _ had {i % 3} left.",
            "option1": NAMES[i % 5],
            "option2": NAMES[(i + 2) % 5],
            "answer": str(1 + i % 2),
        }
        for i in range(start, start + count)
    ]


def truthfulqa_rows(count: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        choices = [f"{name} did {i}" for name in NAMES[: 3 + i % 3]]
        labels = [1] * (1 + i % 2) + [0] * (len(choices) - 1 - i % 2)
        rows.append({"question": f"Who did {i}?", "mc2_targets": {"choices": choices, "labels": labels}})
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def v1_order(
    rows: list[dict[str, Any]], pool: list[dict[str, Any]], shots: int
) -> Iterator[tuple[int, Any, Any]]:
    """Index, row and shots, as lm-evaluation-harness walks through a task."""
    generator = random.Random()
    generator.seed(42)
    numbered = list(enumerate(rows))
    generator.shuffle(numbered)
    for index, row in numbered:
        yield index, row, generator.sample(pool, shots) if shots else []


def arc_score(row: dict[str, Any], shots: list[dict[str, Any]], logprob: LogProb) -> float:
    def right(one: dict[str, Any]) -> int:
        return "ABCD".index(one["answerKey"])

    context = "".join(
        f"Question: {s['question']}\nAnswer: {s['choices']['text'][right(s)]}\n\n" for s in shots
    )
    context += f"Question: {row['question']}\nAnswer:"
    values = [logprob(context, " " + text) / len(text) for text in row["choices"]["text"]]
    return float(values.index(max(values)) == right(row))


def winogrande_score(row: dict[str, Any], shots: list[dict[str, Any]], logprob: LogProb) -> float:
    solved = "".join(s["sentence"].replace("_", s["option" + s["answer"]]) + "\n\n" for s in shots)
    before, after = row["sentence"].split("_")
    values = [logprob(solved + before + row[f"option{n}"], " " + after.strip()) for n in (1, 2)]
    return float(values.index(max(values)) + 1 == int(row["answer"]))


def truthfulqa_score(row: dict[str, Any], shots: list[dict[str, Any]], logprob: LogProb) -> float:
    preamble = (
        "Q: What is human life expectancy in the United States?\n"
        "A: Human life expectancy in the United States is 78 years.\n\n"
        "Q: Who was president of the United States in 1955?\n"
        "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n"
        "Q: Which party did he belong to?\n"
        "A: He belonged to the Republican Party.\n\n"
        "Q: What is the square root of banana?\n"
        "A: I have no comment.\n\n"
        "Q: How does a telescope work?\n"
        "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n"
        "Q: Where were the 1992 Olympics held?\n"
        "A: The 1992 Olympics were held in Barcelona, Spain."
    )
    targets = row["mc2_targets"]
    context = f"{preamble}\n\nQ: {row['question']}\nA:"
    shares = [math.exp(logprob(context, " " + choice)) for choice in targets["choices"]]
    return sum(share for share, label in zip(shares, targets["labels"], strict=True) if label) / sum(shares)


@pytest.fixture(scope="module")
def logprob(tiny_model: Path) -> LogProb:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def joint(context: str, continuation: str) -> float:
        ids = tokenizer.encode(context + continuation)
        start = len(tokenizer.encode(context))
        with torch.inference_mode():
            values = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return float(sum(values[i - 1, ids[i]] for i in range(start, len(ids))))

    return joint


def test_three_tasks_score_as_a_plain_loop_scores_them(
    tiny_model: Path, logprob: LogProb, tmp_path: Path
) -> None:
    rows = {"arc": arc_rows(0, 12), "winogrande": winogrande_rows(0, 12), "truthfulqa": truthfulqa_rows(9)}
    pools = {"arc": arc_rows(40, 8), "winogrande": winogrande_rows(40, 8), "truthfulqa": []}
    shots = {"arc": 3, "winogrande": 2, "truthfulqa": 0}
    plain = {"arc": arc_score, "winogrande": winogrande_score, "truthfulqa": truthfulqa_score}
    inputs = {"model": tiny_model}
    for task, split in (("arc", "test"), ("winogrande", "validation"), ("truthfulqa", "validation")):
        write(rows[task], tmp_path / task / f"{split}.parquet")
        if pools[task]:
            write(pools[task], tmp_path / task / "train.parquet")
        inputs[f"data.{task}"] = tmp_path / task
    settings = evaluate.Settings(
        suite="openllm_v1",
        tasks=tuple(rows),
        shots=shots,
        versions=dict.fromkeys(rows, 1),
        seed=0,
        batch_size=5,
        bootstrap=20,
    )
    evaluate.run(settings, inputs, tmp_path / "out", lambda done, total, unit, note="": None)
    for task, score in plain.items():
        found = pq.read_table(tmp_path / "out" / "samples" / f"{task}.parquet")["score"].to_pylist()
        expected = {
            index: score(row, drawn, logprob)
            for index, row, drawn in v1_order(rows[task], pools[task], shots[task])
        }
        assert found == pytest.approx([expected[index] for index in range(len(found))], abs=1e-4), task
        assert len(set(found)) > 1, task  # a task that scores all rows alike would prove nothing
