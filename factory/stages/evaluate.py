"""Evaluate: a model's scores on a suite, with their intervals; after training and merging, before the report.

Reads a model folder and one dataset folder a task. Writes each document's row as soon as its batch is
done (`samples/<task>.jsonl`), as each task ends `samples/<task>.parquet`, and at the end `scores.json` and
the same in lighteval's form, `lighteval.json`. What is there is not scored again: whoever is killed loses
the batch in hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from factory.errors import FactoryError
from factory.models import load
from factory.stages import Frozen, Progress
from factory.tasks import results, rows
from factory.tasks.samples import Journal, Sample, prompt_hash, read_parquet, sign, write_parquet, write_text
from factory.tasks.suites import SUITES, Task

if TYPE_CHECKING:
    from lighteval.models.model_output import ModelResponse

    from factory.tasks.lighteval_compat import Question
    from factory.tasks.runner import Runner

VERSION = 4
KEYLESS = {"batch_size"}  # after running out of memory, a smaller one goes on where the other was
LIBRARIES = ("lighteval", "torch", "transformers", "tokenizers", "numpy")


class Settings(Frozen):
    """What is scored and how.

    Attributes:
        suite: a key of `factory.tasks.suites.SUITES`.
        tasks: tasks of that suite.
        limit: score only so many documents a task (a subject, of MMLU), the first of v1's shuffled order.
        shots: solved examples, for every task.
        versions: of each task's definition.
        chat_template: prompts are plain text, as v1's are; said so that it is part of the key.
        seed: of the bootstrap; the solved examples are drawn as v1 draws them, whatever the seed.
        batch_size: questions at once. The same one gives the same numbers to the bit; another one sums in
            another order, so that log-probabilities may differ in their last digits and the answer of a
            document whose choices are that close may too.
        bootstrap: replicates behind each interval.
    """

    suite: str
    tasks: tuple[str, ...] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)
    shots: dict[str, int]
    versions: dict[str, int]
    chat_template: Literal[False] = False
    seed: int
    batch_size: int = Field(ge=1)
    bootstrap: int = Field(default=1000, ge=2)


def chosen(
    suite: str, shots: Mapping[str, int], limit: int | None, *, batch_size: int, seed: int = 0
) -> dict[str, Any]:
    """The `Settings` that score the tasks of `shots`; the same for a recipe and for a model alone.

    The seed is the bootstrap's only: the same draws for every recipe let them share the base's scores.
    """
    return {
        "suite": suite,
        "tasks": tuple(shots),
        "limit": limit,
        "shots": dict(shots),
        "versions": {name: SUITES[suite][name].version for name in shots},
        "seed": seed,
        "batch_size": batch_size,
    }


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Scores `inputs["model"]` on every task's rows in `inputs["data.<task>"]`.

    Returns:
        The content of scores.json, plus `parameters`, `blocks` and `positions` of the model, the `dtype` it
        was computed in, and the `notes` of the runner.

    Raises:
        FactoryError: a dataset folder lacks a split, a column, a subject or enough rows, a row cannot be
            read, the model has no tokenizer or lacks weights, reads what comes behind a token, or what it
            computes is not a number.
    """
    tasks = [SUITES[settings.suite][name] for name in settings.tasks]
    done = {task.task: out / "samples" / f"{task.task}.parquet" for task in tasks}
    # All rows are rendered before a heavy library is loaded: a mistake in the last dataset shows at once.
    read, left_out = {}, []
    for task in tasks:
        folder = inputs[f"data.{task.task}"]
        whole = rows.read(task, folder, settings.shots[task.task], settings.limit)
        read[task.task], foreign = _of_the_suite(task, whole, folder)
        if foreign:
            left_out.append(f"{task.task}: no subjects of the suite, and left out: {', '.join(foreign)}")

    from factory.tasks import lighteval_results
    from factory.tasks.runner import Runner

    waiting = {
        task.task: _Waiting(task, _questions(task, read[task.task], settings), path.with_suffix(".jsonl"))
        for task, path in zip(tasks, done.values(), strict=True)
        if not path.exists()
    }
    total = sum(len(one.questions) for one in waiting.values())
    finished, current = sum(len(one.found) for one in waiting.values()), ""

    def advance(more: int) -> None:
        nonlocal finished
        finished += more
        progress(min(finished, total), total, "documents", current)

    tokenizer = load.tokenizer(inputs["model"])
    # Straight to where it computes: main memory may be smaller than a GPU's.
    model = load.causal_lm(inputs["model"], device_map=load.device())
    runner = Runner(model, tokenizer, settings.batch_size, advance)
    for current, one in waiting.items():  # `advance` tells `current`
        one.score(runner)
        write_parquet(one.in_order(), done[current], _told(settings, current))
    for path in done.values():  # of all tasks: a kill may have come between the two
        path.with_suffix(".jsonl").unlink(missing_ok=True)
    samples = {task.task: read_parquet(done[task.task]) for task in tasks}
    scores = results.scores(
        settings.suite,
        settings.shots,
        settings.limit,
        read,
        samples,
        replicates=settings.bootstrap,
        seed=settings.seed,
    )
    write_text(out / "lighteval.json", lighteval_results.content(scores, read, samples))
    write_text(out / "scores.json", json.dumps(scores, indent=1))
    return {
        **scores,
        "parameters": model.num_parameters(),
        "blocks": model.config.get_text_config(decoder=True).num_hidden_layers,
        "positions": runner.max_length,
        "dtype": str(model.dtype).removeprefix("torch."),
        "notes": [*left_out, *runner.notes],
    }


