"""Where models and datasets come from, their fingerprints, and what is refused before a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from written import ROWS, jsonl, model

from factory import hashing
from factory.data.files import Wanted, list_files
from factory.data.reading import read_rows
from factory.errors import FactoryError
from factory.sandbox import DATASETS
from factory.sources import Source, at_hand, materialise, resolve_dataset, resolve_model

TRAIN = Wanted()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def resolved(folder: Path, reference: str = "m") -> Source:
    return resolve_model(reference, None, "r.yaml:2", folder)


def refused(folder: Path, reference: str = "m", revision: str | None = None) -> str:
    with pytest.raises(FactoryError) as caught:
        resolve_model(reference, revision, "r.yaml:2", folder)
    message = str(caught.value)
    assert message.startswith("r.yaml:2: ")
    return message


def test_a_folder_is_found_beside_the_recipe_or_by_its_full_name(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    beside, full = resolved(tmp_path), resolved(Path("/"), str(folder))
    assert (beside.kind, beside.path) == ("folder", folder)
    assert beside.fingerprint == full.fingerprint
    assert materialise(beside, tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


def test_the_tiny_model_of_transformers_is_fine(tiny_model: Path) -> None:
    assert resolved(tiny_model.parent, tiny_model.name).path == tiny_model


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    before = resolved(tmp_path).fingerprint
    (folder / "README.md").write_text("a card")
    os.utime(folder / "model.safetensors", (1, 1))
    folder.rename(tmp_path / "n")
    assert resolved(tmp_path, "n").fingerprint == before
    model(tmp_path / "other", seed=1)
    assert resolved(tmp_path, "other").fingerprint != before
    (tmp_path / "n" / "tokenizer.json").write_text('{"a": 1}')
    assert resolved(tmp_path, "n").fingerprint != before


def test_a_large_file_is_hashed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "REMEMBERED_FROM", 10)
    file = tmp_path / "file"
    file.write_bytes(b"a" * 100)
    first = hashing.file_hash(file)
    monkeypatch.setattr(hashing, "_digest", lambda file: "read again")
    assert hashing.file_hash(file) == first
    times = file.stat()
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and `rsync -t` do
    assert hashing.file_hash(file) == "read again"


def test_that_a_very_large_file_is_read_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "TOLD_FROM", hashing.REMEMBERED_FROM)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(hashing.REMEMBERED_FROM))
    for _ in range(2):
        hashing.file_hash(file)
    said = capsys.readouterr()
    assert said.err.count("note: model.safetensors is read for its hash, 0.0 GB; that is remembered\n") == 1
    assert said.out == ""


def test_where_no_key_is_wanted_a_large_file_stays_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until somebody read it: what is remembered is told, and changes with the file."""
    monkeypatch.setattr(hashing, "REMEMBERED_FROM", 10)
    folder = model(tmp_path / "m")
    weights = folder / "model.safetensors"
    with hashing.postponed() as unread:
        before = resolved(tmp_path).fingerprint
    assert unread[weights] == weights.stat().st_size
    read = resolved(tmp_path).fingerprint
    assert read != before
    with hashing.postponed() as unread:
        assert resolved(tmp_path).fingerprint == read and not unread
        os.utime(weights, (1, 1))
        resolved(tmp_path)
        assert set(unread) == {weights}


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    for reference in ("./none", "../none", str(tmp_path / "none"), "a/b/c", "~/none"):
        assert f"there is no model folder '{reference}'" in refused(tmp_path, reference)


def test_a_name_that_could_be_of_the_hub_is_told_as_both(tmp_path: Path) -> None:
    message = refused(tmp_path, "models/base")
    assert "'models/base' is no folder, and the Hub cannot be asked" in message


def test_what_is_cached_of_the_hub_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--some--model"
    model(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    source = resolved(tmp_path, "some/model")
    assert (source.kind, source.fingerprint) == ("hub", commit)
    assert materialise(source, tmp_path / "cache") == repository / "snapshots" / commit
    (repository / "snapshots" / commit / "model.safetensors").rename(
        repository / "snapshots" / commit / "pytorch_model.bin"
    )
    assert "'some/model' has only pickled weights" in refused(tmp_path, "some/model")


def test_the_weights_file_that_is_damaged_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 8)
    assert "model './m': model.safetensors: the file is cut short" in refused(tmp_path, "./m")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("x")
    assert "'m' is a file, not a folder" in refused(tmp_path)


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    model(tmp_path / "m")
    assert "has no revisions. Leave the revision out" in refused(tmp_path, revision="main")


def test_the_sandbox_has_no_revision(tmp_path: Path) -> None:
    assert "is part of the factory, which has no revisions" in refused(tmp_path, "sandbox/base", "main")
    with pytest.raises(FactoryError, match="'sandbox/math' is part of the factory"):
        resolve_dataset("sandbox/math", "main", "r.yaml:5", tmp_path, TRAIN)


