"""Methods of training in a recipe: what goes together, what is refused with its line, what is in the key."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest
from written import RECIPE, project, refused

from factory.errors import FactoryError
from factory.plan.make import make_plan
from factory.plan.plan import Plan
from factory.recipe.recipe import load_recipe
from factory.recipe.training import REPORTERS, quantiser

OTHER = "  lora: {r: 4}\n  sft: {max_steps: 3, learning_rate: 1e-3}\n"
VARIANT = "  plain: {data: [math], targets: original}\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def plan(path: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(path, overrides))


@pytest.mark.parametrize(
    ("written", "line", "message"),
    [
        ("  method: full\n  lora: {r: 4}\n", 11, "`method: full` trains the weights themselves"),
        ("  freeze: half\n", 10, "`freeze: half` leaves half of the weights"),
        ("  method: qlora\n  freeze: half\n", 11, "`method: qlora` leaves all of them. Add `method: full`"),
        ("  beta: 0.5\n", 10, "`beta` chooses the divergence of `loss: distill`"),
        ("  loss: distill\n  beta: 2\n", 11, "train.beta should be at most 1, not 2"),
        ("  loss: distill\n  sft:\n    packing: true\n", 12, "`loss: distill` cannot use packing"),
        ("  loss: distil\n", 10, "train.loss cannot be 'distil'. Write 'distill'"),
        ("  method: lorra\n", 10, "train.method cannot be 'lorra'. Write 'lora'"),
        ("  long_rows: keep\n", 10, "train.long_rows cannot be 'keep'"),
        (
            "  sft:\n    report_to: tensorbord\n",
            11,
            "'report_to' cannot be 'tensorbord'. Write 'tensorboard'",
        ),
    ],
)
def test_what_has_no_use_beside_its_method_is_refused_with_its_line(
    tmp_path: Path, written: str, line: int, message: str
) -> None:
    path = project(tmp_path, RECIPE.replace(OTHER, written))
    told = refused(path)
    assert told.startswith(f"{path}:{line}: ") and message in told, told


def test_a_variant_s_own_misfit_is_refused_at_the_variant(tmp_path: Path) -> None:
    own = VARIANT.replace("original", "original, train: {method: full, lora: {r: 2}}")
    path = project(tmp_path, RECIPE.replace(VARIANT, own))
    assert refused(path).startswith(f"{path}:13: `method: full` trains the weights themselves")
    whole = VARIANT.replace("original", "original, train: {freeze: half}")
    path = project(tmp_path / "b", RECIPE.replace(VARIANT, whole))
    assert refused(path).startswith(f"{path}:13: `freeze: half`")


def test_what_a_variant_inherits_and_cannot_use_falls_away(recipe: Path) -> None:
    """So that adapters and whole weights can be compared in one recipe."""
    above = ("train.sft.packing=true",)
    mine = "variants.plain.train={method: full, freeze: half, loss: distill, beta: 0.5}"
    settings = plan(recipe, *above, mine).step("train/plain").settings.model_dump()
    assert settings["lora"] == {} and "packing" not in settings["sft"]
    assert (settings["freeze"], settings["loss"], settings["beta"]) == ("half", "distill", 0.5)
    back = "variants.plain.train={method: lora, loss: sft}"
    below = ("train={method: full, freeze: half, loss: distill, beta: 0.5}", back)
    settings = plan(recipe, *below).step("train/plain").settings.model_dump()
    assert (settings["freeze"], settings["beta"]) == (None, 0.0)
    other = plan(recipe, *below).step("train/own").settings.model_dump()
    assert (other["method"], other["freeze"], other["beta"]) == ("full", "half", 0.5)
    thawed = plan(recipe, *below[:1], "variants.plain.train={freeze: null}")
    assert thawed.step("train/plain").settings.model_dump()["freeze"] is None


def test_only_distillation_reads_the_base(recipe: Path) -> None:
    assert "teacher" not in plan(recipe).step("train/plain").inputs
    made = plan(recipe, "variants.plain.train={loss: distill}")
    assert made.step("train/plain").inputs["teacher"] == made.step("prune").inputs["base"]
    assert "teacher" not in made.step("train/own").inputs


@pytest.mark.parametrize("edit", ["method=full", "loss=distill", "long_rows=cut"])
def test_how_it_is_trained_is_in_the_key(recipe: Path, edit: str) -> None:
    lora = ("train.lora={}",)
    before = plan(recipe, *lora).step("train/plain").key
    assert plan(recipe, *lora, f"train.{edit}").step("train/plain").key != before


def test_writing_a_default_out_changes_nothing(recipe: Path) -> None:
    same = ("train.method=lora", "train.loss=sft", "train.long_rows=drop", "train.freeze=null")
    assert [s.key for s in plan(recipe, *same).steps] == [s.key for s in plan(recipe).steps]


def installed() -> list[str]:
    return [name for name, packages in REPORTERS.items() if any(map(util.find_spec, packages))]


def test_who_looks_on_is_not_in_the_key(recipe: Path) -> None:
    if not installed():
        pytest.skip("no tracker is installed")
    followed = plan(recipe, f"train.sft.report_to={installed()[0]}")
    named = plan(recipe, f"train.sft.report_to={installed()[0]}", "train.sft.project=mine")
    assert [s.key for s in followed.steps] == [s.key for s in plan(recipe).steps]
    assert [s.key for s in named.steps] == [s.key for s in plan(recipe).steps]
    sft = followed.step("train/plain").settings.model_dump()["sft"]
    assert (sft["project"], sft["run_name"]) == ("small", "plain")
    assert named.step("train/plain").settings.model_dump()["sft"]["project"] == "mine"


@pytest.mark.parametrize("name", REPORTERS)
def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(recipe: Path, name: str) -> None:
    if name in installed():
        pytest.skip(f"{name} is installed")
    with pytest.raises(FactoryError) as caught:
        plan(recipe, f"variants.own.train.sft.report_to={name}")
    error = caught.value
    assert error.what == f"training is to be followed with {name}, which is not installed"
    assert error.where == f"--set variants.own.train.sft.report_to={name}"
    assert f"`pip install {name}`" in str(error.mend)


def test_qlora_without_its_library_is_refused_before_anything_runs(recipe: Path) -> None:
    if quantiser() is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(FactoryError, match="`method: qlora` needs bitsandbytes, which is not installed"):
        plan(recipe, "train.method=qlora")


def test_the_version_that_quantises_is_in_the_key(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    from importlib import metadata

    before, real = plan(recipe, "train.method=qlora"), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == "bitsandbytes" else real(name))
    after = plan(recipe, "train.method=qlora")
    assert after.step("train/plain").key != before.step("train/plain").key
