"""A model's scores in lighteval's own results JSON, made by lighteval's own loggers.

Written by the evaluate stage as `lighteval.json`, the same for the same key: without the model's name, the
time and where the rows came from. `named` puts them in, at `results/<model>/results_<time>.json`, where
lighteval's tools and the Hub look for it. Names are those of the suite as a lighteval task module
(lighteval_tasks.py), which its own Pipeline would write: `openllm_v1_arc|25`, `openllm_v1_mmlu:anatomy|5`,
`openllm_v1_mmlu:_average|5`, and `all` with each metric's mean over the tasks that have it. What lighteval
has no place for stands under `factory`: the suite's own average, the intervals, and whether the figures
compare with the suite's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from factory.tasks.rows import Rows
from factory.tasks.samples import Sample, write_text
from factory.tasks.suites import SUITES, Task


def content(
    scores: Mapping[str, Any], read: Mapping[str, Sequence[Rows]], samples: Mapping[str, Sequence[Sample]]
) -> str:
    """The text of lighteval.json.

    Args:
        scores: scores.json.
        read: by task, the rows it was scored on.
        samples: by task.
    """
    from lighteval.logging.evaluation_tracker import EnhancedJSONEncoder, EvaluationTracker
    from lighteval.logging.info_loggers import DetailsLogger
    from lighteval.models.abstract_model import ModelConfig
    from lighteval.tasks.lighteval_task import LightevalTask

    from factory.tasks.lighteval_tasks import table

    tracker = EvaluationTracker(output_dir="", save_details=False)
    tracker.general_config_logger.log_args_info(1, scores["limit"], "")
    tracker.general_config_logger.log_model_info(ModelConfig(model_name="", cache_dir=""))
    tracker.general_config_logger.start_time = None  # type: ignore[assignment]  # `named` knows it
    details, tasks = tracker.details_logger, {}
    for name, found in scores["tasks"].items():
        task = replace(_task(scores, name), subjects=tuple(one.group for one in read[name]))
        for config, one in zip(table(scores["suite"], [task]), read[name], strict=True):
            called = f"{config.name}|{found['shots']}"
            config.hf_revision = None  # the suite's may not be what was read; `named` knows
            tasks[called] = LightevalTask(config)
            tracker.versions_logger.log(called, config.version)
            mine = [sample for sample in samples[name] if sample.group == one.group]
            for sample in mine:
                tracker.metrics_logger.log(called, {task.metric: sample.score})
            cut = sum(sample.cut > 0 for sample in mine)
            details.compiled_details[called] = DetailsLogger.CompiledDetail(
                truncated=cut, non_truncated=len(mine) - cut
            )
            over = details.compiled_details_over_all_tasks
            over.truncated, over.non_truncated = over.truncated + cut, over.non_truncated + len(mine) - cut
            config.original_num_docs, config.effective_num_docs = len(one.scored), len(mine)
    tracker.task_config_logger.log(tasks)
    tracker.metrics_logger.aggregate(tasks)
    aggregated = tracker.metrics_logger.metric_aggregated
    for name, found in scores["tasks"].items():
        average = aggregated.get(f"{scores['suite']}_{name}:_average|{found['shots']}")
        if average is not None:  # lighteval's is the mean of the subjects' errors, no error of their mean
            average.pop(f"{found['metric']}_stderr", None)
            if found["stderr"] is not None:
                average[f"{found['metric']}_stderr"] = found["stderr"]
    told = ("suite", "limit", "comparable", "why_not", "average", "tasks", "meaning")
    whole = {**tracker.results, "factory": {key: scores[key] for key in told}}
    return json.dumps(whole, cls=EnhancedJSONEncoder, indent=1, ensure_ascii=False)


def named(
    text: str, model: str, record: Mapping[str, Any], started: datetime, seconds: float, out: Path
) -> Path:
    """Writes lighteval.json's content as lighteval itself would after running `model`.

    Args:
        text: of lighteval.json.
        model: what to call it: a Hub id, or a plain name.
        record: `key` and `inputs` of the artifact; a dataset's commit is told only where the Hub's was read.
        started: when scoring began.
        seconds: how long it took.
        out: the folder that gets `results/<model>/results_<time>.json`.
    """
    whole = json.loads(text)
    general = whole["config_general"]
    began = started.timestamp()
    general.update(
        model_name=model,
        model_config={**general["model_config"], "model_name": model},
        start_time=began,
        end_time=began + seconds,
        total_evaluation_time_secondes=str(seconds),
    )
    prefix = f"{whole['factory']['suite']}_"
    for config in whole["config_tasks"].values():
        task = config["name"].split(":")[0].removeprefix(prefix)
        kind, _, reference = str(record["inputs"].get(f"data.{task}", "")).partition(":")
        if kind == "hub":
            config["hf_revision"] = reference.rpartition("@")[2]
    whole["factory"] |= {name: record[name] for name in ("key", "inputs")}
    when = started.replace(tzinfo=None).isoformat().replace(":", "-")
    path = out / "results" / model / f"results_{when}.json"
    write_text(path, json.dumps(whole, indent=2, ensure_ascii=False))
    return path


def _task(scores: Mapping[str, Any], name: str) -> Task:
    """The task as it was scored."""
    return replace(SUITES[scores["suite"]][name], shots=scores["tasks"][name]["shots"])
