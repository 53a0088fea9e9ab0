"""`factory importance` on a folder: without a recipe, over texts that are named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from factory.cli import call
from factory.metrics import METRICS


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [json.dumps({"text": text}) + "\n" for text in ("one text", "another, longer text", "a third")]
    (folder / "train.jsonl").write_text("".join(lines))
    return folder


def test_it_prints_the_ten_best_runs_and_a_sentence(
    tiny_model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = ["importance", str(tiny_model), "--data", str(texts), "--drop", "2", "--out", str(out)]
    assert call(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(" {2,}", lines[0].strip()) == [
        "runs of 1 block", "figure", "runs of 2 blocks", "figure", "runs of 3 blocks", "figure",
    ]  # fmt: skip
    assert sum("(chosen)" in line for line in lines) == 1 and len(lines) == 1 + 6 + 2
    assert lines[-2].startswith("of 5 runs of 2 blocks, blocks ")
    assert "0-based, of 6, have the least mean angular distance at the last token: " in lines[-2]
    assert "over 3 texts (35 tokens); " in lines[-2]
    assert lines[-1] == f"all figures are in {out}"
    table = json.loads(out.read_text())
    assert (table["metric"], table["blocks"], table["rows"]) == ("angular", 6, 3)
    assert call(arguments) == 2
    assert "there is something already" in capsys.readouterr().err


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric(tiny_model: Path, texts: Path, metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["importance", str(tiny_model), "--data", str(texts), "--metric", metric, "--drop", "2"]
    assert call([*arguments, "--rows", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["kind"], found["metric"], found["rows"], len(found["drop"])) == ("result", metric, 2, 2)
    chosen = [row for column in found["ranking"] for row in column["rows"] if row["removed"]]
    assert sorted(block for row in chosen for block in row["blocks"]) == found["drop"]
    assert call(arguments) == 0
    assert METRICS[metric].title in capsys.readouterr().out


@pytest.mark.parametrize("metric", METRICS)
def test_excluded_blocks_stay(
    tiny_model: Path, texts: Path, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["importance", str(tiny_model), "--data", str(texts), "--metric", metric, "--json"]
    for first, last, drop in ((2, 2, 2), (4, 0, 2), (0, 5, 1)):
        ends = ["--exclude-first", str(first), "--exclude-last", str(last)]
        assert call([*arguments, "--drop", str(drop), *ends]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["drop"] == list(range(first, 6 - last))
        ranked = [block for column in found["ranking"] for row in column["rows"] for block in row["blocks"]]
        assert set(ranked) == set(found["drop"])


def test_without_a_drop_no_more_go_than_may(
    tiny_model: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["importance", str(tiny_model), "--data", str(texts), "--exclude-last", "5"]
    assert call(arguments) == 0
    assert "block 0, 0-based, of 6, has the least" in capsys.readouterr().out


def test_the_sandbox_brings_its_own_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["importance", "sandbox/base", "--rows", "8"]) == 0
    said = capsys.readouterr()
    assert "of 11 runs of 2 blocks, " in said.out and "over 8 texts" in said.out
    assert "Loading weights" not in said.err


def test_texts_are_cut_at_the_models_positions(
    tmp_path: Path, tiny_model: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from families import random_model
    from transformers import AutoTokenizer

    for family in ("gpt2", "llama"):
        # Of GPT-2 the second is another name of the first.
        positions = dict.fromkeys(("n_positions", "max_position_embeddings"), 12)
        model = random_model(tmp_path / family, family, "float32", vocab_size=512, **positions)
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(model)
        for metric in METRICS:
            assert call(["importance", str(model), "--data", str(texts), "--metric", metric]) == 0
            said = capsys.readouterr().out
            assert "over 3 texts (27 tokens), cut at the model's 12 positions; " in said, (family, metric)
        arguments = ["importance", str(model), "--data", str(texts), "--max-tokens"]
        assert call([*arguments, "8"]) == 0
        assert "over 3 texts (23 tokens); " in capsys.readouterr().out


def test_tokens_that_the_model_does_not_know_are_refused(
    tmp_path: Path, tiny_model: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from families import random_model
    from transformers import AutoTokenizer

    model = random_model(tmp_path / "model", "llama", vocab_size=50)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(model)
    assert call(["importance", str(model), "--data", str(texts)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {model}: the tokenizer gives token ") and error.count("\n") == 1
    assert "; the model knows 0 to 49. Save the tokenizer that belongs to the model beside it." in error


def test_a_part_of_a_dataset_is_named_by_options(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "many"
    for config in ("one", "two"):
        (folder / config).mkdir(parents=True)
        rows = [{"a": f"{config} text", "b": "longer than the others", "n": 3} for _ in range(2)]
        (folder / config / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["importance", str(tiny_model), "--data", str(folder)]
    options = ["--config", "two", "--split", "test", "--column", "a"]
    assert call([*arguments, *options]) == 0
    assert "over 2 texts (16 tokens); " in capsys.readouterr().out
    for refused, said in (
        ([], "--config: the dataset has 2 configs. Say --config, one of one, two."),
        (options[:2], "--split: the dataset has no split 'train'. Known is test."),
        (options[:4], "--column: cannot tell which column holds the texts. Say --column, one of a, b, n."),
        ([*options, "--column", "c"], "--column: the dataset has no column 'c'. "),
        ([*options, "--column", "n"], "Name a column of text with --column."),
    ):
        assert call([*arguments, *refused]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error


def test_removals_say_that_their_figures_add_up(
    tiny_model: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["importance", str(tiny_model), "--data", str(texts), "--drop", "2"]
    assert call([*arguments, "--metric", "perplexity_iterative"]) == 0
    said = capsys.readouterr().out
    assert "increase of perplexity so far" in said.splitlines()[0] and " together, over 3 texts" in said


def test_a_model_without_a_tokenizer_is_refused(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from families import random_model

    model = random_model(tmp_path / "model", "gemma2")
    assert call(["importance", str(model), "--data", str(texts)]) == 2
    assert f"error: {model}: the folder has no tokenizer. Save" in capsys.readouterr().err


def test_texts_that_give_no_token_are_named_as_the_person_did(
    tiny_model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    rules = json.loads((model / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[^你好]"}, "content": ""}
    (model / "tokenizer.json").write_text(json.dumps(rules))
    monkeypatch.chdir(tmp_path)
    assert call(["importance", str(model), "--data", "./texts"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ./texts: the model's tokenizer makes a token of no calibration text.")
    assert "prune.calibration" not in error


def test_mistakes_are_told_in_one_line(
    tiny_model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["importance", str(tiny_model)]
    (tmp_path / "single.jsonl").write_text("")
    few = ["--data", str(texts), "--exclude-first", "3", "--exclude-last", "2"]
    cases = {
        "none are named. Name a dataset folder with --data": model,
        "there is no dataset folder './none'": [*model, "--data", "./none"],
        "there is no dataset 'sandbox/corpse'": [*model, "--data", "sandbox/corpse"],
        "6 of 6 blocks cannot be removed": [*model, "--data", str(texts), "--drop", "6"],
        "2 of 6 blocks, of which 3 at the beginning and 2 at the end stay, cannot be removed. "
        "Say --drop 1 to 1": [*model, "--drop", "2", *few],
        "stay, cannot be removed. Exclude fewer": [*model, "--data", str(texts), "--exclude-last", "6"],
        "'--exclude-first': Input should be greater than or equal to 0": [*model, "--exclude-first", "-1"],
        "'angel' is not one of": [*model, "--data", str(texts), "--metric", "angel"],
        "there is no folder to write": [*model, "--data", str(texts), "--out", str(tmp_path / "no" / "x")],
        "there is no such folder": ["importance", "some-org/some-model", "--data", str(texts)],
    }
    for said, arguments in cases.items():
        assert call(arguments) == 2, said
        err = capsys.readouterr().err
        assert said in err and err.count("\n") <= 3, err


def test_a_model_with_broken_weights_is_refused(
    tiny_model: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "broken")
    for metric in METRICS:
        arguments = ["importance", str(tmp_path / "broken"), "--data", str(texts), "--metric", metric]
        assert call(arguments) == 2, metric
        assert "are not all finite numbers" in capsys.readouterr().err