@pytest.mark.parametrize("name", DATASETS)
def test_a_sandbox_dataset_at_hand_is_the_one_a_run_reads(name: str, tmp_path: Path) -> None:
    source = data(tmp_path, f"sandbox/{name}")
    made = materialise(source, tmp_path / "cache")
    with at_hand(source) as folder:
        assert folder is not None
        for file in made.rglob("*.parquet"):
            same = (folder / file.relative_to(made)).with_suffix(".jsonl")
            assert list(read_rows([same], None, None)) == list(read_rows([file], None, None))
    with at_hand(source) as again:
        assert again == folder  # a plan asks for it several times


def test_a_sandbox_dataset_at_hand_goes_with_the_process(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from factory.sources import *; from factory.data.files import Wanted;"
        "source = resolve_dataset('sandbox/myths', None, '', Path(), Wanted(None, ('validation',)));"
        "exec('with at_hand(source) as folder: print(folder.is_dir())')"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (model(tmp_path / "m") / "config.json").unlink()
    assert "model 'm': there is no config.json" in refused(tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (model(tmp_path / "m") / "model.safetensors").unlink()
    assert "model 'm': the weights file model.safetensors is missing" in refused(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused(name: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / name)
    assert "model 'm': the weights are pickle files. Save the model again with safetensors" in refused(
        tmp_path
    )


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    (folder / "model.safetensors").rename(folder / shards["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert "the weights file model-2-of-2.safetensors is missing" in refused(tmp_path)


def test_weights_that_were_never_fetched_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "not a safetensors file" in refused(tmp_path)


def own_code(folder: Path, file: str, **changes: str) -> None:
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**content, **changes, "auto_map": {"AutoConfig": "m.M"}}))


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    own_code(model(tmp_path / "m"), "config.json", model_type="mine")
    assert "wants code of its own to be run (auto_map in config.json)" in refused(tmp_path)


def test_a_tokenizer_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    own_code(model(tmp_path / "m"), "tokenizer_config.json")
    assert "the tokenizer wants code of its own to be run" in refused(tmp_path)


def test_code_that_transformers_does_without_is_no_matter(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    own_code(folder, "config.json")
    own_code(folder, "tokenizer_config.json")
    assert resolve_model("./m", None, "here", tmp_path).path == folder


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (model(tmp_path / "m") / "tokenizer.json").unlink()
    assert "the folder has no tokenizer" in refused(tmp_path)


def test_a_family_without_a_row_is_refused(tmp_path: Path) -> None:
    model(tmp_path / "m", model_type="no_such")
    assert "model_type 'no_such'" in refused(tmp_path)


def data(folder: Path, reference: str, wanted: Wanted = TRAIN) -> Source:
    return resolve_dataset(reference, None, "r.yaml:5", folder, wanted)


def test_a_dataset_is_fingerprinted_by_the_files_that_are_read(tmp_path: Path) -> None:
    jsonl(tmp_path / "d" / "train.jsonl", *ROWS)
    jsonl(tmp_path / "d" / "test.jsonl", *ROWS)
    before = data(tmp_path, "d").fingerprint
    jsonl(tmp_path / "d" / "test.jsonl", *ROWS[:1])
    assert data(tmp_path, "d").fingerprint == before
    jsonl(tmp_path / "d" / "train.jsonl", *ROWS[:1])
    assert data(tmp_path, "d").fingerprint != before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("main"), "no config 'main'"),
        (Wanted(None, ("tarin",)), "no split 'tarin'. Write 'train'"),
        (Wanted(None, ("test", "dev"), every_config=True), "no config with a split 'test'"),
    ],
)
def test_a_part_that_is_not_there_is_refused(wanted: Wanted, words: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "d" / "train.jsonl", *ROWS)
    with pytest.raises(FactoryError) as caught:
        data(tmp_path, "d", wanted)
    assert str(caught.value).startswith("r.yaml:5: ") and words in str(caught.value)


def test_an_unknown_sandbox_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match=r"no dataset 'sandbox/maths'\. Write 'sandbox/math'"):
        data(tmp_path, "sandbox/maths")
    assert "no model 'sandbox/bse'. Write 'sandbox/base'" in refused(tmp_path, "sandbox/bse")


def test_a_sandbox_dataset_is_written_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from factory import sandbox

    def write(name: str, folder: Path) -> None:
        jsonl(folder / f"{name}.jsonl", *ROWS)

    monkeypatch.setattr(sandbox, "write_dataset", write)
    source = data(tmp_path, "sandbox/math")
    folder = materialise(source, tmp_path / "cache")
    assert list_files(folder) == ["math.jsonl"]

    def fail(name: str, folder: Path) -> None:
        write(name, folder)
        raise OSError("disk full")

    monkeypatch.setattr(sandbox, "write_dataset", fail)
    assert materialise(source, tmp_path / "cache") == folder
    (folder / "math.jsonl").unlink()
    with pytest.raises(OSError, match="disk full"):
        materialise(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
