"""`factory evaluate`: what cannot be scored, or not as the suite's, and how that is told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from benchmark_rows import mmlu_row, write
from evaluated import FEW, arc, arguments, result

from factory.cli import call


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--suite", "openllm_v2"), "--suite: there is no suite 'openllm_v2'. Write 'openllm_v1'"),
        (("--tasks", "arc,gsm8"), "--tasks: suite 'openllm_v1' has no task 'gsm8'. Write 'gsm8k'"),
        (("--tasks", "arc,,"), "--tasks: 'arc,,' names a task twice, or none"),
        (("--tasks", "arc,arc"), "--tasks: 'arc,arc' names a task twice, or none"),
        (("--shots", "arc"), "--shots: 'arc' is no task with its number of shots"),
        (("--shots", "arc=-1"), "--shots: 'arc=-1' is no task with its number of shots"),
        (("--shots", "truthfulqa=1"), "--shots: task 'truthfulqa' takes no shots"),
        (
            ("--tasks", "arc", "--shots", "hellaswag=2"),
            "--shots: task 'hellaswag' has shots, but is not among",
        ),
        (("--shots", "boolq=1"), "--shots: suite 'openllm_v1' has no task 'boolq'"),
        (("--tasks", "arc", "--shots", "arc=7"), "config 'ARC-Challenge' has only 6 rows for 7 shots"),
        (("--shots", FEW), "task 'mmlu': 55 of its 57 configs are missing: abstract_algebra, astronomy,"),
        (("--limit", "0"), "'--limit': Input should be greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_the_suite_is_one_line(
    more: tuple[str, ...],
    said: str,
    tiny_model: Path,
    benchmark_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(arguments(tiny_model, benchmark_data, *more, "--out", str(tmp_path / "out"))) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert call(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_rows_that_are_not_there_are_named(
    tiny_model: Path, benchmark_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(benchmark_data, root)
    arc_folder = root / "allenai__ai2_arc" / "ARC-Challenge"
    write([{"question": "?", "answerKey": "A"}], arc_folder / "test.parquet")
    command = arguments(tiny_model, root, "--tasks", "arc", "--shots", "arc=1")
    assert "split 'test' of config 'ARC-Challenge' has no column 'choices'" in refused(command, capsys)
    (arc_folder / "test.parquet").unlink()
    assert "task 'arc': the dataset has no split 'test'" in refused(command, capsys)
    shutil.rmtree(root / "allenai__ai2_arc")
    assert "task 'arc': there is no folder 'allenai__ai2_arc' in it" in refused(command, capsys)
    assert "there is no such folder" in refused(arc(tiny_model, tmp_path / "none"), capsys)


@pytest.mark.slow
def test_some_subjects_of_mmlu_are_scored_only_with_a_limit(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("test", "dev"):
        rows = [mmlu_row(i, "virology") for i in range(2)]
        write(rows, tmp_path / "cais__mmlu" / "virology" / f"{split}.parquet")
    command = arguments(tiny_model, tmp_path, "--tasks", "mmlu", "--shots", "mmlu=1")
    assert "56 of its 57 configs are missing" in refused(command, capsys)
    assert call([*command, "--limit", "9", "--json"]) == 0
    assert result(capsys)["comparable"] is False


@pytest.mark.slow
def test_a_folder_that_is_no_subject_is_left_out_and_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmlu = tmp_path / "cais__mmlu"
    for subject in ("virology", "zz_mine"):
        for split in ("test", "dev"):
            write([mmlu_row(i, subject) for i in range(2)], mmlu / subject / f"{split}.parquet")
    command = arguments(tiny_model, tmp_path, "--tasks", "mmlu", "--shots", "mmlu=1", "--limit", "9")
    assert call([*command, "--json"]) == 0
    found = result(capsys)
    assert found["tasks"]["mmlu"]["n"] == 2
    assert "mmlu: no subjects of the suite, and left out: zz_mine" in found["notes"]
    assert any(line.startswith("mmlu lacks 56 of its 57 subjects") for line in found["why_not"])
    shutil.rmtree(mmlu / "virology")
    assert "mmlu has none of its subjects: zz_mine" in refused(command, capsys)


@pytest.mark.slow
def test_a_part_of_the_rows_is_told_without_a_limit(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arc(tiny_model, arc_data, "--out", str(tmp_path / "out"))) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mmlu is" not in shown and "average mean" not in shown, "one task, which is not mmlu"
    (path,) = (tmp_path / "out").glob("results/**/results_*.json")
    told = [
        json.loads((tmp_path / "out" / "scores.json").read_text()),
        json.loads(path.read_text())["factory"],
    ]
    for line in (
        "arc: the rows are 160 of 1,172: not comparable",
        "arc: the rows for its shots are 30 of 1,119: not comparable",
    ):
        assert line in shown
        assert all(line in one["why_not"] and not one["comparable"] for one in told)


def test_a_model_without_a_tokenizer_is_refused(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*token*"))
    error = refused(arc(tmp_path / "model", arc_data), capsys)
    assert "the folder has no tokenizer. Save it beside the weights" in error


def test_a_tokenizer_that_cannot_be_loaded_is_refused(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer.json"))
    error = refused(arc(tmp_path / "model", arc_data), capsys)
    assert "there is no readable tokenizer" in error


def test_a_model_that_is_nowhere_is_told(
    arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(arc("some-org/some-model", arc_data), capsys)
    assert "MODEL: 'some-org/some-model' is no folder, and the Hub cannot be asked for a model" in error
    assert "go online once (HF_HUB_OFFLINE unset)" in error
    assert "there is no model folder './none'" in refused(arc("./none", arc_data), capsys)


def test_rows_that_only_the_hub_has_are_told_offline(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["evaluate", str(tiny_model), "--tasks", "arc"], capsys)
    assert "task 'arc': 'allenai/ai2_arc' is no folder, and the Hub cannot be asked for a dataset" in error


def no_decoder(model: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=261, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(model)


def an_encoder(model: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=261, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        initializer_range=0.5,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(model)


def a_block_short(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def another_tokenizer(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["Q"], vocabulary["\u0100"] = 1260, vocabulary["Q"]
    (model / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_decoder, "transformers has no causal language model of model_type 't5'"),
        (another_tokenizer, "the tokenizer makes token 1,260, and the model knows 261 of them"),
        *(
            pytest.param(make, said, marks=pytest.mark.slow)
            for make, said in (
                (an_encoder, "the bert is an encoder: each of its tokens sees those behind it"),
                (a_block_short, "stock transformers finds no fitting weights for model.layers.2.mlp.up_proj"),
            )
        ),
    ],
)
def test_a_model_whose_scores_would_mean_nothing_is_refused(
    make: Callable[[Path], None],
    said: str,
    tiny_model: Path,
    arc_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    make(model)
    capsys.readouterr()  # what transformers says as it saves
    assert said in refused(arc(model, arc_data, "--limit", "1"), capsys)


def test_numbers_that_are_none_name_task_and_row(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    before = weights["model.norm.weight"].clone()
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    command = arc(model, arc_data, "--limit", "1", "--out", str(out))
    assert re.search(r"arc: the model's output for row \d+ is not finite", refused(command, capsys))
    assert not (out / "record.json").exists()
    # Nothing was scored, so the mended model may have the folder.
    save_file({**weights, "model.norm.weight": before}, model / "model.safetensors", {"format": "pt"})
    assert call(command) == 0
    assert (out / "record.json").exists() and not (out / "begun.json").exists()


def test_a_prompt_longer_than_the_model_is_cut_counted_and_told(
    tiny_model: Path, arc_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """29 shots of some 30 characters, a token each, in a model of 1,024 positions; 2 fit."""
    long = arguments(tiny_model, arc_data, "--tasks", "arc", "--shots", "arc=30", "--limit", "4")
    assert call([*long, "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "longer than the model's 1,024 positions: arc 4 of 4 documents" in said
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["tasks"]["arc"]["cut"] == 4
    rows = pq.read_table(tmp_path / "out" / "samples" / "arc.parquet").to_pylist()
    assert all(row["cut"] > 0 for row in rows)
    (theirs,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("results/**/*.json"))
    assert theirs["summary_general"]["truncated"] == 4
