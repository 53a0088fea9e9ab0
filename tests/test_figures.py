"""`factory sizes` and `factory measure` as a person meets them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from factory.cli import call
from factory.figures import headings

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}  # fmt: skip


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder with the config of Llama-3.1-8B and nothing else."""
    folder = tmp_path / "Llama-3.1-8B-Instruct"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def cells(text: str, row: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip().startswith(row))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_sizes_without_blocks(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sizes", str(llama), "--drop", "22:28"]) == 0
    out = capsys.readouterr().out
    assert cells(out, "parameters") == ["parameters", "8,030,261,248", "6,721,589,248", "-16.30 %"]
    assert cells(out, "FLOPs a token") == ["FLOPs a token", "15.01 G", "12.39 G", "-17.44 %"]
    assert cells(out, "KV cache, a token")[1:] == ["131.07 kB", "106.50 kB", "-18.75 %"]
    assert "A block has 218,112,000 parameters." in out
    assert "experts" not in out  # a row of noughts says nothing
    assert max(cell_len(line.rstrip()) for line in out.splitlines()) <= 80


def test_sizes_as_json_tell_every_block(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sizes", str(llama / "config.json"), "--drop", "0,31", "--json"]) == 0
    base, pruned = json.loads(capsys.readouterr().out)["models"]
    assert (len(base["blocks"]), len(pruned["blocks"])) == (32, 30)
    assert base["parts"]["attention"] + base["parts"]["mlp"] < base["parameters"] == 8_030_261_248
    assert base["blocks"][0]["parameters"] == 218_112_000
    assert base["cache_bytes"] == {"dtype": "bfloat16", "token": 131072, "context": 131072 * 4096}


def test_sizes_stay_within_the_models_positions(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sizes", str(tiny_model)]) == 0
    assert "KV cache, at 1,024" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--drop", "22:33"], "there is no block 32. The model has blocks 0..31"),
        (["--drop", "28:22"], "names no blocks"),
        (["sandbox/base", "--drop", "1:2"], "Give one of them"),
        (["nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_mistakes(llama: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sizes", str(llama), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_measured_models_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from factory import sandbox

    config = json.loads((sandbox.model_folder() / "config.json").read_text())
    (tmp_path / "pruned").mkdir()
    (tmp_path / "pruned" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    small = ["--prompt", "16", "--new", "4", "--rounds", "2", "--threads", "1"]
    assert call(["measure", "sandbox/base", str(tmp_path / "pruned"), *small]) == 0
    out = capsys.readouterr().out
    assert out.startswith("batch 1, 16 + 4 tokens, float32, random weights, cpu, 1 thread\n")
    assert cells(out, "base") == ["base", "pruned", "ratio"]
    for row in ("first token after", "each further token", "tokens/s, decoding", "peak memory"):
        assert len(cells(out, row)) == 4
    assert float(cells(out, "each further token")[3]) < 1
    assert max(cell_len(line.rstrip()) for line in out.splitlines()) <= 80


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="this system counts no load")
def test_a_busy_machine_is_told(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["measure", str(tiny_model), "--prompt", "8", "--new", "2", "--rounds", "1"]
    for each, said in ((0.4, False), (1.5, True)):
        monkeypatch.setattr(os, "getloadavg", lambda each=each: (each * (os.cpu_count() or 1), 0.0, 0.0))
        assert call(small) == 0
        told = capsys.readouterr()
        assert f"In the minute before, {each:.2f} processes a core ran or waited." in told.out
        assert ("The machine was busy before: times are too long" in told.out) == said
        assert ("warning: The machine was busy" in told.err and "1.5 processes a core" in told.err) == said
        assert "A single round." in told.out and "1 rounds" not in told.out
    assert call([*small, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["load_per_core"] == 1.5


def test_one_measured_model_as_json(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--prompt", "8", "--new", "2", "--rounds", "1", "--json"]
    assert call(["measure", str(tiny_model), *small]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["kind"] == "result" and "ratios" not in result
    assert result["workload"] == {"batch": 1, "prompt": 8, "new": 2, "rounds": 1, "dtype": None}
    assert result["models"][0]["prefill_seconds"]["median"] > 0
    assert result["machine"]["cores"] >= 1


def test_names_that_are_alike_show_more_of_their_paths() -> None:
    assert headings(["/runs/a/model", "/runs/b/model"], "change") == ["", "a/model", "b/model", "change"]
    assert headings(["x/Llama-3.1-8B-Instruct/config.json"], "change") == ["", "Llama-3.1-8B-\nInstruct"]
