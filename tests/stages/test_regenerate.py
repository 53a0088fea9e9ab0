"""Regeneration: every row kept, in file order, never twice, whatever interrupts it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory import prompts
from factory.data.rows import DataSpec
from factory.data.selection import REASONS
from factory.engines import Answered, load
from factory.errors import FactoryError
from factory.stages import generations, regenerate
from factory.stages.regenerate import Settings

ROWS = 12
COLUMNS = [
    "instruction", "context", "original", "regenerated", "response", "kept", "reason", "new_tokens",
    "samples", "likelihood_original", "likelihood_regenerated",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset folder, and the tiny model with many stop tokens, so that some rows end in time."""
    folder = tmp_path_factory.mktemp("regenerate")
    shutil.copytree(tiny_model, folder / "model")
    path = folder / "model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [0, *range(5, 260, 13)]}))
    (folder / "data").mkdir()
    rows = [
        {"instruction": f"Say {'very ' * (i % 5)}little about {i}", "context": "", "response": f"It is {i}."}
        for i in range(ROWS)
    ]
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"base": folder / "model", "data": folder / "data"}


def settings(**changes: Any) -> Settings:
    data = DataSpec(name="little", check=changes.pop("check", "none"))
    return Settings(**{"data": data, "max_new_tokens": 12, "batch_size": 4, **changes})


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


def run(inputs: dict[str, Path], out: Path, progress: Any = quiet, **changes: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True, parents=True)
    return regenerate.run(settings(**changes), inputs, out, progress)


