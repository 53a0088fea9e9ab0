"""scores.json: a model's scores on a suite with how sure they are, from its scored documents.

Between the evaluate stage, which scores and writes it, and the report. What keeps the figures from being
the suite's own (a limit, other shots or rows, subjects or tasks left out) is said in it, so that no copy of
it loses that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from factory.seeds import stream
from factory.tasks.rows import Rows
from factory.tasks.samples import Sample
from factory.tasks.suites import SUITES, Task
from factory.wording import counted, limited

# What the figures are, for whoever has only the file.
MEANING = {
    "value": "the mean over a task's documents (mmlu: over its subjects' means); the average: over the tasks",
    "stderr": "standard deviation of the documents' scores / sqrt(n); of a mean of means: the root of the "
    "summed squares of the parts' standard errors, over their number; null where a part has one document",
    "low, high": "95 % percentile bootstrap over the documents, drawn within each task and subject",
    "cut": "documents whose prompt was longer than the model and was cut from the left",
}


def scores(
    suite: str,
    shots: Mapping[str, int],
    limit: int | None,
    read: Mapping[str, Sequence[Rows]],
    samples: Mapping[str, Sequence[Sample]],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """The content of scores.json.

    Args:
        suite: name of the suite.
        shots: solved examples by task.
        limit: how many documents of each task (each subject) were scored; None for all.
        read: by task, the rows the documents and their solved examples come from.
        samples: by task, in the suite's order.
        replicates: of the bootstrap.
        seed: of the bootstrap; each task has a stream of its own.
    """
    import numpy as np

    from factory.tasks import bootstrap

    found: dict[str, dict[str, Any]] = {}
    draws, errors = [], []
    for name, rows in samples.items():
        values, groups = [row.score for row in rows], [row.group for row in rows]
        draws.append(bootstrap.draw_means(values, groups, replicates, stream(seed, "evaluate", name)))
        errors.append(bootstrap.standard_error(values, groups))
        estimate = bootstrap.estimate(bootstrap.mean_of_groups(values, groups), draws[-1], len(rows))
        task = SUITES[suite][name]
        found[name] = {
            **asdict(replace(estimate, stderr=errors[-1])),
            "metric": task.metric,
            "shots": shots[name],
            "version": task.version,
            "cut": sum(row.cut > 0 for row in rows),
        }
    value = float(np.mean([one["value"] for one in found.values()]))
    average = bootstrap.estimate(value, np.mean(draws, axis=0), sum(one["n"] for one in found.values()))
    known = [error for error in errors if error is not None]
    error = float(np.sqrt(np.square(known).sum())) / len(errors) if len(known) == len(errors) else None
    why_not = deviations(suite, shots, limit, read)
    return {
        "suite": suite,
        "limit": limit,
        "comparable": not why_not,
        "why_not": why_not,
        "tasks": found,
        "average": {**asdict(replace(average, stderr=error)), "metric": "mean", "shots": None},
        "meaning": MEANING,
    }


def deviations(
    suite: str, shots: Mapping[str, int], limit: int | None, read: Mapping[str, Sequence[Rows]]
) -> list[str]:
    """Why the scores do not compare with the suite's own, as sentences without a full stop."""
    whole = SUITES[suite]
    found = [limited(limit)] if limit else []
    found += [
        f"{name} has {counted(count, 'shot')} where the suite has {whole[name].shots}: not comparable with it"
        for name, count in shots.items()
        if count != whole[name].shots
    ]
    for name, groups in read.items():
        found += _other_rows(whole[name], groups, shots[name])
    absent = [name for name in whole if name not in shots]
    if absent:
        found.append(f"The average leaves out {', '.join(absent)}: not comparable with the suite's")
    return found


def _other_rows(task: Task, groups: Sequence[Rows], shots: int) -> Iterator[str]:
    """In what the rows of a task are not the benchmark's own: a part of it is not the benchmark."""
    there = {one.group for one in groups}
    if missing := [subject for subject in task.subjects if subject not in there]:
        yield (
            f"{task.task} lacks {len(missing)} of its {len(task.subjects)} subjects: not comparable "
            f"({', '.join(missing)})"
        )
    # A folder's only configuration is read, whatever it is called: ARC-Easy's rows are as ARC-Challenge's.
    for other in {
        one.config: None for one in groups if task.config and one.config not in (None, task.config)
    }:
        yield f"{task.task}: the rows are those of '{other}', not of '{task.config}': not comparable"
    scored, examples = (sum(len(getattr(one, kind)) for one in groups) for kind in ("scored", "examples"))
    if task.rows not in (None, scored):
        yield f"{task.task}: the rows are {scored:,} of {task.rows:,}: not comparable"
    if shots and task.shots_rows not in (None, examples):
        yield f"{task.task}: the rows for its shots are {examples:,} of {task.shots_rows:,}: not comparable"
