"""The suites as tables: which benchmark, on which rows, with how many solved examples, scored how.

A row of a table is all that distinguishes one benchmark of a suite from another. The plan reads it to
learn what must be fetched, the evaluate stage to render and score. Light: nothing heavy is imported.

`openllm_v1` is the Open LLM Leaderboard's first version: lm-evaluation-harness at commit
b281b0921b636bc36ad05c0b0b0763bd6dd43463. `sandbox_v1` is the same six definitions on the sandbox's own
rows, with as many examples as the sandbox's base model was trained to read.

Tasks of your own make a suite of your own, in a small package beside this one. In its `my_tasks.py`:

    from factory.tasks.document import Document
    from factory.tasks.suites import SUITES, Task

    def boolq(row):
        context = f"{row['passage']}\\nQuestion: {row['question']}?\\nAnswer:"
        gold = int(row["answer"])
        return Document((context,), (" no", " yes"), (gold,), context + (" no", " yes")[gold])

    BOOLQ = Task("boolq", "google/boolq", "default", "validation", "train", 5, "random", "acc", 0.5,
                 ("passage", "question", "answer"), boolq)
    SUITE = {**SUITES["openllm_v1"], "boolq": BOOLQ}

and in its pyproject.toml, besides name and version:

    [project.entry-points."factory.suites"]
    openllm_and_boolq = "my_tasks:SUITE"

Once it is installed (`pip install .`), the suite goes by that name in recipes, in `factory evaluate --suite`
and, through lighteval_tasks.py, in lighteval. A recipe cannot name a file of code: reading one runs nothing.
Raise a task's `version` when you change it, or scores from before will be taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from factory.data.files import Wanted
from factory.errors import FactoryError
from factory.tasks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from factory.tasks.document import Document

Metric = Literal["acc", "acc_norm", "mc2", "exact_match"]
Sampling = Literal["random", "first"]


@dataclass(frozen=True)
class Task:
    """One benchmark of a suite.

    Attributes:
        task: its name, the same in every suite.
        dataset: Hub id or `sandbox/<name>` of its rows.
        config: the dataset configuration; None takes the only one there is.
        split: the split that is scored.
        shots_split: the split the solved examples come from.
        shots: how many solved examples stand before a question.
        sampling: `random`: drawn anew for every question from one generator; `first`: the first rows.
        metric: how a question is scored. `exact_match` is GSM8K's, with its stops and its `#### n`.
        chance: what guessing scores.
        columns: what a row must have.
        document: renders a row.
        preamble: text before every question that is no solved example and never counts as one.
        preamble_file: a file of the dataset folder that replaces `preamble` where it exists.
        by_subject: every configuration with both splits is a subject; the score is the mean of the
            subjects' means.
        skip_configs: configurations that are no subjects.
        subjects: the subjects that must all be there for the score to be the suite's.
        version: raised when its prompts or its metric change.
        revision: the Hub commit of its dataset; None takes the newest there is when a run is planned,
            which is recorded with the scores and part of their key.
        rows: how many rows the scored split has, of all subjects together; None where any number will do.
        shots_rows: the same of the rows that the solved examples are drawn from.
    """

    task: str
    dataset: str
    config: str | None
    split: str
    shots_split: str
    shots: int
    sampling: Sampling
    metric: Metric
    chance: float
    columns: tuple[str, ...]
    document: Callable[[Mapping[str, Any]], Document]
    preamble: str = ""
    preamble_file: str | None = None
    by_subject: bool = False
    skip_configs: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    version: int = 1
    revision: str | None = None
    rows: int | None = None
    shots_rows: int | None = None


# The revisions are those that public evaluation code pins (inspect_evals and others); they were each
# dataset's newest commit in September 2026. They were never compared with the Hub from here.
# The numbers of rows are those of the dataset cards; figures from other rows do not compare.
_OPENLLM_V1 = (
    Task("arc", "allenai/ai2_arc", "ARC-Challenge", "test", "train", 25, "random", "acc_norm", 0.25,
         ("question", "choices", "answerKey"), arc.document,
         revision="210d026faf9955653af8916fad021475a3f00453", rows=1172, shots_rows=1119),
    Task("hellaswag", "Rowan/hellaswag", "default", "validation", "train", 10, "random", "acc_norm", 0.25,
         ("activity_label", "ctx_a", "ctx_b", "endings", "label"), hellaswag.document,
         revision="218ec52e09a7e7462a5400043bb9a69a41d06b76", rows=10042, shots_rows=39905),
    Task("mmlu", "cais/mmlu", None, "test", "dev", 5, "first", "acc", 0.25,
         ("question", "subject", "choices", "answer"), mmlu.document,
         by_subject=True, skip_configs=("all", "auxiliary_train"), subjects=mmlu.SUBJECTS,
         revision="c30699e8356da336a370243923dbaf21066bb9fe", rows=14042, shots_rows=285),
    # Chance: the mean share of true answers among the listed ones, over the 817 questions.
    Task("truthfulqa", "truthfulqa/truthful_qa", "multiple_choice", "validation", "validation", 0, "random",
         "mc2", 0.45, ("question", "mc2_targets"), truthfulqa.document, preamble=truthfulqa.PREAMBLE,
         revision="741b8276f2d1982aa3d5b832d3ee81ed3b896490", rows=817, shots_rows=817),
    Task("winogrande", "allenai/winogrande", "winogrande_xl", "validation", "train", 5, "random", "acc", 0.5,
         ("sentence", "option1", "option2", "answer"), winogrande.document,
         revision="01e74176c63542e6b0bcb004dcdea22d94fb67b5", rows=1267, shots_rows=40398),
    Task("gsm8k", "openai/gsm8k", "main", "test", "train", 5, "random", "exact_match", 0.0,
         ("question", "answer"), gsm8k.document,
         revision="740312add88f781978c0658806c59bc2815b9866", rows=1319, shots_rows=7473),
)  # fmt: skip

_SANDBOX = {  # task: (dataset, shots)
    "arc": ("sandbox/science", 3),
    "hellaswag": ("sandbox/endings", 2),
    "mmlu": ("sandbox/subjects", 3),
    "truthfulqa": ("sandbox/myths", 0),
    "winogrande": ("sandbox/blanks", 3),
    "gsm8k": ("sandbox/arithmetic", 2),
}


def _sandbox(task: Task) -> Task:
    dataset, shots = _SANDBOX[task.task]
    own_preamble = "preamble.txt" if task.preamble else None
    return replace(
        task,
        dataset=dataset,
        config=None,
        shots=shots,
        preamble_file=own_preamble,
        subjects=(),
        revision=None,
        rows=None,
        shots_rows=None,
    )


_OWN = {
    "openllm_v1": {task.task: task for task in _OPENLLM_V1},
    "sandbox_v1": {task.task: _sandbox(task) for task in _OPENLLM_V1},
}


class _Suites(Mapping[str, dict[str, Task]]):
    """The factory's own suites and those of installed packages, which are looked for when one is wanted."""

    def __getitem__(self, name: str) -> dict[str, Task]:
        """A suite's tasks.

        Raises:
            KeyError: there is none of that name.
            FactoryError: a package has it, but it is no suite.
        """
        return _OWN[name] if name in _OWN else _load(_installed()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*_OWN, *_installed())))

    def __len__(self) -> int:
        return len(list(iter(self)))


SUITES: Mapping[str, dict[str, Task]] = _Suites()
"""By name, the tasks in the suite's order."""


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="factory.suites")}


def _load(entry: EntryPoint) -> dict[str, Task]:
    try:
        suite = entry.load()
    except Exception as error:  # anything may go wrong in code of others
        what = f"suite '{entry.name}' cannot be loaded ({type(error).__name__}: {error})"
        raise FactoryError(what, where=entry.value, mend="Mend its package, or uninstall it") from error
    tasks = suite.items() if isinstance(suite, Mapping) else ()
    if not tasks or not all(isinstance(task, Task) and task.task == name for name, task in tasks):
        mend = "It must be a dictionary from the name of each task to its Task"
        raise FactoryError(f"suite '{entry.name}' is no suite", where=entry.value, mend=mend)
    return dict(suite)


def wanted(task: Task, shots: int) -> Wanted:
    """The part of its dataset that a task reads when `shots` solved examples stand before a question."""
    examples = {task.shots_split} - {task.split} if shots else set()
    return Wanted(
        task.config,
        (task.split, *examples),
        every_config=task.by_subject,
        without=task.skip_configs,
        only_will_do=True,
        beside=(task.preamble_file,) if task.preamble_file else (),
    )
