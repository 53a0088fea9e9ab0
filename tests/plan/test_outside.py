"""What a recipe takes from outside: what could only fail later is refused before a run, with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from written import BLOCKS, RECIPE, ROWS, SCIENCE, jsonl, model, project

from factory.cli import call
from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan
from factory.recipe.recipe import load_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def plan(path: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(path, overrides))


def refusal(path: Path, *overrides: str) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(FactoryError) as caught:
        plan(path, *overrides)
    assert sorted(path.parent.rglob("*")) == before
    return str(caught.value)


# What is laid over the recipe, and words of the refusal.
REFUSED = {
    "all blocks": (f"prune.drop={BLOCKS}", "drop removes all 4 blocks of 'base'"),
    "more blocks than there are": ("prune.drop=9", "drop removes 9 blocks, 'base' has only 4"),
    "missing model": ("base.model=./none", "there is no model folder './none'"),
    "missing folder of data": ("datasets.math.id=./none", "there is no dataset folder './none'"),
    "unknown column": ("datasets.math.columns.response=anwser", "no column 'anwser' (asked for as response)"),
    "unknown text column": ("prune.calibration.columns.text=txt", "no column 'txt' (asked for as text)"),
    "unknown split": ("datasets.math.split=tarin", "no split 'tarin'. Write 'train'"),
    "unknown config": ("datasets.math.config=main", "no config 'main'"),
    "unknown suite": ("evaluate.suite=openllm_v2", "no suite 'openllm_v2'. Write 'openllm_v1'"),
    "unknown task": ("evaluate.tasks=[arc, glue]", "has no task 'glue'"),
    "shots of an unknown task": ("evaluate.shots.ark=3", "has no task 'ark'. Write 'arc'"),
    "dataset of an unknown task": ("evaluate.datasets.ark=science", "has no task 'ark'"),
    "shots behind a preamble": ("evaluate.shots.truthfulqa=3", "takes no shots"),
    "rows of another task": ("evaluate.datasets.arc=chat", "task 'arc': the dataset has no split 'test'"),
    "more rows than there are": (
        "datasets.math.rows=6", "dataset 'math' has only 5 rows. Say rows: 5, or leave"),
    "more texts than there are": (
        "prune.calibration.rows=6", "has only 5 rows. Say rows: 5, or leave rows out"),
    "check without answers": ("datasets.math.check=choice_letter", "check 'choice_letter' finds no answer"),
    "more shots than rows": ("evaluate.shots.arc=4", "has only 3 rows for 4 shots. Ask for 3 shots at most"),
    "more tokens to measure than positions": (
        "measure={prompt: 5000, new: 2}", "measure.prompt and measure.new are 5,002 tokens, 'base' has"),
    "unknown module": (
        "train.lora.target_modules=[up_proj, up_porj]", "is called 'up_porj'. Write 'up_proj'"),
    "part of a module's name": (
        "train.lora.target_modules=[proj]", "no module of the pruned model is called"),
    "name for a pattern": ("train.lora.target_modules=up_proj", "matches 'up_proj'. Write a list: [up_proj]"),
    "almost all": ("train.lora.target_modules=all_linear", "matches 'all_linear'. Write 'all-linear'"),
    "broken pattern": ("train.lora.target_modules='(up'", "'(up' is no regular expression"),
    "module of a block that is gone": (
        "train.lora.target_modules=.*2.mlp.up_proj", "no module of the pruned"),
    "module without a matrix": ("train.lora.target_modules=[mlp]", "'model.layers.0.mlp' has no matrix"),
    "tied module": ("train.lora.target_modules=[embed_tokens]", "also its head (tie_word_embeddings)"),
    "tied head": (
        "variants.own.train.lora.modules_to_save=[lm_head]", "so they cannot be trained. Leave lm_head"),
    "unknown module to save": (
        "train.lora.modules_to_save=[nowhere]", "modules_to_save: no module of the pruned"),
    "unknown module to spare": ("train.lora.exclude_modules=[nowhere]", "exclude_modules: no module"),
    "block that is gone": ("train.lora.layers_to_transform=[1, 2]", "has no block 2, only 0 to 1"),
    "rows of the sandbox": (
        "datasets.chat={id: sandbox/instruct, prompt: instruct, rows: 2001}", "only 2000 rows"),
    "shots of the sandbox": ("evaluate={suite: sandbox_v1, shots: {mmlu: 6}}", "has only 5 rows for 6 shots"),
    "rows of a mix": (
        "variants.own.data={math: 6, chat: 2}", "'own' takes 6 rows of 'math', which has 5. Take fewer"),
    "shares of a mix": (
        "variants.own={data: {math: 0.5, chat: 0.5}, rows: 12, targets: self}",
        "variant 'own' takes 6 rows of 'math', which has 5. Take fewer"),
    "overlap with rows that are not there": (
        "evaluate.datasets.arc=./chat", "task 'arc': "),
    "texts for rows": ("datasets.chat={id: sandbox/corpus, prompt: instruct}", "cannot tell which columns"),
    "sandbox rows of another task": ("evaluate.datasets.arc=sandbox/math", "has no column 'question'"),
    "dataset of several configs": (
        "evaluate.datasets.arc=sandbox/subjects", "has 4 configs. Name a dataset with"),
    "more new tokens than positions": (
        "regenerate.max_new_tokens=64", "max_new_tokens is 64, but 'base' has 64 positions for prompt and"),
    "model of another shape": (
        "variants.both.of=[own, ./base]", "'./base' has num_hidden_layers 4, the pruned model 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_only_fail_later_is_refused(case: str, recipe: Path) -> None:
    override, words = REFUSED[case]
    message = refusal(recipe, override)
    assert words in message
    assert message.startswith(f"--set {override}: ")


# What may be mistaken for one of them.
FINE = [
    "regenerate.max_new_tokens=63",
    "regenerate.sees=question",  # 512 new tokens are a limit that nobody wrote
    "train.lora.target_modules=[up_proj]",
    "train.lora.target_modules=[mlp.up_proj]",
    "train.lora.target_modules=All-Linear",
    "train.lora.target_modules=.*1.mlp.(up|down)_proj",
    "train.lora.modules_to_save=[mlp]",
    "train.lora.layers_to_transform=[0, 1]",
    "datasets.math.rows=5",
    "evaluate.shots.arc=3",
    "datasets.chat.check=final_number",
]


@pytest.mark.parametrize("override", FINE)
def test_what_a_run_can_do_is_not_refused(override: str, recipe: Path) -> None:
    plan(recipe, override)


@pytest.mark.parametrize("curated", ["deduplicate=questions", "order=random", "overlap=13"])
def test_rows_that_are_chosen_among_all_are_all_looked_at(curated: str, tmp_path: Path) -> None:
    path = project(tmp_path)
    jsonl(tmp_path / "chat" / "data" / "train.jsonl", *ROWS, {"instruction": "say", "response": ""})
    plan(path, "datasets.chat.rows=5")
    assert "has no response in row 5" in refusal(path, "datasets.chat.rows=5", f"datasets.chat.{curated}")
    plan(path, "datasets.chat.rows=5", f"datasets.chat.{curated}", "datasets.chat.skip_empty=true")
    few = refusal(path, "datasets.chat.rows=6", f"datasets.chat.{curated}", "datasets.chat.skip_empty=true")
    assert "has only 5 rows" in few


def test_a_context_that_is_no_chat_is_told_with_the_line_of_the_prompt(tmp_path: Path) -> None:
    path = project(tmp_path)
    row = {"instruction": "And?", "context": "France has no king.", "response": "Yes"}
    jsonl(tmp_path / "chat" / "data" / "train.jsonl", *ROWS, row)
    assert refusal(path, "datasets.chat.prompt=chat") == (
        "--set datasets.chat.prompt=chat: row 5 (from 0) of dataset 'chat' is no chat: its context should be "
        "a JSON list of {role, content} objects. Correct it, or take the prompt instruct."
    )


def test_a_check_of_rows_that_are_not_rewritten_does_no_harm(recipe: Path) -> None:
    plan(recipe, "datasets.chat.check=choice_letter", "variants.other.targets=original")


def test_texts_that_nobody_counted_may_be_fewer_than_usual(tmp_path: Path) -> None:
    plan(project(tmp_path, RECIPE.replace("corpus, rows: 3", "corpus")))


def test_the_line_of_a_module_in_a_list_is_named(tmp_path: Path) -> None:
    text = RECIPE.replace("lora: {r: 4}", "lora:\n    target_modules:\n      - up_proj\n      - v_proj")
    path = project(tmp_path, text)
    assert refusal(path).startswith(f"{path}:13: target_modules: no module")


def test_default_shots_need_rows_too(tmp_path: Path) -> None:
    path = project(tmp_path, RECIPE.replace("shots: {arc: 1}, ", ""))
    jsonl(tmp_path / "science" / "ARC-Challenge" / "train.jsonl", *SCIENCE[:2])
    assert "no column 'question'" in refusal(path, "evaluate.datasets.arc=sandbox/math")
    assert refusal(path).startswith(
        f"{path}:17: task 'arc': split 'train' of config 'ARC-Challenge' has only 2"
    )


def test_the_line_of_the_recipe_is_named(tmp_path: Path) -> None:
    path = project(tmp_path, RECIPE.replace("drop: 2", "drop: 7"))
    assert refusal(path).startswith(f"{path}:4: drop removes 7 blocks")


# What is done to the folders of a recipe, and the refusal, from its line on.
SPOILT = {
    "a row without a response": (
        lambda folder: jsonl(folder / "chat/data/train.jsonl", *ROWS, {"instruction": "x", "response": ""}),
        ":8: dataset 'chat' has no response in row 5"),
    "an empty dataset": (lambda folder: jsonl(folder / "math/train.jsonl"), ":7: dataset 'math' has no rows"),
    "no chat template": (
        lambda folder: (folder / "base/chat_template.jinja").unlink(),
        ":2: the tokenizer of 'base' has no chat template"),
    "no column of a task": (
        lambda folder: jsonl(folder / "science/ARC-Challenge/test.jsonl", {"question": "q"}),
        ":17: task 'arc': split 'test' of config 'ARC-Challenge' has no column 'choices'"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_what_lies_in_the_folders_is_looked_at(case: str, tmp_path: Path) -> None:
    spoil, said = SPOILT[case]
    path = project(tmp_path)
    spoil(tmp_path)
    assert refusal(path).startswith(f"{path}{said}")


def test_a_model_of_the_pruned_shape_may_be_merged_in(tmp_path: Path) -> None:
    path = project(tmp_path)
    model(tmp_path / "pruned-elsewhere", seed=3, num_hidden_layers=BLOCKS - 2)
    override = "variants.both.of=[own, ./pruned-elsewhere]"
    assert plan(path, override).step("merge/both").inputs["of../pruned-elsewhere"].kind == "folder"


BAD_DROPS = {
    "a block too many": (["prune.drop=[1, 4]"], "drop names block 4, 'base' has only 0 to 3"),
    "an excluded block": (["prune.drop=[1, 3]", "prune.exclude.last=1"], "block 3, which prune.exclude"),
    "all blocks by name": (["prune.drop=0:4"], "drop removes all 4 blocks"),
    "too much excluded": (
        ["prune.exclude={first: 1, last: 2}"], "exclude keeps 3 of the 4 blocks of 'base', so 2 cannot be",
    ),
    "all excluded": (["prune.exclude={first: 3, last: 2}"], "Exclude fewer."),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DROPS)
def test_a_drop_that_cannot_be_is_refused(recipe: Path, case: str) -> None:
    overrides, said = BAD_DROPS[case]
    message = refusal(recipe, *overrides)
    assert said in message and "\n" not in message


def test_blocks_of_unlike_sizes_give_a_range_until_they_are_chosen(tmp_path: Path) -> None:
    """As in DeepSeek-V3, whose first blocks have no experts: the first block's size is not every block's."""
    path = project(tmp_path)
    weights = tmp_path / "base" / "model.safetensors"
    tensors = load_file(weights) | {"model.layers.0.mlp.up_proj.weight": np.ones((4, 8), np.float32)}
    save_file(tensors, weights, {"format": "pt"})
    large, small, rest = 16 * 8, 4 * 8, 11 * 8
    base = rest + small + (BLOCKS - 1) * large
    assert plan(path).parameters == {
        "base": base, "pruned": base - 2 * large, "pruned_at_most": base - small - large,
    }  # fmt: skip
    chosen = plan(path, "prune.drop=[0,2]").parameters
    assert chosen == {"base": base, "pruned": base - small - large}
    protected = plan(path, "prune.exclude.first=1").parameters
    assert protected == {"base": base, "pruned": base - 2 * large}


def test_the_range_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path)
    weights = tmp_path / "base" / "model.safetensors"
    tensors = load_file(weights) | {"model.layers.0.mlp.up_proj.weight": np.ones((4, 8), np.float32)}
    save_file(tensors, weights, {"format": "pt"})
    assert call(["plan", str(path)]) == 0
    assert "504 parameters become 248 to 344 (49% to 68%)" in capsys.readouterr().out
