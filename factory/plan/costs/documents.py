"""How many documents the benchmarks have and how many tokens they are: under evaluate.py.

Means over Open LLM Leaderboard v1 are assumed, rounded, as Llama-like tokenizers write them; those of the
sandbox were counted. What is the same before all questions of a group is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from factory.plan.costs.rows import ROWS
from factory.tasks.suites import Task


@dataclass(frozen=True)
class Documents:
    """What scoring a task reads and writes; tokens are those of a mean document.

    Attributes:
        count: documents.
        groups: of documents, each with a beginning of its own.
        shared: tokens of that beginning.
        context: tokens before the answer, the beginning included.
        choices: tokens of all choices together; `each` how many choices there are.
        new: tokens that are generated.
    """

    count: int
    groups: int
    shared: float
    context: float
    choices: float
    each: int
    new: float


@dataclass(frozen=True)
class _Mean:
    """Tokens of a solved example, of the question, of all choices (`each` of them), of the answer written."""

    shot: int
    question: int
    choices: int
    each: int
    new: int = 0
    preamble: int = 0


_TASKS: Mapping[str, _Mean] = {
    "arc": _Mean(35, 35, 24, 4),
    "hellaswag": _Mean(95, 65, 110, 4),
    "mmlu": _Mean(90, 90, 4, 4),
    "truthfulqa": _Mean(0, 25, 100, 8, preamble=145),
    "winogrande": _Mean(28, 28, 14, 2),
    "gsm8k": _Mean(170, 70, 0, 1, new=150),
}
_SANDBOX: Mapping[str, _Mean] = {
    "arc": _Mean(19, 15, 7, 4),
    "hellaswag": _Mean(30, 18, 39, 4),
    "mmlu": _Mean(33, 45, 4, 4),
    "truthfulqa": _Mean(0, 14, 36, 5, preamble=149),
    "winogrande": _Mean(14, 8, 9, 2),
    "gsm8k": _Mean(68, 37, 0, 1, new=31),
}
_SUBJECTS = 57, 4  # of the leaderboard's mmlu, of the sandbox's
_SANDBOX_ROWS = 240


def documents(task: Task, shots: int, limit: int | None, sandbox: bool) -> Documents:
    """What scoring a task takes; tasks of other people's suites are taken for MMLU-like ones."""
    table = _SANDBOX if sandbox else _TASKS
    mean = table.get(task.task, table["mmlu"])
    groups = _SUBJECTS[sandbox] if task.by_subject else 1
    count = task.rows or (_SANDBOX_ROWS if sandbox else ROWS)
    if limit is not None:
        count = min(count, limit * groups)
    examples = shots * mean.shot
    # Examples that are drawn anew for every question are no beginning of all of them.
    shared = mean.preamble + (examples if task.sampling == "first" else 0)
    context = mean.preamble + examples + mean.question
    return Documents(count, groups, shared, context, mean.choices, mean.each, mean.new)
