"""Evaluate: a model's scores on a suite, with their intervals; after training and merging, before the report.

Reads a model folder and one dataset folder a task. Writes, as each task ends, `samples/<task>.parquet`
(one row a scored document in dataset order: index, score, group, prediction, gold), and at the end
`scores.json`. A task whose samples are there is not scored again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from factory.dataset_files import column_names, read_rows, select_local
from factory.errors import FactoryError
from factory.seeds import stream
from factory.stages import Frozen, Progress
from factory.tasks import gsm8k
from factory.tasks.document import Document
from factory.tasks.suites import SUITES, Task, wanted
from factory.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from factory.tasks.lighteval_compat import Question
    from factory.tasks.runner import Runner

VERSION = 1
LIBRARIES = ("lighteval", "torch", "transformers", "tokenizers", "numpy")

Row = dict[str, Any]


class Settings(Frozen):
    """What is scored and how.

    Attributes:
        suite: a key of `factory.tasks.suites.SUITES`.
        tasks: tasks of that suite.
        limit: score only so many documents a task (a subject, of MMLU), the first of v1's shuffled order.
        shots: solved examples, for every task.
        seed: of the bootstrap; the solved examples are drawn as v1 draws them, whatever the seed.
        batch_size: questions at once.
        bootstrap: replicates behind each interval.
    """

    suite: str
    tasks: tuple[str, ...] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)
    shots: dict[str, int]
    seed: int
    batch_size: int = Field(ge=1)
    bootstrap: int = Field(default=1000, ge=2)


@dataclass(frozen=True)
class _Source:
    """The rendered rows of one task, or of one MMLU subject."""

    group: str
    scored: list[Document]
    examples: list[Document]


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Scores `inputs["model"]` on every task's rows in `inputs["data.<task>"]`.

    Returns:
        The content of scores.json, plus `parameters` and `blocks` of the model.

    Raises:
        FactoryError: a dataset folder lacks a split, a column or enough rows, or a row cannot be read.
    """
    tasks = [SUITES[settings.suite][name] for name in settings.tasks]
    samples = {task.task: out / "samples" / f"{task.task}.parquet" for task in tasks}
    waiting = [task for task in tasks if not samples[task.task].exists()]
    # All rows are rendered before a heavy library is loaded: a mistake in the last dataset shows at once.
    sources = {
        task.task: _sources(task, inputs[f"data.{task.task}"], settings.shots[task.task]) for task in waiting
    }

    from transformers import AutoTokenizer

    from factory.tasks.lighteval_compat import questions
    from factory.tasks.runner import Runner

    asked = {
        task.task: [
            questions(task, one.group, one.scored, one.examples, settings.shots[task.task], settings.limit)
            for one in sources[task.task]
        ]
        for task in waiting
    }
    total = sum(len(group) for groups in asked.values() for group in groups)
    done, current = 0, ""

    def advance(finished: int) -> None:
        nonlocal done
        done += finished
        progress(done, total, "documents", current)

    model = _load_model(inputs["model"])
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    runner = Runner(model, tokenizer, settings.batch_size, advance)
    for task in waiting:
        current = task.task
        rows = [row for group in asked[task.task] for row in _score(task, group, runner)]
        _write_samples(rows, samples[task.task])
    scores = _scores(tasks, settings, samples)
    _write(out / "scores.json", lambda path: path.write_text(json.dumps(scores, indent=1)))
    blocks = model.config.get_text_config(decoder=True).num_hidden_layers
    return {**scores, "parameters": model.num_parameters(), "blocks": blocks}


def _sources(task: Task, folder: Path, shots: int) -> list[_Source]:
    """The rendered rows of a task, by group.

    Raises:
        FactoryError: see `run`.
    """
    if task.preamble and shots:
        raise FactoryError(f"{task.task} takes no shots: its preamble stands for them", mend="Set them to 0")
    preamble = task.preamble
    if task.preamble_file and (folder / task.preamble_file).is_file():
        preamble = (folder / task.preamble_file).read_text(encoding="utf-8").strip()
    sources = []
    for config, splits in select_local(folder, wanted(task, shots), str(folder)).items():
        where = f"{folder} ({config})" if config else str(folder)
        files = {split: [folder / name for name in names] for split, names in splits.items()}
        scored = _rendered(task, files[task.split], preamble, f"{where}, {task.split}")
        examples = (
            _rendered(task, files[task.shots_split], preamble, f"{where}, {task.shots_split}")
            if shots
            else []
        )
        if not scored:
            raise FactoryError(f"split '{task.split}' has no rows", where=where, mend="Add its rows")
        if len(examples) < shots:
            what = (
                f"{task.task} wants {counted(shots, 'shot')}, "
                f"but split '{task.shots_split}' has {counted(len(examples), 'row')}"
            )
            raise FactoryError(what, where=where, mend="Ask for fewer shots or add rows")
        sources.append(_Source(config if task.by_subject else task.task, scored, examples))
    return sources


