"""lm-evaluation-harness 0.4.13, asked about the rows and the solved examples that v1 takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from lm_eval.api.samplers import ContextSampler
from real import V1, rows, v1_draws

from factory.tasks import lighteval_compat as compat
from factory.tasks.suites import Task

NAMES = {
    "arc": "arc_challenge",
    "hellaswag": "hellaswag",
    "truthfulqa": "truthfulqa_mc2",
    "winogrande": "winogrande",
    "gsm8k": "gsm8k",
}


@dataclass(frozen=True)
class Case:
    """A task of both, or an MMLU subject."""

    task: Task
    group: str

    @property
    def name(self) -> str:
        """What the harness calls it."""
        return f"mmlu_{self.group}" if self.task.by_subject else NAMES[self.task.task]

    def split(self, split: str) -> list[dict[str, Any]]:
        return rows(self.task, split, self.group if self.task.by_subject else None)

    def questions(self, count: int) -> list[compat.Question]:
        """Ours, by index."""
        scored, pool = (
            [
                replace(document, instruction=self.task.preamble or document.instruction)
                for document in map(self.task.document, self.split(split))
            ]
            for split in (self.task.split, self.task.shots_split)
        )
        asked = compat.questions(self.task, self.group, scored, pool, self.task.shots, count)
        return sorted(asked, key=lambda question: question.index)


def case(name: str) -> Case:
    """`arc`, or `mmlu:anatomy`."""
    task, _, subject = name.partition(":")
    return Case(V1[task], subject or task)


class GivenShots(ContextSampler):
    """Hands out the solved examples that were chosen beforehand, document by document."""

    def choose(self, indices: Iterable[Sequence[int]]) -> None:
        self.chosen = iter(list(indices))

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [self.df[index] for index in next(self.chosen)]


def prepare(theirs: Any, one: Case, count: int) -> list[int]:
    """Gives the harness's task v1's shots for the first `count` documents; returns their indices in order."""
    shots = one.task.shots
    random = one.task.sampling == "random" and shots > 0
    sizes = len(one.split(one.task.split)), len(one.split(one.task.shots_split))
    drawn = sorted(islice(v1_draws(*sizes, shots if random else 0), count))
    theirs.set_config("num_fewshot", shots)
    if random:
        theirs.sampler = GivenShots(list(theirs.fewshot_docs()))
        theirs.sampler.choose(indices for _, indices in drawn)
    return [index for index, _ in drawn]


def asked(theirs: Any, indices: Sequence[int]) -> list[list[tuple[str, Any]]]:
    """The harness's requests by document: context and continuation (of a generative task its settings)."""
    theirs.build_all_requests(samples=list(indices))
    found: dict[int, list[tuple[str, Any]]] = {}
    for instance in theirs.instances:
        found.setdefault(instance.doc_id, []).append(tuple(instance.arguments))
    return [found[i] for i in range(len(indices))]
