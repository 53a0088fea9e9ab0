"""What a recipe may say, and how each mistake is told: one line with file, line and mend."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import SANDBOX_RECIPE as TEXT
from written import refused as refusal
from written import write

from factory.recipe.dataset import Dataset
from factory.recipe.file import MAX_BYTES
from factory.recipe.parts import Calibration, Evaluate
from factory.recipe.prune import Prune
from factory.recipe.recipe import Recipe, load_recipe
from factory.recipe.regenerate import Regenerate

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def test_quickstart_is_a_valid_recipe() -> None:
    recipe = load_recipe(QUICKSTART)
    assert list(recipe.trained()) == ["math-sft", "math-self", "instruct-self"]
    assert recipe.merged()["merged"].parameters() == {"weights": [1.0, 1.0]}
    assert recipe.where("variants", "merged", "of", 1).endswith("quickstart.yaml:22")


def test_a_variant_overrides_training_field_by_field(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, TEXT))
    fields_used = recipe.trained()["other"].train.over(recipe.train)
    assert fields_used.lora == {"r": 4}
    assert fields_used.sft == {"max_steps": 3, "learning_rate": 2e-3}


def test_what_a_variant_is_made_of_and_learnt_from(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, TEXT))
    assert recipe.made_of("both") == ("own", "other", "both")
    assert recipe.learnt_from("both") == ("math", "chat")
    assert recipe.learnt_from("plain") == ()  # the original responses
    assert recipe.publish is None


DENSITY = ("slerp, of: [own, other], t: 0.5", "ties, of: [own, other], weights: [1, 1], density: [{}, 1]")
END = "evaluate: {suite: sandbox_v1}"
# What replaces what, the line that is blamed, and words of the message.
MISTAKES = {
    "broken yaml": ("{model: sandbox/base}", "{model: sandbox/base", 3, ["broken YAML"]),
    "tab": ("  drop: 2", "\tdrop: 2", 4, ["a tab stands where", "Indent with spaces"]),
    "a colon in a name": ("name: small", "name: a: b", 1, ["broken YAML", "quote a value that holds `: `"]),
    "an unquoted sign": ("name: small", "name: @small", 1, ["broken YAML", "begins with `@`"]),
    "an alias of nothing": ("name: small", "name: *small", 1, ["undefined alias", "begins with `*`"]),
    "a key with nothing behind it": ("drop: 2", "drop:", 4, ["a range, not nothing"]),
    "a part with nothing in it": ("{r: 4}", "", 10, ["nothing stands behind train.lora"]),
    "no datasets": ("  math: {id: sandbox/math, prompt: math, check: final_number}\n"
                    "  chat: {id: sandbox/instruct, prompt: instruct}\n", "  {}\n", 6, ["datasets is empty"]),
    "a device": ("name: small", "name: CON", 1, ["'CON' is a device's name on Windows", "another name"]),
    "a device with an ending": ("  own:", "  nul.v2:", 14, ["'nul.v2' is a device's name on Windows"]),
    "a dot at the end": ("name: small", "name: small.", 1, ["'small.' ends in a dot"]),
    "one folder for two": ("  own:", "  Other: {data: [chat], targets: self}\n  own:", 16,
                           ["'Other' and 'other' in variants are one folder"]),
    "unknown key": ("  drop: 2", "  dorp: 2", 4, ["unknown key 'dorp' in prune", "'drop'"]),
    "unknown key at the top": ("evaluate:", "evalute:", 17, ["unknown key 'evalute'", "'evaluate'"]),
    "missing key": ("  drop: 2\n", "", 3, ["'drop' is missing in prune"]),
    "text for a number": ("drop: 2", "drop: two", 4, ["prune.drop should be a whole number", "'two'"]),
    "fraction for a count": ("drop: 2", "drop: 2.5", 4, ["prune.drop should be a whole number"]),
    "boolean for a number": ("drop: 2", "drop: true", 4, ["prune.drop should be a whole number"]),
    "value for a mapping": ("{model: sandbox/base}", "sandbox/base", 2,
                            ["base should be a mapping", "Write {model: sandbox/base}"]),
    "value for a list": ("data: [chat]", "data: chat", 15, ["other.data should be a list", "Write [chat]"]),
    "a number in quotation marks": (
        "drop: 2", 'drop: "2"', 4, ["could mean two things", "Write 2 without quotation marks", "or [2]"]
    ),
    "drop of nothing": ("drop: 2", "drop: 0", 4, ["prune.drop should be at least 1"]),
    "a block twice": ("drop: 2", "drop: [4, 7, 4]", 4, ["block 4 stands twice", "Name it once"]),
    "no block": ("drop: 2", "drop: []", 4, ["prune.drop should be a whole number, a list of blocks"]),
    "a block below 0": ("drop: 2", "drop: [4, -1]", 4, ["whole numbers from 0, not -1"]),
    "a word for a block": ("drop: 2", "drop: [4, last]", 4, ["whole numbers from 0, not 'last'"]),
    "a range backwards": ("drop: 2", "drop: 28:22", 4, ["not '28:22'", '"22:28" for blocks 22 to 27']),
    "excluded below 0": ("drop: 2", "drop: 2\n  exclude: {first: -1}", 5, ["exclude.first", "at least 0"]),
    "excluded elsewhere": ("drop: 2", "drop: 2\n  exclude: {frist: 1}", 5, ["'frist'", "'first'"]),
    "unknown importance": ("drop: 2", "drop: 2\n  importance: angle", 5, ["prune.importance", "'angular'"]),
    "unknown prompt": ("prompt: math,", "prompt: maths,", 7, ["no prompt 'maths'", "'math'"]),
    "unknown check": ("final_number", "finalnumber", 7, ["no check 'finalnumber'", "'final_number'"]),
    "broken pattern": ("final_number", '"regex:(a"', 7, ["regex:", "unterminated subpattern"]),
    "unknown targets": ("targets: original", "targets: orginal", 13, ["plain.targets", "'original'"]),
    "unknown dataset": ("data: [chat]", "data: [caht]", 15, ["unknown dataset 'caht'", "'chat'"]),
    "dataset twice": ("data: [chat]", "data: [chat, chat]", 15,
                      ["'chat' stands twice in variants.other.data", "Name it once"]),
    "task twice": ("sandbox_v1}", "sandbox_v1, tasks: [arc, gsm8k, arc]}", 17,
                   ["'arc' stands twice in evaluate.tasks"]),
    "entry twice, in lines": ("data: [chat]", "data: [chat,\n      chat]", 16, ["'chat' stands twice"]),
    "unknown variant": ("of: [own,", "of: [ownn,", 16, ["unknown variant 'ownn'", "'own'"]),
    "variant of itself": ("of: [own,", "of: [both,", 16, ["merged from itself"]),
    "base in a merge": ("of: [own,", "of: [base,", 16, ["merges the base model"]),
    "variant named twice": ("  own:", "  plain:", 14, ["'plain' is there twice in variants"]),
    "key twice": ("name: small", "name: small\nname: other", 2, ["'name' is there twice"]),
    "name of a folder above": ("name: small", "name: ../small", 1, ["does not do as a name"]),
    "name with a blank": ("  own:", "  o wn:", 14, ["'o wn' does not do as a name"]),
    "name of the store": ("name: small", "name: store", 1, ["a recipe cannot be called 'store'"]),
    "name of the store in capitals": ("name: small", "name: Store", 1, ["cannot be called 'Store'"]),
    "reserved name": ("  own:", "  base:", 14, ["cannot be called 'base'"]),
    "unknown merge method": ("merge: slerp", "merge: slurp", 16, ["no merge method 'slurp'", "'slerp'"]),
    "missing merge parameter": (", t: 0.5", "", 16, ["slerp needs 't'"]),
    "parameter of another method": ("t: 0.5", "t: 0.5, density: [1, 1]", 16, ["no parameter 'density'"]),
    "slerp of one": ("of: [own, other]", "of: [own]", 16, ["exactly 2 models", "names 1"]),
    "slerp of three": ("of: [own, other]", "of: [own, other, plain]", 16, ["exactly 2 models", "names 3"]),
    "merge of one model twice": ("of: [own, other]", "of: [own, own]", 16, ["'own' stands twice"]),
    "misspelt merge": ("merge: slerp", "mrege: slerp", 16, ["unknown key 'mrege'", "Write 'merge'"]),
    "too few weights": ("slerp, of: [own, other], t: 0.5", "linear, of: [own, other], weights: [1]", 16,
                        ["weights has 1 number for 2 models"]),
    "weights of nothing": ("slerp, of: [own, other], t: 0.5", "ties, of: [own, other], weights: [0, 0]", 16,
                           ["all weights are 0"]),
    "weights that cancel": ("slerp, of: [own, other], t: 0.5", "linear, of: [own, other], weights: [1, -1]",
                            16, ["add up to 0", "normalize: false"]),
    "weights beyond all numbers": ("slerp, of: [own, other], t: 0.5",
                                   "ties, of: [own, other], weights: [1.0e+308, 1]", 16,
                                   ["weights.0 should be at most 1,000,000, not 1e+308"]),
    "density of nothing": (DENSITY[0], DENSITY[1].format(0), 16, ["density.0 should be more than 0"]),
    "density below nothing": (DENSITY[0], DENSITY[1].format(-0.5), 16, ["density.0 should be more than 0"]),
    "density of more than all": (DENSITY[0], DENSITY[1].format(1.5), 16, ["density.0 should be at most 1"]),
    "unknown lora field": ("{r: 4}", "{r: 4, lora_alfa: 8}", 10, ["PEFT's LoraConfig", "'lora_alpha'"]),
    "unknown sft field": ("max_steps: 3", "max_step: 3", 11, ["TRL's SFTConfig", "'max_steps'"]),
    "wrong type of an sft field": ("max_steps: 3", "max_steps: many", 11, ["'max_steps' should be a whole"]),
    "true for a number of sft": ("max_steps: 3", "max_steps: true", 11, ["a whole number, not true"]),
    "field of the factory": ("max_steps: 3", "output_dir: x", 11, ["'output_dir'", "not a recipe's to set"]),
    "field of the factory in a variant": ("{learning_rate: 2e-3}", "{seed: 3}", 15, ["'seed'", "Remove"]),
    "no way to be the same": ("prompt: instruct}", "prompt: instruct, deduplicate: true}", 8,
                              ["datasets.chat.deduplicate", "questions, rows"]),
    "too few shared words": ("prompt: instruct}", "prompt: instruct, overlap: 4}", 8,
                             ["datasets.chat.overlap should be at least 5, not 4"]),
    "unknown order": ("prompt: instruct}", "prompt: instruct, order: shuffled}", 8, ["'shuffled'", "random"]),
    "share of nothing": ("data: [chat]", "data: {chat: 1.0, math: 0.0}", 15,
                         ["0.0 is no share and no number of rows", "{math: 0.7, chat: 0.3}"]),
    "rows below 0": ("data: [chat]", "data: {chat: -4}", 15, ["-4 is no share and no number of rows"]),
    "a word for a share": ("data: [chat]", "data: {\n      chat: much}", 16, ["'much' is no share"]),
    "shares beside rows": ("data: [chat]", "data: {chat: 0.5, math: 100}", 15, ["mixed", "all as shares"]),
    "share of an unknown set": ("data: [chat]", "data: {chat: 0.5,\n      meth: 0.5}", 16,
                                ["unknown dataset 'meth'", "Write 'math'"]),
    "mix of nothing": ("data: [chat]", "data: {}", 15, ["other.data is empty", "Write one at least"]),
    "rows beside names": ("data: [chat]", "rows: 4, data: [chat]", 15, ["a variant's rows go with shares"]),
    "rows beside rows": ("data: [chat]", "rows: 4, data: {chat: 4}", 15, ["a variant's rows go with shares"]),
    "share too small": ("data: [chat]", "rows: 4, data: {chat: 0.99, math: 0.01}", 15,
                        ["the shares of variant 'other' leave no row of 'math'"]),
    "no data": ("data: [chat]", "data: []", 15, ["variants.other.data is empty", "Write one at least"]),
    "python object": ("name: small", "name: !!python/name:os.system", 1, ["the YAML tag"]),
    "seed beyond 32 bits": ("name: small", "name: small\nseed: 4294967296", 2,
                            ["seed should be at most 4,294,967,295, not 4294967296"]),
    "limit beyond all counting": (END, "evaluate: {suite: sandbox_v1, limit: 9999999999}", 17,
                                  ["evaluate.limit should be at most 2,147,483,647"]),
    "infinite number": ("learning_rate: 1e-3", "learning_rate: .inf", 11, ["not finite"]),
    "publishing of an unknown variant": (END, f"{END}\npublish: {{push: [ownn]}}", 18,
                   ["unknown variant 'ownn'", "Write 'own'"]),
    "publishing of nothing": (END, f"{END}\npublish: {{push: []}}", 18,
                   ["publish.push is empty"]),
    "publishing of what is not said": (END, f"{END}\npublish: {{private: true}}", 18,
                   ["'push' is missing in publish"]),
    "publishing with a misspelt key": (END, f"{END}\npublish: {{push: [own], licence: mit}}", 18,
                   ["'licence' in publish", "'license'"]),
    "publishing of an unknown dataset": (END, f"{END}\npublish: {{push: [own], datasets: [cht]}}", 18,
                   ["unknown dataset 'cht'", "'chat'"]),
    "publishing of rows not regenerated": (END, f"{END}\npublish: {{push: [own], datasets: [chat]}}", 18,
                   ["trained on the regenerated"]),
    "publishing of a dataset twice": (END, f"{END}\npublish: {{push: [own], datasets: [math, math]}}", 18,
                   ["'math' stands twice"]),
    "publishing in no namespace": (END, f"{END}\npublish: {{push: [own], namespace: a/b}}", 18,
                   ["'a/b' does not do as a name"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_mend(case: str, tmp_path: Path) -> None:
    old, new, line, words = MISTAKES[case]
    assert TEXT.count(old) >= 1
    path = write(tmp_path, TEXT.replace(old, new, 1))
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    assert all(word in message for word in words), message
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "key",
    ["prune.calibration.max_tokens", "evaluate.limit", "evaluate.batch_size", "evaluate.shots.arc",
     "regenerate.max_new_tokens", "regenerate.batch_size", "drift.max_new_tokens", "drift.batch_size",
     "measure.prompt", "measure.new"],
)  # fmt: skip
def test_a_number_beyond_all_counting_is_refused(key: str, tmp_path: Path) -> None:
    said = refusal(write(tmp_path, TEXT), f"{key}=2147483648")
    assert f"{key} should be at most 2,147,483,647, not 2147483648" in said


def test_a_day_is_the_longest_a_server_is_waited_for(tmp_path: Path) -> None:
    server = "regenerate.server={url: http://localhost:1/v1, model: x, timeout: 1.0e+12}"
    said = refusal(write(tmp_path, TEXT), "regenerate.engine=openai", server)
    assert "regenerate.server.timeout should be at most 86,400, not 1000000000000.0" in said


def test_merges_that_go_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    circle = "  loop: {merge: slerp, of: [both, plain], t: 0.5}\nevaluate:"
    text = TEXT.replace("of: [own,", "of: [loop,").replace("evaluate:", circle)
    message = refusal(write(tmp_path, text))
    assert "go round in a circle" in message and "loop" in message and "both" in message


def test_merges_may_be_written_before_their_parts(tmp_path: Path) -> None:
    first = "variants:\n  top: {merge: linear, of: [both, plain], weights: [1, 2]}"
    recipe = load_recipe(write(tmp_path, TEXT.replace("variants:", first)))
    assert list(recipe.merged()) == ["both", "top"]


def test_the_first_of_several_mistakes_is_told(tmp_path: Path) -> None:
    text = TEXT.replace("suite: sandbox_v1", "suit: x").replace("drop: 2", "drop: two")
    assert ":4: prune.drop" in refusal(write(tmp_path, text))


@pytest.mark.parametrize(
    ("removed", "old", "new", "line", "words"),
    [
        ("evaluate: {suite: sandbox_v1}\n", "drop:", "drp:", 4, "unknown key 'drp' in prune. Write 'drop'"),
        ("name: small\n", "drop: 2", "drop: two", 3, "prune.drop should be a whole number"),
        ("base: {model: sandbox/base}\n", "suite:", "siute:", 16, "unknown key 'siute' in evaluate"),
        ("name: small\n", "max_steps: 3", "max_steps: 0", 10, "'max_steps' should be at least 1"),
        ("name: small\n", "drop: 2", "drop: 2", 1, "'name' is missing in the recipe"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_what_is_missing(
    removed: str, old: str, new: str, line: int, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, TEXT.replace(removed, "").replace(old, new, 1))
    assert refusal(path).startswith(f"{path}:{line}: {words}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is a mapping"),
        (b"- a\n- b\n", "is a mapping"),
        (b"name: \xff\n", "not UTF-8"),
        (b"x: " + b"a" * MAX_BYTES, "too large"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + b"".join(
            f"k{i}: &k{i} [*{'c' if i == 0 else f'k{i - 1}'}, *{'c' if i == 0 else f'k{i - 1}'}]\n".encode()
            for i in range(30)), "for a recipe"),
        (b"a: &a [*a]\n", "for a recipe"),
        (b"[" * 5000, "nested too deep"),
        (b"a: 1\n---\nb: 2\n", "a second YAML document begins here. Keep one recipe a file"),
    ],
)  # fmt: skip
def test_a_hostile_or_empty_file_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert words in refusal(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "there is no such recipe" in refusal(tmp_path / "none.yaml")
    assert "cannot be read" in refusal(tmp_path)


def test_set_lays_typed_values_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT)
    recipe = load_recipe(
        path,
        ["prune.drop=3", "evaluate.tasks=[arc, gsm8k]", "variants.own.train.sft.learning_rate=1e-5",
         "variants.both={merge: linear, of: [own, plain], weights: [1, 1]}"],
    )  # fmt: skip
    assert recipe.prune.drop == recipe.prune.count == 3
    assert recipe.evaluate.tasks == ("arc", "gsm8k")
    assert recipe.trained()["own"].train.sft == {"learning_rate": 1e-5}
    assert recipe.merged()["both"].merge == "linear"
    assert load_recipe(path).prune.drop == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("prune.dorp=3", "unknown key 'dorp' in prune. Write 'drop'"),
        ("variants.onw.train.sft.max_steps=3", "there is no 'onw' in variants. Write 'own'"),
        ("prune.drop.x=3", "'prune.drop' is a value"),
        ("prune.drop", "not an assignment"),
        ("prune.drop=[", "broken YAML"),
        ("prune.drop=two", "prune.drop should be a whole number"),
        ("variants.own.data=[maths]", "unknown dataset 'maths'"),
    ],
)
def test_a_wrong_set_is_told_by_itself(override: str, words: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, TEXT), override)
    assert message.startswith(f"--set {override}: ")
    assert words in message


@pytest.mark.parametrize("drop", ["[9, 4, 7]", "4,7,9", "7,4,9:10"])
def test_a_drop_may_name_its_blocks(drop: str, tmp_path: Path) -> None:
    written = load_recipe(write(tmp_path, TEXT.replace("drop: 2", f"drop: {drop}"))).prune
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert written.model_dump(mode="json")["drop"] == [4, 7, 9]
    assert (written.drop, written.count) == ((4, 7, 9), 3)
    assert (written.exclude.first, written.exclude.last) == (0, 0)


PARTS = {
    "": Recipe, "prune": Prune, "prune.calibration": Calibration, "datasets.math": Dataset,
    "regenerate": Regenerate, "evaluate": Evaluate,
}  # fmt: skip
WORDS = st.from_regex(r"[a-z][a-z_]{0,15}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(part=st.sampled_from(sorted(PARTS)), key=WORDS, value=st.integers() | st.text("abc", min_size=1))
def test_no_unknown_key_passes(
    part: str, key: str, value: int | str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if key in PARTS[part].model_fields:
        return
    path = write(tmp_path_factory.getbasetemp(), TEXT)
    assert f"unknown key '{key}'" in refusal(path, f"{f'{part}.' if part else ''}{key}={value}")


@settings(max_examples=60, deadline=None)
@given(key=WORDS, before=st.integers(0, 8))
def test_an_unknown_key_is_told_with_its_own_line(
    key: str, before: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if key in Recipe.model_fields:
        return
    lines = ["# a comment"] * before + [f"{key}: 1"] + TEXT.splitlines()
    path = write(tmp_path_factory.getbasetemp(), "\n".join(lines))
    assert refusal(path).startswith(f"{path}:{before + 1}: unknown key '{key}'")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_bytes_the_answer_is_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    refusal(path)


def test_reading_a_recipe_loads_no_heavy_library() -> None:
    code = (
        "import sys; from factory.recipe.recipe import load_recipe; load_recipe(sys.argv[1]);"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'pyarrow', 'mergekit'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(QUICKSTART)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_mix_may_not_take_more_than_the_recipe_does(tmp_path: Path) -> None:
    text = TEXT.replace("prompt: instruct}", "prompt: instruct, rows: 30}")
    for data, where in (
        ("data: {math: 9,\n      chat: 31}", ":16: "),
        ("data: {math: 0.5, chat: 0.5},\n    rows: 62", ":16: "),
    ):
        path = write(tmp_path, text.replace("data: [chat]", data))
        told = f"{path}{where}variant 'other' takes 31 rows of 'chat', of which the recipe takes 30. "
        assert refusal(path).startswith(told)


def test_a_mix_is_read_as_it_is_written(tmp_path: Path) -> None:
    def mix(data: str) -> tuple[object, object]:
        recipe = load_recipe(write(tmp_path, TEXT.replace("data: [chat]", f"data: {data}")))
        variant = recipe.trained()["other"]
        return variant.data, recipe.rows_of(variant)

    assert mix("{math: 3, chat: 4}") == ({"math": 3, "chat": 4}, {"math": 3, "chat": 4})
    assert mix("{math: 3.0, chat: 1.0}") == ({"math": 3.0, "chat": 1.0}, None)
    assert mix("{math: 3.0, chat: 1.0}, rows: 8") == ({"math": 3.0, "chat": 1.0}, {"math": 6, "chat": 2})
    assert mix("[math, chat]") == (("math", "chat"), {"math": None, "chat": None})
