"""Drafts: what a model reads is what assisted generation accepts; batches and kills change nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from written import jsonl

from factory import sandbox
from factory.data.rows import DataSpec
from factory.drafts import assisted, speculative
from factory.drift import heldout
from factory.errors import FactoryError
from factory.models import load
from factory.stages import draft, respond
from factory.texts import text as files
from factory.texts.measures import proposed, tie
from factory.texts.reader import Reader
from factory.texts.text import Text

ASKED = ["Name a colour.", "What is 3 + 4?", "Where do bears live, and since when?", "Say it.", "Why?", "Who"]


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


@pytest.fixture(scope="module")
def pruned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without its last blocks."""
    import shutil

    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("draft") / "model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.layers = model.model.layers[:4]
    model.config.num_hidden_layers = 4
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:4]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    jsonl(folder / "train.jsonl", *({"instruction": text, "response": "x"} for text in ASKED))
    return folder


def written(target: Path, data: Path, out: Path, **changes: Any) -> Path:
    """The target's texts behind the questions."""
    out.mkdir(parents=True, exist_ok=True)
    options = {"max_new_tokens": 24, "seed": 5, **changes}
    respond.run(
        respond.Settings(data=DataSpec(name="asked"), **options), {"target": target, "data": data}, out, quiet
    )
    return out


@pytest.fixture(scope="module")
def responses(tiny_model: Path, asked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tiny_model, asked, tmp_path_factory.mktemp("respond") / "out")


def texts(folder: Path, mode: files.Mode) -> list[Text]:
    return [text for piece in files.read(folder, mode) for text in piece]


SETTINGS = draft.Settings(
    sets=(draft.Set(name="asked", kind="instruct"),), max_new_tokens=24, prompts=3, rounds=1
)