def _rendered(task: Task, files: Sequence[Path], preamble: str, where: str) -> list[Document]:
    """The rows of some files as documents."""
    there = column_names(files)
    missing = [column for column in task.columns if there and column not in there]
    if missing:
        what = f"{task.task} needs columns {', '.join(task.columns)}; missing: {', '.join(missing)}"
        raise FactoryError(what, where=where, mend="Rename or add them")
    documents = []
    for index, row in enumerate(read_rows(files, task.columns, None)):
        try:
            empty = [column for column in task.columns if row[column] is None]
            if empty:  # most would be rendered as the word None
                raise ValueError(f"its column '{empty[0]}' is empty")
            document = task.document(row)
            _check(document, task)
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            what = f"row {index} is no row of {task.task} ({error})"
            raise FactoryError(what, where=where, mend="Mend or remove the row") from error
        documents.append(replace(document, instruction=preamble) if preamble else document)
    return documents


def _check(document: Document, task: Task) -> None:
    """Refuses, as a ValueError, what renders but cannot be scored."""
    if task.metric == "acc_norm" and min(map(len, document.choices)) < 2:
        raise ValueError("a choice is empty, which has no log-probability per character")
    # A label of -1 marks a row whose answer is kept secret, and would index the last choice.
    if not document.gold or not all(0 <= index < len(document.choices) for index in document.gold):
        raise ValueError("none of its choices is marked as right")
    if task.metric == "exact_match" and gsm8k.final_number(document.choices[0]) is None:
        raise ValueError("its answer does not end in `#### n`")


def _load_model(folder: Path) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    on_gpu = torch.cuda.is_available()
    # Half precision has no speed to offer on most CPUs, and its rounding moves greedy answers.
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto" if on_gpu else torch.float32, device_map="cuda" if on_gpu else "cpu"
    )
    return model.eval()


def _score(task: Task, questions: Sequence[Question], runner: Runner) -> list[Row]:
    """One row a question of one group, in dataset order."""
    from factory.tasks import lighteval_compat as compat

    asked = [compat.requests(question) for question in questions]
    flat = [doc for docs in asked for doc in docs]
    answers = iter(runner.greedy_until(flat) if task.metric == "exact_match" else runner.loglikelihood(flat))
    rows = []
    for question, docs in zip(questions, asked, strict=True):
        response = compat.joined([next(answers) for _ in docs])
        gold = compat.answer(question.document, question.document.gold[0])
        rows.append(
            {
                "index": question.index,
                "score": compat.score(task.metric, question, response),
                "group": question.group,
                "prediction": compat.prediction(task.metric, question, response),
                "gold": gold,
            }
        )
    return sorted(rows, key=lambda row: row["index"])


def _scores(tasks: Sequence[Task], settings: Settings, samples: Mapping[str, Path]) -> dict[str, Any]:
    """The content of scores.json, from the samples."""
    import numpy as np
    import pyarrow.parquet as pq

    from factory.tasks import bootstrap

    found: dict[str, dict[str, Any]] = {}
    means = []
    for task in tasks:
        table = pq.read_table(samples[task.task]).to_pydict()
        seed = stream(settings.seed, "evaluate", task.task)
        means.append(bootstrap.draw_means(table["score"], table["group"], settings.bootstrap, seed))
        value = bootstrap.mean_of_groups(table["score"], table["group"])
        found[task.task] = {
            **asdict(bootstrap.estimate(value, means[-1], len(table["score"]))),
            "metric": task.metric,
            "shots": settings.shots[task.task],
        }
    value = float(np.mean([score["value"] for score in found.values()]))
    n = sum(score["n"] for score in found.values())
    average = {
        **asdict(bootstrap.estimate(value, np.mean(means, axis=0), n)),
        "metric": "mean",
        "shots": None,
    }
    return {"suite": settings.suite, "tasks": found, "average": average}


def _write_samples(rows: list[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "index": pa.int64(),
        "score": pa.float64(),
        "group": pa.string(),
        "prediction": pa.string(),
        "gold": pa.string(),
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))
    _write(path, lambda place: pq.write_table(table, place))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """The file is whole or absent: what is there counts as done after an interruption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    write(beside)
    beside.replace(path)
