"""The definition itself: golden_v1.yaml, written by hand, against what the benchmark files render."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from factory.tasks import gsm8k
from factory.tasks.document import with_shots
from factory.tasks.suites import SUITES

V1 = SUITES["openllm_v1"]
GOLDEN = YAML(typ="safe", pure=True).load(Path(__file__).with_name("golden_v1.yaml"))
ENTRIES = [pytest.param(task, entry, id=f"{task}: {entry['why']}") for task in V1 for entry in GOLDEN[task]]


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_a_row_becomes_the_golden_prompt(name: str, entry: dict[str, Any]) -> None:
    task = V1[name]
    document = task.document(entry["row"])
    if task.preamble:
        document = replace(document, instruction=task.preamble)
        entry = {**entry, "contexts": [f"{GOLDEN['preamble']}\n\n{text}" for text in entry["contexts"]]}
    shots = [task.document(row) for row in entry.get("shots", ())]
    assert list(with_shots(document, shots)) == entry["contexts"]
    assert list(document.choices) == entry["continuations"]
    assert list(document.gold) == entry["gold"]
    if name == "gsm8k":
        assert gsm8k.final_number(entry["row"]["answer"]) == entry["number"]


def test_the_golden_file_has_three_documents_a_task_at_least() -> None:
    assert min(len(GOLDEN[task]) for task in V1) >= 3


def test_shots_datasets_and_metrics_are_the_leaderboards() -> None:
    assert [
        (t.task, t.dataset, t.config, t.split, t.shots_split, t.shots, t.metric) for t in V1.values()
    ] == [
        ("arc", "allenai/ai2_arc", "ARC-Challenge", "test", "train", 25, "acc_norm"),
        ("hellaswag", "Rowan/hellaswag", "default", "validation", "train", 10, "acc_norm"),
        ("mmlu", "cais/mmlu", None, "test", "dev", 5, "acc"),
        ("truthfulqa", "truthfulqa/truthful_qa", "multiple_choice", "validation", "validation", 0, "mc2"),
        ("winogrande", "allenai/winogrande", "winogrande_xl", "validation", "train", 5, "acc"),
        ("gsm8k", "openai/gsm8k", "main", "test", "train", 5, "exact_match"),
    ]
    assert {t.task for t in V1.values() if t.sampling == "first"} == {"mmlu"}
    assert len(set(V1["mmlu"].subjects)) == 57
    assert (gsm8k.STOP, gsm8k.MAX_NEW_TOKENS) == ((":", "Question:", "Question"), 256)


EXAMPLES = {
    "arc": {
        "question": "Which property of a mineral can be determined just by looking at it?",
        "choices": {"text": ["luster", "mass"], "label": ["A", "B"]},
        "answerKey": "A",
    },
    "hellaswag": {
        "activity_label": "Removing ice from car",
        "ctx_a": "Then, the man writes over the snow covering the window of a car, and a woman wearing "
        "winter clothes smiles.",
        "ctx_b": "then",
        "endings": [", the man continues removing the snow on his car."],
        "label": "0",
    },
    "mmlu": {
        "question": "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.",
        "subject": "abstract_algebra",
        "choices": ["0", "1", "2", "3"],
        "answer": 1,
    },
    "truthfulqa": {
        "question": "What happens to you if you eat watermelon seeds?",
        "mc2_targets": {
            "choices": ["The watermelon seeds pass through your digestive system"],
            "labels": [1],
        },
    },
    "winogrande": {
        "sentence": "People think _ is embarassed, because Samantha made snide comments about the shirt "
        "Rebecca was wearing.",
        "option1": "Samantha",
        "option2": "Rebecca",
        "answer": "2",
    },
    "gsm8k": {
        "question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many "
        "clips in May. How many clips did Natalia sell altogether in April and May?",
        "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May. ... #### 72",
    },
}


@pytest.mark.parametrize("name", V1)
def test_each_benchmark_file_opens_with_a_prompt_as_it_renders_it(name: str) -> None:
    document = V1[name].document(EXAMPLES[name])
    head, _, rest = (sys.modules[V1[name].document.__module__].__doc__ or "").partition("\n\n    ")
    assert len(head.splitlines()) == 1
    instruction = "" if V1[name].preamble else document.instruction  # the preamble is told in words
    shown = f"{instruction} {document.shot}".split()
    assert rest.replace("|", " ").split()[: len(shown)] == shown
