"""The suite as lighteval's own module: its prompts are v1's, and its Pipeline gives our scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTask
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from real import V1, hub_lookalike, needs_rows, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory import sandbox
from factory.errors import FactoryError
from factory.tasks import lighteval_compat as compat
from factory.tasks import openllm_v1
from factory.tasks.lighteval_tasks import _example, names, prompt, table
from factory.tasks.runner import Runner
from factory.tasks.suites import SUITES, Task

SUBJECTS = ("abstract_algebra", "high_school_geography")
DOCUMENTS = 3
ASKED = [
    task for task in openllm_v1.TASKS_TABLE if ":" not in task.name or task.name.split(":")[1] in SUBJECTS
]


def test_the_table_has_the_six_tasks_and_all_subjects_with_their_shots() -> None:
    shots = {config.name: config.num_fewshots for config in openllm_v1.TASKS_TABLE}
    assert len(shots) == 5 + 57
    assert shots["openllm_v1_arc"] == 25
    assert shots["openllm_v1_mmlu:world_religions"] == 5
    assert names("openllm_v1", V1.values()) == (
        "openllm_v1_arc|25,openllm_v1_hellaswag|10,openllm_v1_mmlu|5,openllm_v1_truthfulqa|0,"
        "openllm_v1_winogrande|5,openllm_v1_gsm8k|5"
    )


def test_a_dataset_is_read_at_the_commit_that_pins_it() -> None:
    (arc,) = table("mine", [replace(V1["arc"], revision="abc")])
    (other,) = table("mine", [V1["arc"]], revisions={"allenai/ai2_arc": "def"})
    assert (arc.hf_revision, other.hf_revision) == ("abc", "def")


def test_a_task_by_subject_must_name_its_subjects() -> None:
    with pytest.raises(FactoryError, match=r"task 'mmlu' names no subjects\. Give its row `subjects`"):
        table("mine", [replace(V1["mmlu"], subjects=())])


@given(shot=st.text(alphabet="a \n", min_size=1).map(lambda text: "Q: x" + text))
def test_an_example_is_shown_character_by_character(shot: str) -> None:
    question = Doc(query="Q: y", choices=["z"], gold_index=0)
    if shot.rstrip(" ") != shot.rstrip():
        return  # refused: no benchmark has such a row
    question.fewshot_samples = [_example(shot, "")]
    assert PromptManager().prepare_prompt(question) == f"{shot}\n\nQ: y"


def test_an_example_that_lighteval_cannot_show_is_refused() -> None:
    task = replace(V1["gsm8k"], task="g")
    with pytest.raises(ValueError, match="must not end in a line break"):
        prompt(task, {"question": "q", "answer": "a\n", "__few_shots": True}, "g")


def test_a_shared_ending_is_judged_by_what_its_option_leaves() -> None:
    row = {"sentence": "Ann saw Bea as _ left.", "option1": "Ann", "option2": "Bea", "answer": "2"}
    doc = prompt(V1["winogrande"], row, "w")
    assert (doc.query, doc.gold_index) == ("Ann saw Bea as", [1])
    assert doc.choices == [" Ann left.", " Bea left.", " Ann", " Bea"]
    (metric,) = table("mine", [V1["winogrande"]])[0].metrics
    # -9 + 7 > -8 + 1: the first option is likelier as a whole, the second leaves less to explain.
    response = ModelResponse(logprobs=[-8.0, -9.0, -1.0, -7.0])
    assert metric.compute_sample(doc=doc, model_response=response) == {"acc": 1}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    before, folder = Path.cwd(), hub_lookalike(tmp_path_factory.mktemp("hub"))
    os.chdir(folder)
    yield folder
    os.chdir(before)


@needs_rows
@pytest.mark.parametrize("config", ASKED, ids=lambda config: config.name)
def test_prompts_of_real_rows_are_those_of_our_runner(config: Any, workplace: Path) -> None:
    lighteval_task = LightevalTask(config)
    task = V1[config.name.removeprefix("openllm_v1_").split(":")[0]]
    group = config.hf_subset if task.by_subject else task.task
    asked = ours(task, group, 40)
    theirs = lighteval_task.get_docs(40)
    assert len(theirs) == len(asked) > 10
    for question, doc in zip(asked, theirs, strict=True):
        contexts, choices = question.contexts, question.document.choices
        made = PromptManager().prepare_prompt(doc)
        assert str(question.index) == doc.id
        whole = [made + choice for choice in doc.choices[: len(choices)]]
        several = contexts if len(contexts) > 1 else contexts * len(choices)
        assert whole == [c + choice for c, choice in zip(several, choices, strict=True)]
        if len(contexts) > 1:
            assert [made + option for option in doc.choices[len(choices) :]] == list(contexts)
        else:
            assert made == contexts[0]


def ours(task: Task, group: str, limit: int) -> list[compat.Question]:
    """The questions of our own way, from the same rows."""
    config = group if task.by_subject else None
    scored, pool = (rows(task, split, config) for split in (task.split, task.shots_split))
    documents = [
        [
            replace(one, instruction=task.preamble) if task.preamble else one
            for one in map(task.document, part)
        ]
        for part in (scored, pool)
    ]
    return compat.questions(task, group, *documents, task.shots, limit)


# (task, index) -> score, log-probabilities, generated text
Answers = dict[tuple[str, str], tuple[float, list[float], list[str]]]


def our_answers(suite: str, tasks: Iterable[Task], folder: Path) -> Answers:
    """What our runner makes of every task."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    runner = Runner(model, AutoTokenizer.from_pretrained(folder), 8)
    found: Answers = {}
    for task in tasks:
        ask = runner.greedy_until if task.metric == "exact_match" else runner.loglikelihood
        for group in task.subjects or (task.task,):
            name = f"{suite}_{task.task}" + (f":{group}" if task.by_subject else "")
            for question in ours(task, group, DOCUMENTS):
                response = compat.joined(ask(compat.requests(question)))
                score = compat.score(task.metric, question, response)
                found[name, str(question.index)] = (score, response.logprobs, response.text)
    return found


