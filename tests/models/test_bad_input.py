"""Folders that cannot be pruned: one line each, exit code 2, and no half-written folder."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import random_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from factory.cli import call
from factory.errors import FactoryError
from factory.models import checkpoint
from factory.models.headers import read_header

Spoil = Callable[[Path], object]


def config(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**written, **changes}))

    return spoil


def weights(**more: torch.Tensor) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        named = {name.replace("__", "."): value for name, value in more.items()}
        save_file({**load_file(file), **named}, file, metadata={"format": "pt"})

    return spoil


def sharded(folder: Path, **shards: list[str]) -> None:
    """Splits the weights into files a and b, then writes the index over the names given."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    half = sorted(tensors)[: len(tensors) // 2]
    parts = {"a": half, "b": [name for name in tensors if name not in half]}
    for letter, names in parts.items():
        names = names + shards.get(letter, [])
        save_file({name: tensors[name] for name in names}, folder / f"{letter}.safetensors", {"format": "pt"})
    index = {name: f"{letter}.safetensors" for letter, names in parts.items() for name in names}
    (folder / checkpoint.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))


def index(**changes: str) -> Spoil:
    def spoil(folder: Path) -> None:
        sharded(folder)
        written = json.loads((folder / checkpoint.INDEX).read_text())
        written["weight_map"].update({name.replace("__", "."): file for name, file in changes.items()})
        (folder / checkpoint.INDEX).write_text(json.dumps(written))

    return spoil


def no_metadata(folder: Path) -> None:
    sharded(folder)
    written = json.loads((folder / checkpoint.INDEX).read_text())
    del written["metadata"]
    (folder / checkpoint.INDEX).write_text(json.dumps(written))


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def header(change: Callable[[dict[str, Any]], str | None]) -> Spoil:
    """Rewrites the header; `change` edits it or gives its text."""

    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        parsed = json.loads(data[8 : 8 + length])
        text = change(parsed) or json.dumps(parsed)
        file.write_bytes(struct.pack("<Q", len(text)) + text.encode() + data[8 + length :])

    return spoil