@pytest.fixture(scope="module")
def drafted(
    tiny_model: Path, pruned: Path, responses: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("drafted") / "out"
    out.mkdir()
    inputs = {"target": tiny_model, "model": pruned, "responses.asked": responses}
    return out, draft.run(SETTINGS, inputs, out, quiet)


def test_greedy_texts_are_what_the_target_generates_alone(tiny_model: Path, responses: Path) -> None:
    model = load.causal_lm(tiny_model)
    found = texts(responses, "greedy")
    assert [text.row for text in found] == list(range(len(ASKED)))
    for text in found:
        ids = torch.tensor([text.prompt])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert whole[0, ids.shape[1] :].tolist() == text.response
        assert (text.response[-1] == 0) == (text.finish == "stop")


def test_sampled_texts_follow_their_seed_alone(tiny_model: Path, asked: Path, tmp_path: Path) -> None:
    one = texts(written(tiny_model, asked, tmp_path / "a"), "sampled")
    fewer = texts(written(tiny_model, asked, tmp_path / "b", rows=2), "sampled")
    assert fewer == one[:2]
    assert texts(written(tiny_model, asked, tmp_path / "c", rows=2, seed=6), "sampled") != fewer


def test_open_text_is_gone_on_with_from_its_beginning(tiny_model: Path, tmp_path: Path) -> None:
    jsonl(tmp_path / "data" / "train.jsonl", {"text": "a" * 100}, {"text": "abcd"})
    out = written(tiny_model, tmp_path / "data", tmp_path / "out", kind="text", prompt_tokens=10)
    assert [len(text.prompt) for text in texts(out, "greedy")] == [10, 2]


def step_lists(
    target: Path, model: Path, found: list[Text], k: int, longest: int
) -> list[tuple[list[int], list[int]]]:
    """For each text the steps that reading tells and those that transformers takes."""
    ours, theirs = load.causal_lm(target), load.causal_lm(model)
    decoder = assisted.Decoder(ours, theirs, [0])
    lists = []
    for text, read in Reader(proposed(tie(theirs)), theirs, where="draft").read(found):
        done = decoder.assisted(text.prompt, longest, k)
        assert done.tokens == text.response
        lists.append((speculative.step_list((read["accept"] > 0.5).tolist(), k), done.steps))
    return lists


@pytest.mark.parametrize("k", [1, 3, 8])
def test_assisted_generation_takes_the_steps_that_reading_tells(
    tiny_model: Path, pruned: Path, responses: Path, k: int
) -> None:
    for told, taken in step_lists(tiny_model, pruned, texts(responses, "greedy"), k, 24):
        assert told == taken


def test_a_model_is_its_own_perfect_draft(tiny_model: Path, responses: Path) -> None:
    model = load.causal_lm(tiny_model)
    for _, read in Reader(proposed(tie(model)), model, where="draft").read(texts(responses, "greedy")):
        assert read["accept"].all()


def test_the_record_tells_what_the_files_hold(drafted: tuple[Path, dict[str, Any]], responses: Path) -> None:
    out, facts = drafted
    table = pq.read_table(out / "asked" / "greedy").to_pylist()
    flags = [[value > 0.5 for value in row["accept"]] for row in table]
    tokens = [len(text.response) for text in texts(responses, "greedy")]
    assert [len(one) for one in flags] == tokens
    lists = [step_list for one in flags for step_list in speculative.step_list(one, 4)]
    assert facts["greedy"]["asked"]["k"][3]["accepted"]["value"] == pytest.approx(np.mean(lists))
    assert facts["greedy"]["all"]["rate"]["value"] == pytest.approx(sum(map(sum, flags)) / sum(tokens))
    assert facts["sets"]["asked"] == {
        "kind": "instruct", "trained": False, "texts": len(ASKED), "tokens": sum(tokens), "regenerated": 0,
        "held_out": 0,
    }  # fmt: skip
    assert facts["blocks"] == {"draft": 4, "target": 6}
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_the_timed_runs_take_the_steps_they_should(drafted: tuple[Path, dict[str, Any]]) -> None:
    measured = drafted[1]["measured"]
    assert {row["k"] for row in measured["by_k"]} >= {1, 2, 4, 8}
    for row in measured["by_k"]:
        assert row["same_text"] == row["same_steps"] == measured["prompts"] == 3
        assert row["assisted"] > 0 and row["step"] > 0 and 1 <= row["written"] <= row["k"] + 1
        assert row["expected"] > 0
    assert measured["plain"] > 0 and 1 / measured["token"] == pytest.approx(measured["plain"])


def test_what_is_told_first_is_the_fastest_that_was_measured(drafted: tuple[Path, dict[str, Any]]) -> None:
    measured = drafted[1]["measured"]
    best = max(measured["by_k"], key=lambda row: row["speed_up"]["value"])
    assert {name: measured[name] for name in best} == best
    assert measured["by_set"]["asked"] == {"k": best["k"], "speed_up": best["speed_up"], "prompts": 3}


def test_the_expected_speed_is_with_what_generation_costs_besides(
    drafted: tuple[Path, dict[str, Any]],
) -> None:
    facts = drafted[1]
    expected = {row["k"]: row["value"] for row in facts["expected"]["greedy"]}
    assert expected != {row["k"]: row["value"] for row in facts["forward"]["greedy"]}
    assert facts["best"]["greedy"]["value"] == max(expected.values())


def test_sets_that_variants_were_trained_on_are_no_part_of_the_whole(
    tiny_model: Path, pruned: Path, responses: Path, asked: Path, tmp_path: Path
) -> None:
    seen = written(tiny_model, asked, tmp_path / "seen", seed=6)
    sets = (*SETTINGS.sets, draft.Set(name="seen", kind="instruct", trained=True))
    inputs = {"target": tiny_model, "model": pruned, "responses.asked": responses, "responses.seen": seen}
    (tmp_path / "out").mkdir()
    facts = draft.run(SETTINGS.model_copy(update={"sets": sets}), inputs, tmp_path / "out", quiet)
    assert facts["sets"]["seen"]["trained"] and facts["greedy"]["seen"]["texts"] == len(ASKED)
    assert facts["greedy"]["all"]["texts"] == facts["greedy"]["asked"]["texts"] == len(ASKED)
    assert facts["sampled"]["all"]["rate"] == facts["sampled"]["asked"]["rate"]
    assert set(facts["measured"]["by_set"]) == {"asked"}  # nor are they timed


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from factory.json_lines import JsonLines
from factory.stages import draft
from factory.texts import reader
reader.BATCH_TOKENS = 90
out, inputs = Path(sys.argv[1]), {k: Path(v) for k, v in json.loads(sys.argv[2]).items()}
settings = draft.Settings.model_validate_json(sys.argv[3])
add, left = JsonLines.add, [int(sys.argv[4])]
def counted(self, rows):
    add(self, rows)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
JsonLines.add = counted
found = draft.run(settings, inputs, out, lambda *told: None)
print(json.dumps({mode: found[mode] for mode in ("greedy", "sampled")}))
"""


@pytest.mark.slow
def test_a_killed_step_goes_on_where_it_was(
    tiny_model: Path, pruned: Path, responses: Path, tmp_path: Path
) -> None:
    inputs = json.dumps({"target": str(tiny_model), "model": str(pruned), "responses.asked": str(responses)})

    def step(name: str, batches: int) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / name), inputs]
        return subprocess.run(
            [*command, SETTINGS.model_dump_json(), str(batches)], capture_output=True, text=True
        )

    assert step("killed", 2).returncode == -signal.SIGKILL
    lines = tmp_path / "killed" / "journal" / "asked" / "greedy-00000.jsonl"
    with lines.open("ab") as file:
        file.write(b'{"row": 5, "acc')  # and torn
    again, straight = step("killed", 1000), step("straight", 1000)
    assert again.returncode == 0, again.stderr
    assert again.stdout == straight.stdout and straight.stdout
    for mode in files.MODES:
        read = [pq.read_table(tmp_path / name / "asked" / mode) for name in ("killed", "straight")]
        assert read[0].equals(read[1])


def other_tokens(model: Path, folder: Path) -> Path:
    """The model with two tokens that have changed places: as many tokens, but others."""
    import shutil

    shutil.copytree(model, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_other_tokens_are_refused(tiny_model: Path, responses: Path, tmp_path: Path) -> None:
    other = other_tokens(tiny_model, tmp_path / "other")
    inputs = {"target": tiny_model, "model": other, "responses.asked": responses}
    with pytest.raises(FactoryError, match="vocabularies of draft and target differ: token") as refused:
        draft.run(SETTINGS, inputs, tmp_path, quiet)
    assert refused.value.where == "draft.target"


def test_a_model_without_a_cache_of_keys_is_refused(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(FactoryError, match="no token can be taken back"):
        assisted.refuse_cacheless(MambaForCausalLM(config).eval(), tmp_path / "mamba", "draft.models")


def test_regenerated_responses_are_taken_over_where_the_target_would_write_them_again(tmp_path: Path) -> None:
    model = sandbox.model_folder()
    questions = ["What is 12 + 30?", "What is 7 + 8?", "What does a florp eat?", "What is 3 + 5?"]
    jsonl(tmp_path / "data" / "train.jsonl", *({"instruction": one, "response": "x"} for one in questions))
    plain = texts(written(model, tmp_path / "data", tmp_path / "plain", max_new_tokens=64), "greedy")
    assert all(text.finish == "stop" for text in plain)
    tokenizer = load.tokenizer(model)
    said = [tokenizer.decode(text.response, skip_special_tokens=True) for text in plain]
    said[1] += " No"  # not what the target says
    counts = [len(text.response) for text in plain]
    counts[3] += 5  # not split into the tokens that were generated
    rows = {
        "instruction": questions, "context": [""] * 4, "regenerated": said, "new_tokens": counts,
    }  # fmt: skip
    (tmp_path / "regenerated" / "data").mkdir(parents=True)
    pq.write_table(pa.table(rows), tmp_path / "regenerated" / "data" / "train-00000.parquet")
    inputs = {"target": model, "data": tmp_path / "data", "regenerated": tmp_path / "regenerated"}
    (tmp_path / "out").mkdir()
    settings = respond.Settings(data=DataSpec(name="asked"), max_new_tokens=64, seed=5)
    facts = respond.run(settings, inputs, tmp_path / "out", quiet)
    found = texts(tmp_path / "out", "greedy")
    assert [text.source for text in found] == ["regenerated", "generated", "regenerated", "generated"]
    assert [text.response for text in found] == [text.response for text in plain]
    assert facts["greedy"]["sources"] == {"generated": 2, "regenerated": 2, "held_out": 0}
    assert facts["sampled"]["sources"]["regenerated"] == 0


def test_what_drift_had_the_base_answer_is_taken_over_where_it_is_long_enough(
    tiny_model: Path, asked: Path, responses: Path, tmp_path: Path
) -> None:
    found = texts(responses, "greedy")
    longer, short, wrong = sorted(found, key=lambda text: len(text.response), reverse=True)[:3]
    assert len(longer.response) > 20 and len(short.response) > 3 and wrong.response[0] != 7
    shorter = Text(short.row, short.prompt, short.response[:3], "length")  # there may be more behind it
    other = Text(wrong.row, wrong.prompt, [7, *wrong.response[1:]], wrong.finish)  # not what it says
    files.write(tmp_path / "drift", "greedy", 0, [shorter, longer, other])
    (tmp_path / "out").mkdir()
    settings = respond.Settings(data=DataSpec(name="asked"), max_new_tokens=20, seed=5)
    inputs = {"target": tiny_model, "data": asked, "held_out": tmp_path / "drift"}
    facts = respond.run(settings, inputs, tmp_path / "out", quiet)
    taken = texts(tmp_path / "out", "greedy")
    assert [text.row for text in taken if text.source == "held_out"] == [longer.row]
    assert [text.response for text in taken] == [text.response[:20] for text in found]
    assert facts["greedy"]["sources"] == {"generated": len(ASKED) - 1, "regenerated": 0, "held_out": 1}


def test_prompts_that_drift_draws_are_those_that_are_drawn_here(
    tiny_model: Path, asked: Path, tmp_path: Path
) -> None:
    spec = DataSpec(name="asked")
    seen = spec.model_copy(update={"rows": None})
    wanted = heldout.draw(heldout.HeldOut(data=spec, seen=seen, rows=4, seed=3), asked, nothing(tmp_path), 0)
    out = written(tiny_model, asked, tmp_path / "out", rows=4, draw=3)
    rows = [text.row for text in texts(out, "greedy")]
    assert rows == [prompt.row for prompt in wanted.prompts] and rows != [0, 1, 2, 3]
    whole = {text.row: text for text in texts(written(tiny_model, asked, tmp_path / "all"), "sampled")}
    assert texts(out, "sampled") == [whole[row] for row in rows]


def nothing(folder: Path) -> Path:
    """A dataset that asks nothing of what is asked."""
    jsonl(folder / "nothing" / "train.jsonl", {"instruction": "Never asked", "response": "x"})
    return folder / "nothing"


def test_texts_end_where_models_of_fewer_positions_do(
    tiny_model: Path, asked: Path, responses: Path, tmp_path: Path
) -> None:
    whole = texts(responses, "greedy")
    prompts = sorted(len(text.prompt) for text in whole)
    limit = prompts[-1]  # the longest prompt has no room
    out = tmp_path / "out"
    out.mkdir()
    options = respond.Settings(data=DataSpec(name="asked"), max_new_tokens=24, seed=5, positions=limit)
    facts = respond.run(options, {"target": tiny_model, "data": asked}, out, quiet)
    found = texts(out, "greedy")
    assert facts["greedy"]["no_room"] == len(whole) - len(found) > 0
    kept = {text.row: text for text in whole}
    for text in found:
        before, room = kept[text.row], limit - len(text.prompt)
        assert text.response == before.response[:room]
        assert text.finish == ("length" if len(before.response) > room else before.finish)
    assert max(map(len, found)) == limit


def test_a_prompt_without_room_is_counted_and_left_out(tiny_model: Path, tmp_path: Path) -> None:
    jsonl(
        tmp_path / "data" / "train.jsonl",
        {"instruction": "a" * 2000, "response": "x"},
        {"instruction": "a", "response": "x"},
    )
    out = tmp_path / "out"
    out.mkdir()
    options = respond.Settings(data=DataSpec(name="long"), max_new_tokens=4)
    facts = respond.run(options, {"target": tiny_model, "data": tmp_path / "data"}, out, quiet)
    assert facts["greedy"]["no_room"] == 1 and [text.row for text in texts(out, "greedy")] == [1]