def finish(out: Path, key: str) -> None:
    """Signs the samples, which may travel without the record beside them, with the key of the artifact."""
    for path in sorted((out / "samples").glob("*.parquet")):
        sign(path, key)


def _told(settings: Settings, task: str) -> dict[str, str]:
    """What a file of samples says of itself, for whoever has only the file."""
    told = {
        "suite": settings.suite,
        "task": task,
        "version": settings.versions[task],
        "shots": settings.shots[task],
        "limit": settings.limit,
    }
    return {f"factory.{name}": json.dumps(value) for name, value in told.items()}


def _of_the_suite(task: Task, read: list[rows.Rows], folder: Path) -> tuple[list[rows.Rows], list[str]]:
    """The groups that the suite scores, and the names of those it knows nothing of.

    Raises:
        FactoryError: it knows none of them.
    """
    if not task.subjects:
        return read, []
    known = [one for one in read if one.group in task.subjects]
    foreign = [one.group for one in read if one.group not in task.subjects]
    if not known:
        what = f"{task.task} has none of its subjects: {', '.join(foreign)} are not among them"
        raise FactoryError(
            what, where=str(folder), mend=f"Name folders as the suite does ({task.subjects[0]})"
        )
    return known, foreign


def _questions(task: Task, read: Sequence[rows.Rows], settings: Settings) -> list[Question]:
    """All that a task asks, group by group."""
    from factory.tasks import lighteval_compat as compat

    shots = settings.shots[task.task]
    return [
        question
        for one in read
        for question in compat.questions(task, one.group, one.scored, one.examples, shots, settings.limit)
    ]


class _Waiting:
    """A task whose documents are not all scored.

    Args:
        task: row of the suite.
        questions: all its documents, group by group.
        journal: where its rows are kept as they come.
    """

    def __init__(self, task: Task, questions: Sequence[Question], journal: Path) -> None:
        self.task, self.journal = task, Journal(journal)
        self.questions = {(question.group, question.index): question for question in questions}
        # What an earlier process wrote counts where it answers the very same prompt.
        self.found = {
            sample.place: sample
            for sample in self.journal.read()
            if sample.place in self.questions
            and sample.prompt == prompt_hash(self.questions[sample.place].contexts)
        }

    def score(self, runner: Runner) -> None:
        """Scores the documents that are missing and keeps each batch at once."""
        from factory.tasks import lighteval_compat as compat

        docs, owners = [], []
        for question in self.questions.values():
            requests = compat.requests(question)
            docs += requests
            owners += [question] * len(requests)
        known = {i for i, owner in enumerate(owners) if (owner.group, owner.index) in self.found}
        if len(known) == len(docs):
            return
        # All are asked and what is known is passed over, so that a batch holds the same documents, and its
        # sums the same rounding, whenever it is computed.
        ask = runner.generated if self.task.metric == "exact_match" else runner.judged
        for batch in ask(docs, done=known):
            responses: dict[tuple[str, int], dict[int, ModelResponse]] = {}
            for position, response in batch:
                owner = owners[position]
                responses.setdefault((owner.group, owner.index), {})[position] = response
            fresh = [
                _sample(self.task, self.questions[place], [of_one[i] for i in sorted(of_one)])
                for place, of_one in responses.items()
                if place not in self.found
            ]
            self.journal.write(fresh)
            self.found |= {sample.place: sample for sample in fresh}
        self.journal.close()

    def in_order(self) -> Iterator[Sample]:
        """The rows group by group, each in dataset order."""
        groups = {group: i for i, group in enumerate(dict.fromkeys(group for group, _ in self.questions))}
        return iter(sorted(self.found.values(), key=lambda sample: (groups[sample.group], sample.index)))


def _sample(task: Task, question: Question, responses: Sequence[ModelResponse]) -> Sample:
    """A document's row, from the responses to its requests in order."""
    from factory.tasks import lighteval_compat as compat

    response = compat.joined(responses)
    score = compat.score(task.metric, question, response)
    generated = task.metric == "exact_match"
    return Sample(
        index=question.index,
        score=score,
        group=question.group,
        prediction=compat.prediction(task.metric, question, response),
        gold=compat.answer(question.document, question.document.gold[0]),
        correct=score > 0.5 if task.metric == "mc2" else score == 1.0,
        logprobs=None if generated else tuple(response.logprobs),
        text=response.text[0] if generated else None,
        prompt=prompt_hash(question.contexts),
        cut=max(one.truncated_tokens_count for one in responses),
    )