def twice(parsed: dict[str, Any]) -> str:
    row = json.dumps(parsed["model.norm.weight"])
    return json.dumps(parsed)[:-1] + f', "model.norm.weight": {row}}}'


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def dangling(folder: Path) -> None:
    """As in a cache of the Hub whose download was not finished."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("../blobs/absent")


def folder_for_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def marked(folder: Path) -> None:
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text, encoding="utf-8-sig")
    with pytest.raises(OSError, match="not a valid JSON file"):
        AutoConfig.from_pretrained(folder)


def variant(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


NORM, UP = "model__norm__weight", "model__layers__0__mlp__up_proj"
BAD: dict[str, tuple[Spoil, str]] = {
    "bitsandbytes": (config(quantization_config={"quant_method": "bitsandbytes"}), "(bitsandbytes)"),
    "GPTQ": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantised (gptq)"),
    "AWQ": (config(quantization_config={"quant_method": "awq"}), "quantised (awq)"),
    "FP8": (config(quantization_config={"quant_method": "fp8"}), "quantised (fp8)"),
    "compressed": (config(compression_config={"format": "x"}), "the weights are quantised."),
    "GPTQ unsaid": (weights(**{UP + "__qweight": torch.ones(2).int()}), "(GPTQ or AWQ: there is a tensor"),
    "FP8 scales": (weights(**{UP + "__weight_scale_inv": torch.ones(2)}), "quantised (FP8: there is a"),
    "FP8 unsaid": (weights(**{UP + "__weight": torch.ones(2).to(torch.float8_e4m3fn)}), "as F8_E4M3"),
    "absent shard": (index(**{NORM: "c.safetensors"}), "file c.safetensors is missing, though model.saf"),
    "outside": (index(**{NORM: "../b.safetensors"}), "names '../b.safetensors', which is no"),
    "absolute": (index(**{NORM: "/etc/b.safetensors"}), "names '/etc/b.safetensors', which is no"),
    "pickle in index": (index(**{NORM: "b.bin"}), "names 'b.bin', which is no safetensors file"),
    "promised": (index(model__absent="b.safetensors"), "promises model.absent in b.safetensors, which"),
    "twice in shards": (lambda f: sharded(f, b=["model.embed_tokens.weight"]), "stored twice, in a.saf"),
    "no metadata": (no_metadata, "the index has no metadata, without which transformers does not load"),
    "truncated": (truncated, "the file is cut short: it has 1"),
    "twice in header": (header(twice), "its header names model.norm.weight twice"),
    "overlap": (header(lambda h: h["model.norm.weight"].update(data_offsets=[0, 64])), "do not follow"),
    "wrong size": (header(lambda h: h["model.norm.weight"].update(shape=[7])), "bytes for 7 of BF16"),
    "noise": (lambda f: (f / "model.safetensors").write_bytes(b"no header at all"), "not a safetensors file"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "not a safetensors file (it has 0 bytes"),
    "pickled": (pickled, "the weights are pickle files"),
    "encoder": (config(is_encoder_decoder=True), "the model has an encoder"),
    "cross-attention": (config(add_cross_attention=True), "the model has an encoder"),
    "vision": (config(vision_config={"depth": 2}), "more than a language model (vision_config"),
    "code": (
        config(model_type="mine", auto_map={"AutoModelForCausalLM": "m.M"}),
        "code of its own to be run (auto_map in config.json): transformers has no causal",
    ),
    "code for no language model": (
        config(model_type="vit", architectures=["ViT"], auto_map={"AutoModel": "m.M"}), "code of its own",
    ),
    "another class": (config(architectures=["MyLlama"], auto_map={"AutoModel": "m.M"}), "is a MyLlama, not"),
    "own weights": (config(transformers_weights="../x.safetensors"), "a weights file of its own"),
    "unknown family": (config(model_type="mine"), "transformers does not know model_type 'mine'"),
    "too few": (config(num_hidden_layers=8), "promises 8 blocks, the weights hold 6"),
    "foreign tensor": (weights(model__adapter__weight=torch.ones(2)), "holds model.adapter.weight"),
    "no vocabulary": (config(vocab_size=None), "transformers refuses config.json (Validation error for"),
    "odd rotations": (config(rope_scaling="x"), "transformers refuses config.json ("),
    "link to nothing": (dangling, "tokenizer.json: a link that leads nowhere. Fetch the model again"),
    "folder for a config": (folder_for_config, "config.json: this is a folder, not a file"),
    "byte order mark": (marked, "Save it without the byte order mark, which transformers refuses too"),
    "variant": (variant, "no weights but a variant, model.fp16.safetensors, which is not loaded unless"),
    "adapter": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        "an adapter beside the weights (adapter_config.json), which transformers applies to them. Merge it",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "there is no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_one_line_and_leaves_nothing(
    name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, says = BAD[name]
    base = shutil.copytree(tiny_model, tmp_path / "base")
    spoil(base)
    assert call(["prune", str(base), "--drop", "1:3", str(tmp_path / "out")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and output.err.splitlines()[-1] == errors[0]
    assert says in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_hybrid_model_without_full_attention_is_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = random_model(tmp_path / "base", "gemma3_text")
    assert call(["prune", str(base), "--drop", "1,4,7", str(tmp_path / "out")]) == 2
    assert (
        "no block with full attention would be left (of this model they are 1, 4, 7)"
        in (capsys.readouterr().err.splitlines()[-1])
    )
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_single_file_wins_over_an_index_beside_it(tiny_model: Path, tmp_path: Path) -> None:
    """As in transformers: the index is what an earlier save left behind."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / checkpoint.INDEX).write_text("{")
    assert checkpoint.weight_files(base) == [base / "model.safetensors"]


def test_a_header_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.write(struct.pack("<Q", 10**12))
        file.truncate(10**12 + 8)
    with pytest.raises(FactoryError, match="header longer than the file"):
        read_header(tmp_path / "huge")


@pytest.mark.parametrize("remote", ["modeling_mine.Mine", "someone/else--modeling_mine.Mine"])
def test_code_of_its_own_that_transformers_does_without_is_left_out(
    remote: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many checkpoints have it that were published before their family was in transformers."""
    base, out = shutil.copytree(tiny_model, tmp_path / "base"), tmp_path / "out"
    config(auto_map=dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), remote))(base)
    (base / "modeling_mine.py").write_text("raise SystemExit('the code was run')\n")
    settings = json.loads((base / "tokenizer_config.json").read_text())
    own = {**settings, "auto_map": {"AutoTokenizer": [None, remote]}}
    (base / "tokenizer_config.json").write_text(json.dumps(own))
    assert call(["prune", str(base), "--drop", "1:3", str(out)]) == 0
    assert "left out of config.json: auto_map, which" in capsys.readouterr().out
    assert "auto_map" not in (out / "config.json").read_text() + (out / "tokenizer_config.json").read_text()
    assert json.loads((out / "tokenizer_config.json").read_text()) == settings
    assert not (out / "modeling_mine.py").exists()
    assert json.loads((out / "record.json").read_text())["facts"]["left_out"] == ["auto_map"]
    AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)  # nothing is left to run
    AutoTokenizer.from_pretrained(out, trust_remote_code=True)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "LICENSE"])
@pytest.mark.parametrize("command", ["prune", "sizes"])
def test_what_may_not_be_read_is_said_before_a_byte_is_copied(
    command: str, name: str, tiny_model: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "LICENSE").write_text("mine")
    (base / name).chmod(0)
    arguments = [command, str(base), *(["--drop", "1", str(tmp_path / "out")] if command == "prune" else [])]
    code = f"from factory.cli import call; import sys; sys.exit(call({arguments}))"
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if drop and subprocess.run([*drop, "cat", base / name], capture_output=True).returncode == 0:
        pytest.skip("root reads every file here")
    done = subprocess.run([*drop, sys.executable, "-c", code], capture_output=True, text=True)
    if command == "sizes" and name != "config.json":  # it reads nothing else
        assert done.returncode == 0
        return
    assert done.returncode == 2, done.stderr
    assert f"base/{name}: this cannot be read (Permission denied). Fetch it again, or make" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("99", "block 99 cannot be removed from 6 blocks, 0 to 5. Drop between 1 and 5 blocks."),
        ("3,7:9", "blocks 3 and 7..8 cannot be removed from 6 blocks, 0 to 5."),
        ("\u0663", "'\u0663' names no blocks"),
        ("1_0", "'1_0' names no blocks"),
    ],
)
def test_a_refused_drop_says_which_blocks_and_leaves_no_folder(
    drop: str, says: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["prune", str(tiny_model), "--drop", drop, str(tmp_path / "a" / "b" / "c")]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_block(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["prune", str(tiny_model), "--drop", "1:6", str(tmp_path / "one"), "--no-proof"]) == 0
    assert call(["prune", str(tmp_path / "one"), "--drop", "0", str(tmp_path / "none")]) == 2
    assert "has a single block, which cannot be removed. Use a deeper model." in capsys.readouterr().err


def test_a_folder_inside_the_model_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (tmp_path / "link").symlink_to(base)
    for out in (base / "out", tmp_path / "link" / "deep" / "out"):
        assert call(["prune", str(base), "--drop", "1", str(out)]) == 2
        assert "this is inside the model that is to be pruned" in capsys.readouterr().err
    assert not (base / "out").exists() and not (base / "deep").exists()