def their_answers(module: str | ModuleType, asked: str, folder: Path, out: Path) -> Answers:
    """What lighteval's own pipeline makes of the tasks of a module, with its own transformers model."""
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.transformers.transformers_model import TransformersModelConfig
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

    from factory.tasks.lighteval_upstream import working

    model = TransformersModelConfig(
        model_name=str(folder),
        dtype="float32",
        batch_size=4,
        override_chat_template=False,
        cache_dir=str(out / "cache"),
    )
    parameters = PipelineParameters(
        launcher_type=ParallelismManager.NONE,
        custom_tasks_directory=module,
        max_samples=DOCUMENTS,
    )
    with working():
        pipeline = Pipeline(
            tasks=asked,
            pipeline_parameters=parameters,
            evaluation_tracker=EvaluationTracker(output_dir=str(out)),
            model_config=model,
        )
        pipeline.evaluate()
        pipeline.save_and_push_results()
    found: Answers = {}
    for name, details in pipeline.get_details().items():
        for detail in details:
            values, contexts = detail.model_response.logprobs, detail.doc.specific["contexts"]
            if contexts > 1:
                values = [values[i] - values[i + contexts] for i in range(contexts)]
            (score,) = detail.metric.values()
            found[name.split("|")[0], detail.doc.id] = (score, values, detail.model_response.text)
    return found


def agree(found: Answers, wanted: Answers) -> None:
    assert found.keys() == wanted.keys()
    for key, (score, values, text) in wanted.items():
        assert found[key][0] == pytest.approx(score, abs=1e-4), key
        assert found[key][1] == pytest.approx(values, rel=1e-6, abs=1e-4), key
        assert found[key][2] == text, key


@needs_rows
def test_lightevals_own_pipeline_gives_our_scores(bpe_model: Path, workplace: Path, tmp_path: Path) -> None:
    tasks = [replace(task, subjects=SUBJECTS) if task.by_subject else task for task in V1.values()]
    asked = ",".join(f"{config.name}|{config.num_fewshots}" for config in ASKED)
    found = their_answers(openllm_v1.__file__, asked, bpe_model, tmp_path)
    agree(found, our_answers("openllm_v1", tasks, bpe_model))
    assert len(found) == DOCUMENTS * 7
    assert list(tmp_path.glob("results/**/results_*.json"))


@pytest.fixture(scope="module")
def sandbox_tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """The sandbox's suite on its datasets as folders, which lighteval takes in place of Hub ids."""
    tasks = []
    for task in SUITES["sandbox_v1"].values():
        folder = tmp_path_factory.mktemp(task.task)
        sandbox.write_dataset(task.dataset.removeprefix("sandbox/"), folder)
        subjects = tuple(sorted(path.parent.name for path in folder.glob("*/dev.parquet")))
        preamble = task.preamble and (folder / "preamble.txt").read_text().strip()
        tasks.append(replace(task, dataset=str(folder), subjects=subjects, preamble=preamble))
    return tasks


def test_the_sandbox_model_scores_alike_in_lightevals_pipeline(
    sandbox_tasks: list[Task], tmp_path: Path
) -> None:
    module = ModuleType("sandbox_suite")
    module.TASKS_TABLE = table("sandbox_v1", sandbox_tasks)  # type: ignore[attr-defined]
    found = their_answers(module, names("sandbox_v1", sandbox_tasks), sandbox.model_folder(), tmp_path)
    agree(found, our_answers("sandbox_v1", sandbox_tasks, sandbox.model_folder()))
    right = [score for score, _, _ in found.values()]
    assert 0.3 < sum(right) / len(right) < 1  # it has learnt something, so scores can differ
