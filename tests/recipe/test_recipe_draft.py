"""The part `draft` of a recipe: its steps, what they share, and what is refused with its line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from written import RECIPE, SANDBOX_RECIPE, model, project, refused, write

from factory import sandbox
from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan, Ref
from factory.recipe.file import read
from factory.recipe.miniature import shrink
from factory.recipe.recipe import load_recipe

TEXTS = "{id: corpus, prompt: text, rows: 2}"


def planned(folder: Path, draft: str, recipe: str = RECIPE) -> Plan:
    return make_plan(load_recipe(project(folder, f"{recipe}draft: {draft}\n")))


def stages(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps if step.stage in ("respond", "draft")]


def test_the_targets_texts_once_a_set_then_a_step_a_model(tmp_path: Path) -> None:
    plan = planned(tmp_path, f"{{prompts: {{open: {TEXTS}, asked: {{of: chat}}}}}}")
    assert stages(plan) == [
        "respond/open", "respond/asked",
        "draft/pruned", "draft/plain", "draft/own", "draft/other", "draft/both",
    ]  # fmt: skip
    one = plan.step("draft/own")
    assert one.inputs["target"] == plan.step("importance").inputs["base"]
    assert one.inputs["responses.open"] == Ref("respond/open")
    assert plan.step("report").inputs["draft.own"] == Ref("draft/own")
    assert [kind.kind for kind in one.settings.sets] == ["text", "instruct"]


def test_a_recipe_without_it_has_no_such_steps(tmp_path: Path) -> None:
    plan = make_plan(load_recipe(project(tmp_path)))
    assert stages(plan) == []


def test_another_draft_leaves_the_targets_texts_and_the_others_alone(tmp_path: Path) -> None:
    few = planned(tmp_path / "a", f"{{models: [own], prompts: {{open: {TEXTS}}}}}")
    more = planned(tmp_path / "b", f"{{models: [pruned, own], prompts: {{open: {TEXTS}}}}}")
    for step in ("respond/open", "draft/own"):
        assert few.step(step).key == more.step(step).key
    longer = planned(tmp_path / "c", f"{{models: [own], max_new_tokens: 9, prompts: {{open: {TEXTS}}}}}")
    assert longer.step("respond/open").key != few.step("respond/open").key


@pytest.mark.parametrize(
    ("regenerate", "reused"),
    [
        ("{sees: question}", True),
        ("{sees: reference}", False),
        ("{sees: question, temperature: 0.7}", False),
    ],
)
def test_only_what_was_written_greedily_from_the_question_alone_is_taken_over(
    tmp_path: Path, regenerate: str, reused: bool
) -> None:
    plan = planned(tmp_path, "{prompts: {seen: {of: math}}}", f"{RECIPE}regenerate: {regenerate}\n")
    found = plan.step("respond/seen").inputs
    assert found.get("regenerated") == (Ref("regenerate/math") if reused else None)


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        ("{prompts: {}}", "draft.prompts is empty"),
        ("{prompts: {a: {rows: 3}}}", "prompts come from one dataset"),
        ("{prompts: {a: {of: math, id: math}}}", "prompts come from one dataset"),
        ("{prompts: {a: {of: math, split: test}}}", "'split' has no place beside `of`"),
        ("{prompts: {a: {id: math}}}", "prompts need a kind"),
        ("{prompts: {a: {id: math, prompt: maths}}}", "no prompt 'maths'. Write 'math', if that is meant"),
        ("{prompts: {a: {id: math, prompt: xyz}}}", "no prompt 'xyz'. Known are chat, instruct, math, text"),
        ("{prompts: {a: {id: math, prompt: math, prompt_tokens: 3}}}", "prompt_tokens goes with"),
        ("{prompts: {all: {of: math}}}", "cannot be called 'all'"),
        ("{prompts: {a: {of: maths}}}", "is of an unknown dataset 'maths'. Write 'math'"),
        ("{prompts: {a: {of: math}}, models: [owm]}", "unknown variant 'owm'. Write 'own'"),
        ("{prompts: {a: {of: math}}, models: [base]}", "the base cannot be a draft of itself"),
        ("{prompts: {a: {of: math}}, models: [own, own]}", "'own' stands twice"),
        ("{prompts: {a: {of: math}}, batch_size: 4}", "one sequence at a time"),
        ("{prompts: {a: {of: math}}, temperature: 0}", "draft.temperature should be more than 0"),
        ("{prompts: {a: {of: math}}, max_new_tokens: 1}", "at least 2"),
        ("{prompts: {a: {of: math}}, kmax: 4}", "unknown key 'kmax'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, draft: str, said: str) -> None:
    message = refused(write(tmp_path, f"{RECIPE}draft: {draft}\n"))
    assert said in message and f"recipe.yaml:{RECIPE.count(chr(10)) + 1}" in message


def test_a_target_without_a_chat_template_is_refused_whatever_the_prompts(tmp_path: Path) -> None:
    target = tmp_path / "target"
    shutil.copytree(sandbox.model_folder(), target)
    (target / "chat_template.jinja").unlink()
    draft = "{target: {model: ./target}, prompts: {open: {id: sandbox/corpus, prompt: text}}}"
    with pytest.raises(FactoryError) as caught:
        make_plan(load_recipe(write(tmp_path, f"{SANDBOX_RECIPE}draft: {draft}\n")))
    message = str(caught.value)
    assert "the tokenizer of './target' has no chat template. Use an instruction-tuned model" in message


def tokens(folder: Path, *words: str) -> None:
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (("a", "b", "c"), None),
        (("a", "c", "b"), "token 1 is 'c' in one and 'b' in the other"),
        (("a", "b", "c", "d"), "one has 4 tokens, the other 3"),
    ],
)
def test_a_target_with_other_tokens_is_refused(
    tmp_path: Path, theirs: tuple[str, ...], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(tmp_path, f"{RECIPE}draft: {{target: {{model: larger}}, prompts: {{a: {{of: math}}}}}}\n")
    model(tmp_path / "larger", seed=1, num_hidden_layers=6)
    tokens(tmp_path / "base", "a", "b", "c")
    tokens(tmp_path / "larger", *theirs)
    if said is None:
        plan = make_plan(load_recipe(path))
        assert plan.step("draft/own").settings.target == "larger"
        return
    with pytest.raises(FactoryError) as caught:
        make_plan(load_recipe(path))
    assert said in str(caught.value) and "recipe.yaml:" in str(caught.value.where)


@pytest.mark.parametrize(("own", "theirs", "fewest"), [(64, 128, 64), (128, 64, None), (64, 64, None)])
def test_texts_are_no_longer_than_what_drafts_of_another_target_read(
    tmp_path: Path, own: int, theirs: int, fewest: int | None
) -> None:
    options = "target: {model: larger}, max_new_tokens: 9, prompts: {a: {of: math}}"
    path = project(tmp_path, f"{RECIPE}draft: {{{options}}}\n")
    for name, positions in (("base", own), ("larger", theirs)):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        model(tmp_path / name, num_hidden_layers=4, max_position_embeddings=positions)
        tokens(tmp_path / name, "a", "b", "c")
    assert make_plan(load_recipe(path)).step("respond/a").settings.positions == fewest


def test_chats_of_their_own_are_drawn_and_all_others_the_first(tmp_path: Path) -> None:
    plan = planned(
        tmp_path, f"{{prompts: {{a: {{id: chat, prompt: instruct}}, b: {{of: math}}, c: {TEXTS}}}}}"
    )
    assert [plan.step(f"respond/{name}").settings.draw for name in "abc"] == [0, None, None]


def test_blocks_without_keys_and_values_are_refused(tmp_path: Path) -> None:
    kinds = ["full_attention", "linear_attention", "full_attention", "linear_attention"]
    path = project(tmp_path, f"{RECIPE}draft: {{target: {{model: far}}, prompts: {{a: {{of: math}}}}}}\n")
    model(tmp_path / "far", layer_types=kinds)
    with pytest.raises(FactoryError, match="no token can be taken back from the cache") as caught:
        make_plan(load_recipe(path))
    assert "recipe.yaml" in str(caught.value.where)


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        (
            "{max_new_tokens: 64, prompts: {a: {of: math}}}",
            "1: draft.max_new_tokens is 64, but 'base' has 64",
        ),
        (
            f"{{max_new_tokens: 33, prompts: {{a: {TEXTS}}}}}",
            "1: draft.max_new_tokens is 33 behind prompts of 32",
        ),
        (
            "{max_new_tokens: 63,\n prompts: {a: {id: corpus, prompt: text, prompt_tokens: 2, rows: 2}}}",
            "2: draft.max_new_tokens is 63 behind prompts of 2 tokens, but 'base' has 64 positions",
        ),
        (
            "{target: {model: few},\n\n max_new_tokens: 16, prompts: {a: {of: math}}}",
            "3: draft.max_new_tokens is 16, but 'few' has 16 positions",
        ),
    ],
)
def test_more_tokens_than_positions_are_refused_before_a_run(tmp_path: Path, draft: str, said: str) -> None:
    model(tmp_path / "few", max_position_embeddings=16)
    with pytest.raises(FactoryError) as caught:
        planned(tmp_path, draft)
    before = RECIPE.count("\n")
    line, rest = said.split(":", 1)
    assert f"recipe.yaml:{before + int(line)}:{rest}" in str(caught.value)


def test_as_many_tokens_as_fit_are_planned(tmp_path: Path) -> None:
    planned(tmp_path / "a", f"{{max_new_tokens: 32, prompts: {{a: {TEXTS}}}}}")
    planned(tmp_path / "b", "{max_new_tokens: 63, prompts: {a: {of: math}}}")
    planned(tmp_path / "c", f"{{prompts: {{a: {TEXTS}}}}}")  # the usual limit, which nobody wrote, gives way


def test_too_few_prompts_are_refused_where_their_number_is_written(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="has only 5 rows") as caught:
        planned(tmp_path / "a", "{prompts: {a: {id: corpus, prompt: text, rows: 9}}}")
    assert "recipe.yaml" in str(caught.value.where)
    plan = planned(tmp_path / "b", "{prompts: {a: {id: corpus, prompt: text}}}")
    assert plan.step("respond/a").settings.rows == 100  # at most


def test_a_miniature_has_the_same_steps_from_the_sandbox(tmp_path: Path) -> None:
    draft = (
        "draft: {target: {model: nobody/larger}, models: [base, own], prompts: "
        "{a: {id: nobody/x, prompt: chat, rows: 9000}, b: {of: math}, c: {id: nobody/y, prompt: text}}}\n"
    )
    small = shrink(read(write(tmp_path, SANDBOX_RECIPE + draft))).data["draft"]
    assert small["models"] == ["own"] and "target" not in small
    assert [one.get("id") for one in small["prompts"].values()] == [
        "sandbox/instruct",
        None,
        "sandbox/corpus",
    ]
    assert all(one["rows"] < 10 for one in small["prompts"].values())