def table(out: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    return load_dataset(str(out), split="train").to_list()


def parquet(out: Path) -> bytes:
    return (out / "data" / "train-00000.parquet").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    run(inputs, out)
    return out


def test_every_row_is_there_in_file_order_with_both_responses(undisturbed: Path) -> None:
    rows = table(undisturbed)
    assert list(rows[0]) == COLUMNS
    assert [row["original"] for row in rows] == [f"It is {i}." for i in range(ROWS)]
    assert {row["kept"] for row in rows} == {"original", "regenerated"}
    for row in rows:
        assert row["response"] == row[row["kept"]]
        assert (row["kept"] == "regenerated") == (row["reason"] == "ok")
        assert row["reason"] in REASONS


def test_the_facts_are_those_of_the_rows(inputs: dict[str, Path], tmp_path: Path) -> None:
    said = []
    facts = run(inputs, tmp_path, lambda *words: said.append(words[:3]))
    rows = table(tmp_path)
    assert facts["rows"] == ROWS
    assert facts["reasons"] == Counter(row["reason"] for row in rows)
    assert facts["kept_regenerated"] == facts["reasons"]["ok"]
    assert facts["new_tokens"] == sum(row["new_tokens"] for row in rows)
    assert facts["tokens_per_second"] > 0
    assert -9 < facts["mean_logprob"] < 0
    for example in facts["examples"]:
        assert example in [{column: row[column] for column in example} for row in rows]
    assert {example["reason"] for example in facts["examples"]} == set(facts["reasons"])
    assert said == [(done, ROWS, "rows") for done in range(ROWS + 1)]
    [line] = facts["said"]
    assert line.startswith(
        f"regenerated responses kept for {facts['kept_regenerated']} of 12 rows (originals"
    )
    assert f"truncated {facts['reasons']['truncated']}" in line


def test_rows_do_not_depend_on_the_batches(
    inputs: dict[str, Path], undisturbed: Path, tmp_path: Path
) -> None:
    run(inputs, tmp_path, batch_size=3)
    assert parquet(tmp_path) == parquet(undisturbed)


def test_a_response_that_is_cut_off_gives_way_to_the_original(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    facts = run(inputs, tmp_path, max_new_tokens=1)
    rows = table(tmp_path)
    assert facts["reasons"]["truncated"] > 0
    assert all(row["response"] == row["original"] for row in rows if row["reason"] == "truncated")


def test_a_response_that_lost_the_answer_gives_way_to_the_original(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    facts = run(inputs, tmp_path, check="final_number")
    assert facts["reasons"].keys() & {"answer differs", "no answer found"}
    kept = {row["reason"] for row in table(tmp_path) if row["kept"] == "regenerated"}
    assert kept <= {"ok"}


class Stop(Exception):  # noqa: N818
    """Breaks a run from inside."""


def stop_after(rows: int) -> Any:
    def progress(done: int, total: int, unit: str, note: str = "") -> None:
        if done == rows:
            raise Stop

    return progress


def test_rows_already_written_are_not_generated_again(
    inputs: dict[str, Path], undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(inputs, tmp_path, stop_after(5))
    journal = tmp_path / "generations" / "00000.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(lines) == 5
    lines[0]["generated"].update(text="kept from before", finish="stop")
    torn = '{"row": 11, "sam'
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    with pytest.raises(Stop):
        run(inputs, tmp_path, stop_after(8))
    run(inputs, tmp_path)
    rows, others = table(tmp_path), table(undisturbed)
    assert rows.pop(lines[0]["row"])["regenerated"] == "kept from before"
    others.pop(lines[0]["row"])
    assert rows == others


def test_the_teacher_sees_the_reference_only_when_told_so(inputs: dict[str, Path], tmp_path: Path) -> None:
    read = {}
    for sees in ("reference", "question"):
        out = tmp_path / sees
        with pytest.raises(Stop):
            run(inputs, out, stop_after(ROWS), sees=sees)
        lines = (json.loads(line) for line in (out / "generations/00000.jsonl").read_text().splitlines())
        read[sees] = {line["row"]: line["generated"]["prompt_tokens"] for line in lines}
    instruction = "Say little about 0"
    assert read["question"][0] == len(instruction) + 3  # the turns' marks are a token each
    assert all(read["reference"][i] > read["question"][i] + len("It is 0.") for i in range(ROWS))


def test_a_kill_at_a_row_changes_nothing_in_the_end(
    inputs: dict[str, Path], undisturbed: Path, tmp_path: Path
) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from factory.stages import generations, regenerate

def progress(done, total, unit, note=""):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

settings = regenerate.Settings.model_validate_json(sys.argv[1])
regenerate.run(settings, {"base": Path(sys.argv[2]), "data": Path(sys.argv[3])}, Path(sys.argv[4]), progress)
"""
    words = [settings().model_dump_json(), str(inputs["base"]), str(inputs["data"]), str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", script, *words], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert len((tmp_path / "generations/00000.jsonl").read_bytes().splitlines()) == 6
    said: list[int] = []
    run(inputs, tmp_path, lambda done, *_: said.append(done))
    assert said == list(range(6, ROWS + 1))
    assert parquet(tmp_path) == parquet(undisturbed)


def test_interruptions_anywhere_change_nothing_in_the_end(
    inputs: dict[str, Path], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (2, 3, 9):
        with pytest.raises(Stop):
            run(inputs, tmp_path, stop_after(rows), batch_size=rows)
    run(inputs, tmp_path)
    assert parquet(tmp_path) == parquet(undisturbed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "data"]


def test_many_pieces_hold_the_same_rows_in_order(
    inputs: dict[str, Path], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "PIECE", 5)
    with pytest.raises(Stop):
        run(inputs, tmp_path, stop_after(7))
    assert len(list((tmp_path / "generations").iterdir())) > 1
    facts = run(inputs, tmp_path)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        f"train-{i:05}.parquet" for i in range(3)
    ]
    assert table(tmp_path) == table(undisturbed)
    assert (facts["rows"], sum(facts["reasons"].values())) == (ROWS, ROWS)


BEST = {"select": "best_of", "samples": 2, "temperature": 1.0, "seed": 5}


def test_best_of_draws_no_sample_behind_one_that_checks_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(inputs, tmp_path / "cut", stop_after(5), **BEST)
    for out, size in (("cut", 3), ("whole", 64)):
        run(inputs, tmp_path / out, batch_size=size, **BEST)
    assert parquet(tmp_path / "cut") == parquet(tmp_path / "whole")
    rows = table(tmp_path / "whole")
    tries = {row["samples"] for row in rows if row["kept"] == "regenerated"}
    assert len(tries) > 1
    assert {row["samples"] for row in rows if row["kept"] == "original"} == {2}


def test_likeliest_takes_the_likelier_text_and_writes_both_figures(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    chosen = {"select": "likeliest", "samples": 3, "temperature": 1.0}
    run(inputs, tmp_path / "one", **chosen)
    run(inputs, tmp_path / "other", batch_size=3, **chosen)
    rows = table(tmp_path / "one")
    assert [row["response"] for row in rows] == [row["response"] for row in table(tmp_path / "other")]
    assert all(row["samples"] == 3 for row in rows)
    for row in rows:
        mine, theirs = row["likelihood_regenerated"], row["likelihood_original"]
        if row["reason"] in ("ok", "original likelier"):
            assert (mine > theirs) == (row["kept"] == "regenerated")
        else:
            assert mine is None
    assert sum(row["likelihood_original"] is not None for row in rows) > 3


def test_an_original_that_the_model_has_no_room_for_has_no_likelihood(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """And gives way; JSON has no number for what is infinitely unlikely."""
    (tmp_path / "data").mkdir()
    source = (inputs["data"] / "train.jsonl").read_text().splitlines()
    long = (json.dumps({**json.loads(line), "response": "It is long. " * 100}) + "\n" for line in source)
    (tmp_path / "data" / "train.jsonl").write_text("".join(long))
    chosen = {"select": "likeliest", "samples": 3, "temperature": 1.0, "sees": "question"}
    facts = run({**inputs, "data": tmp_path / "data"}, tmp_path / "roomless", **chosen)
    kept = [row for row in table(tmp_path / "roomless") if row["kept"] == "regenerated"]
    assert len(kept) == facts["reasons"]["ok"] > 3
    assert all(row["likelihood_original"] is None and row["likelihood_regenerated"] < 0 for row in kept)
    json.dumps(facts, allow_nan=False)


def test_likelihoods_are_those_of_training_without_the_reference(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path, select="likeliest", samples=3, temperature=1.0)
    rows = [row for row in table(tmp_path) if row["likelihood_original"] is not None]
    asked = [tuple(prompts.messages("instruct", row["instruction"])) for row in rows]
    engine = load("transformers", inputs["base"], 4)
    for which in ("original", "regenerated"):
        chats = (Answered(i, said, row[which]) for i, (said, row) in enumerate(zip(asked, rows, strict=True)))
        found = dict(engine.likelihoods(chats))
        for i, row in enumerate(rows):
            assert row[f"likelihood_{which}"] == pytest.approx(found[i], abs=1e-3)
    assert len(rows) > 3


def test_a_chat_is_asked_with_the_turns_before_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello you"}]
    rows = [{"instruction": "And?", "context": json.dumps(said), "response": "Well."}]
    rows.append({"instruction": "And?", "context": "no chat", "response": "Well."})
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = {"base": inputs["base"], "data": data}
    spec = DataSpec(name="talk", prompt="chat", rows=1)
    run(places, tmp_path / "out", data=spec)
    assert table(tmp_path / "out")[0]["context"] == rows[0]["context"]
    with pytest.raises(FactoryError, match=r"row 1 \(from 0\) of dataset 'talk' is no chat"):
        run(places, tmp_path / "broken", data=spec.model_copy(update={"rows": 2}))
