"""`factory importance` on a folder: without a recipe, over texts that are named."""

from __future__ import annotations

import json
import re
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
