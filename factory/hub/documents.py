"""Every scored document of a published model in one small file, `documents.json.gz`. Beside contents.py.

Of every document of the suite: task, group, index, the hash of what was read before the answer, and the score
of the model and, where it is the same documents, of the base and the pruned model. No text of a benchmark is
in it. `factory compare` and the leaderboard read it; where it is missing, models cannot be compared pairwise.
It is JSON and no table of data: huggingface_hub takes a Parquet file in a model's repository for a mistake.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from factory.errors import FactoryError
from factory.paired import TaskSamples
from factory.stages import Frozen

FILE = "documents.json.gz"
_MOST = 32 << 20  # bytes that a stranger's file may unfold to: v1's are about two million


class _Answered(Frozen):
    """A model's scores on a task, document by document; `correct` only where it was noted."""

    score: list[Annotated[float, Field(ge=0, le=1)]]
    correct: list[bool] | None = None


class _Task(Frozen):
    """A task's documents, in order, and what each model, by its column, made of them."""

    group: list[str]
    index: list[int]
    prompt: list[str]
    models: dict[str, _Answered]

    @model_validator(mode="after")
    def _of_one_length(self) -> _Task:
        answers = [part for one in self.models.values() for part in (one.score, one.correct)]
        parts = [part for part in (self.index, self.prompt, *answers) if part is not None]
        if any(len(part) != len(self.group) for part in parts):
            raise ValueError("a part has more documents than another")
        return self


class _File(Frozen):
    tasks: dict[str, _Task]


def read_samples(evaluated: Path) -> dict[str, TaskSamples]:
    """All tasks of an evaluation's folder.

    Raises:
        FactoryError: a file of samples cannot be read, or is of another version.
    """
    import pyarrow as pa

    found = {}
    for path in sorted((evaluated / "samples").glob("*.parquet")):
        try:
            found[path.stem] = TaskSamples.read(path)
        except (OSError, pa.ArrowException, KeyError) as error:
            what = f"these samples are damaged, or of another version ({type(error).__name__})"
            raise FactoryError(what, where=str(path), mend="Evaluate the model again") from None
    return found


def in_order(samples: Mapping[str, TaskSamples], tasks: Iterable[str]) -> dict[str, TaskSamples]:
    """Samples in the order that a report or scores.json names the tasks in."""
    return {task: samples[task] for task in tasks if task in samples}


def packed(models: Mapping[str, Mapping[str, TaskSamples]]) -> bytes:
    """The file's content; the same for the same samples.

    Args:
        models: samples by column (`model`, `base`, `pruned`) and task; the first says which documents there
            are. A model scored on others has no column.
    """
    first = next(iter(models.values()))
    alike = {name: samples for name, samples in models.items() if _places(samples) == _places(first)}
    tasks = {
        task: _Task(
            group=list(of.group),
            index=list(of.index),
            prompt=list(of.prompt),
            models={
                name: _Answered(score=list(samples[task].score), correct=list(samples[task].correct) or None)
                for name, samples in alike.items()
            },
        )
        for task, of in first.items()
    }
    content = _File(tasks=tasks).model_dump_json(exclude_none=True)
    return gzip.compress(content.encode(), mtime=0)


def unpacked(source: Path, column: str) -> dict[str, TaskSamples] | None:
    """A model's samples by task; None where the file has no such column.

    Raises:
        FactoryError: it cannot be read, or is of another version.
    """
    try:
        tasks = _File.model_validate_json(_unfolded(source.read_bytes())).tasks
    except (OSError, ValueError, zlib.error) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        what = f"the scored documents cannot be read: {' '.join(str(told).split())[:200]}"
        raise FactoryError(what, where=str(source), mend="Publish the model again") from None
    if not all(column in task.models for task in tasks.values()):
        return None
    return {
        name: TaskSamples(
            index=task.index,
            group=task.group,
            score=task.models[column].score,
            prompt=task.prompt,
            correct=task.models[column].correct or (),
        )
        for name, task in tasks.items()
    }


def _unfolded(content: bytes) -> bytes:
    """A gzip file's content, no more of it than `_MOST`.

    Raises:
        ValueError: it has more, or ends too early.
    """
    stream = zlib.decompressobj(wbits=31)
    told = stream.decompress(content, _MOST)
    if not stream.eof:
        raise ValueError("it is cut short" if not stream.unconsumed_tail else "it is larger than any suite's")
    return told


def _places(samples: Mapping[str, TaskSamples]) -> dict[str, Any]:
    return {task: (list(s.index), list(s.group), list(s.prompt)) for task, s in samples.items()}
