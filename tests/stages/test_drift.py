"""The stage drift: what it asks, answers and measures, against plain computations; killed, it goes on."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from factory.data.rows import DataSpec, TextSpec
from factory.drift.heldout import HeldOut
from factory.engines.chats import Chats
from factory.errors import FactoryError
from factory.models import load
from factory.stages import drift
from factory.texts import text as files
from factory.texts.text import Text

ROOT = Path(__file__).parents[2]
TRAINED, PROMPTS, TEXTS = 8, 7, 5
FILES = (
    "greedy/00000.parquet", "responses.parquet", "embeddings.npy", "text.parquet", "drift.parquet",
)  # fmt: skip


def rows(path: Path, questions: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"instruction": q, "context": "", "response": f"{q}!"}) for q in questions]
    path.write_text("\n".join(lines))
    return path.parent


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model with many stop tokens as base, the same with other weights as model, and data."""
    folder = tmp_path_factory.mktemp("drift")
    shutil.copytree(tiny_model, folder / "base")
    path = folder / "base" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [0, *range(5, 260, 9)]}))
    shutil.copytree(folder / "base", folder / "model")
    model = load.causal_lm(tiny_model)
    torch.manual_seed(3)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.03 * torch.randn_like(weights)
    model.save_pretrained(folder / "model")
    shutil.copy(path, folder / "model" / path.name)  # which stops where the base does
    train = [f"Say {'very ' * (i % 4)}little about {i}" for i in range(TRAINED)]
    data = rows(folder / "data" / "train.jsonl", train)
    # Of the held-out rows one is a training row in other letters, one stands there twice.
    test = [train[2].upper(), *(f"What of {i}{'?' * (i % 3)}" for i in range(PROMPTS)), "What of 1?"]
    rows(folder / "data" / "test.jsonl", test)
    texts = folder / "texts"
    texts.mkdir()
    (texts / "train.jsonl").write_text(
        "\n".join(json.dumps({"text": f"text {i} " * (i + 1)}) for i in range(TEXTS))
    )
    return {
        "base": folder / "base", "model": folder / "model", "text": texts,
        "held_out.little": data, "trained.little": data,
    }  # fmt: skip


def settings(**changes: Any) -> drift.Settings:
    spec = DataSpec(name="little")
    held = HeldOut(data=spec.model_copy(update={"split": "test"}), seen=spec, rows=changes.pop("rows", 50))
    text = {"data": TextSpec(name="general text"), "max_tokens": 40, "called": "texts"}
    chosen = {"held_out": (held,), "max_new_tokens": 10, "batch_size": 3, "text": text, "bootstrap": 200}
    return drift.Settings(**{**chosen, **changes})


def quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """No progress."""


def run(inputs: dict[str, Path], out: Path, progress: Any = quiet, **changes: Any) -> dict[str, Any]:
    out.mkdir(exist_ok=True, parents=True)
    return drift.run(settings(**changes), inputs, out, progress)


def base_inputs(inputs: dict[str, Path]) -> dict[str, Path]:
    return {role: place for role, place in inputs.items() if role != "model"}


@pytest.fixture(scope="module")
def base(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("base")
    return out, run(base_inputs(inputs), out)


@pytest.fixture(scope="module")
def measured(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("model")
    return out, run({**inputs, "drift": base[0]}, out, held_out=())


def test_prompts_are_held_out_rows_that_training_does_not_read(base: tuple[Path, dict[str, Any]]) -> None:
    found = base[1]["prompts"]["little"]
    assert found == {
        "split": "test", "skipped": 0, "asked": 50, "rows": PROMPTS, "held_out": PROMPTS + 2,
        "overlapping": 1, "repeated": 1,
    }  # fmt: skip
    assert base[1]["said"] == [
        "little: 1 held-out row left out, which training reads too",
        f"little: only {PROMPTS} held-out prompts of 50 asked for",
    ]


def texts(folder: Path) -> list[Text]:
    """The base's answers."""
    (found,) = files.read(folder, "greedy")
    return found


def test_the_base_answers_as_it_does_alone(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]]
) -> None:
    model, chats = load.causal_lm(inputs["base"]), Chats(inputs["base"])
    found = pq.read_table(base[0] / "responses.parquet").to_pylist()
    assert {text.finish for text in texts(base[0])} == {"stop", "length"}
    for row, text in zip(found, texts(base[0]), strict=True):
        assert text.prompt == chats.prompt(json.loads(row["messages"]))
        prompt = torch.tensor([text.prompt])
        made = model.generate(prompt, max_new_tokens=10, do_sample=False)[0, prompt.shape[1] :].tolist()
        assert text.response == made
        assert row["response"] == chats.text(made)


def test_figures_are_what_a_plain_computation_gives(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], measured: tuple[Path, dict[str, Any]]
) -> None:
    models, chats = [load.causal_lm(inputs[role]) for role in ("base", "model")], Chats(inputs["base"])
    rewritten = 0
    kl = agreed = tokens = 0.0
    nll = [0.0, 0.0]
    for text in texts(base[0]):
        ids, start = [*text.prompt, *text.response], len(text.prompt)
        rewritten += chats.tokenizer(chats.text(text.response))["input_ids"] != text.response
        with torch.no_grad():
            logs = [one(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1) for one in models]
        for t in range(start, len(ids)):
            p, q = (log[t - 1] for log in logs)
            kl += float((p.exp() * (p - q)).sum())
            agreed += int(p.argmax() == q.argmax())
            nll = [total - float(log[t - 1, ids[t]]) for total, log in zip(nll, logs, strict=True)]
            tokens += 1
    facts = measured[1]
    assert rewritten  # the words alone are not always split into the tokens that were generated
    assert facts["tokens"] == base[1]["tokens"] == tokens
    assert facts["kl"]["value"] == pytest.approx(kl / tokens, rel=1e-4) and kl > 0.01
    assert facts["agreement"]["value"] == pytest.approx(agreed / tokens)
    assert facts["perplexity_base"]["value"] == pytest.approx(math.exp(nll[0] / tokens), rel=1e-5)
    assert facts["perplexity"]["value"] == pytest.approx(math.exp(nll[1] / tokens), rel=1e-5)
    assert base[1]["perplexity"]["value"] == pytest.approx(facts["perplexity_base"]["value"], rel=1e-6)
    assert facts["datasets"]["little"]["kl"] == facts["kl"]


def test_similarity_is_the_cosine_of_mean_hidden_states(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], measured: tuple[Path, dict[str, Any]]
) -> None:
    backbone, encode = load.backbone(inputs["base"]), load.tokenizer(inputs["base"])

    def vector(text: str) -> torch.Tensor:
        with torch.no_grad():
            return backbone(**encode(text, return_tensors="pt")).last_hidden_state[0].double().mean(0)

    theirs = pq.read_table(base[0] / "responses.parquet").to_pylist()
    ours = pq.read_table(measured[0] / "drift.parquet").to_pylist()
    for one, other in zip(theirs, ours, strict=True):
        if one["response"] == other["response"]:
            assert (other["similarity"], other["identical"]) == (1.0, 1.0)
        elif one["response"].strip() and other["response"].strip():
            wanted = torch.nn.functional.cosine_similarity(
                vector(one["response"]), vector(other["response"]), 0
            )
            assert other["similarity"] == pytest.approx(float(wanted), abs=1e-5)
            assert other["identical"] == 0.0
    value = measured[1]["similarity"]["value"]
    assert value == pytest.approx(np.mean([row["similarity"] for row in ours])) and value < 1
    assert measured[1]["embedding"]["name"] == "the base's own mean hidden state"
    assert base[1]["embedding"]["unrelated"]["value"] < 1


def test_perplexity_of_general_text(inputs: dict[str, Path], measured: tuple[Path, dict[str, Any]]) -> None:
    encode, told = load.tokenizer(inputs["base"]), measured[1]["text"]
    for role, name in (("model", "perplexity"), ("base", "perplexity_base")):
        model, nll, tokens = load.causal_lm(inputs[role]), 0.0, 0
        for i in range(TEXTS):
            ids = torch.tensor([encode(f"text {i} " * (i + 1))["input_ids"][:40]])
            with torch.no_grad():
                nll += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
        assert told[name]["value"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
        assert (told["tokens"], told["texts"], told["dataset"]) == (tokens, TEXTS, "texts")


def test_the_base_has_not_moved_from_itself(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    facts = run({**inputs, "model": inputs["base"], "drift": base[0]}, tmp_path, held_out=())
    assert facts["kl"]["value"] == facts["kl"]["low"] == facts["kl"]["high"] == 0.0
    assert facts["similarity"]["value"] == 1.0
    for name in ("agreement", "identical"):  # of so few prompts; Wilson's interval is 1 / (1 + z^2 / n)
        assert (facts[name]["value"], facts[name]["high"]) == (1.0, 1.0)
        assert 0.2 < facts[name]["low"] <= PROMPTS / (PROMPTS + 1.959964**2) + 1e-6
    assert facts["perplexity"] == facts["perplexity_base"]
    assert facts["text"]["perplexity"] == facts["text"]["perplexity_base"]


def test_every_figure_has_an_interval_around_it(measured: tuple[Path, dict[str, Any]]) -> None:
    for name in drift.FIGURES:
        found = measured[1][name]
        assert found["low"] <= found["value"] <= found["high"] and found["n"] == PROMPTS, name
    assert measured[1]["kl"]["low"] < measured[1]["kl"]["high"]


def test_the_batch_size_changes_no_figure(
    inputs: dict[str, Path],
    base: tuple[Path, dict[str, Any]],
    measured: tuple[Path, dict[str, Any]],
    tmp_path: Path,
) -> None:
    facts = run({**inputs, "drift": base[0]}, tmp_path, held_out=(), batch_size=7)
    assert facts == measured[1]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from factory.stages import drift

settings, inputs, out, unit = json.loads(sys.argv[1])

def progress(done, total, told, note=""):
    if told == unit and done >= 3:
        os.kill(os.getpid(), signal.SIGKILL)

inputs = {role: Path(place) for role, place in inputs.items()}
drift.run(drift.Settings.model_validate(settings), inputs, Path(out), progress)
"""


@pytest.mark.parametrize(("role", "unit"), [("base", "responses"), ("model", "texts read")])
def test_what_a_kill_interrupts_goes_on_and_ends_as_undisturbed(
    role: str, unit: str, inputs: dict[str, Path], base: tuple[Path, dict[str, Any]],
    measured: tuple[Path, dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    wanted_out, wanted = base if role == "base" else measured
    own = base_inputs(inputs) if role == "base" else {**inputs, "drift": base[0]}
    changes: dict[str, Any] = {} if role == "base" else {"held_out": ()}
    out = tmp_path / "out"
    out.mkdir()
    places = {name: str(place) for name, place in own.items()}
    told_it = json.dumps([settings(**changes).model_dump(mode="json"), places, str(out), unit])
    killed = subprocess.run([sys.executable, "-c", KILLED, told_it], cwd=ROOT, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    kept = {path.name: path.read_bytes().count(b"\n") for path in out.glob("*.jsonl")}
    assert kept.get({"responses": "responses.jsonl", "texts read": "judged.jsonl"}[unit], 0) >= 3
    told: list[tuple[str, int]] = []
    facts = run(own, out, lambda done, total, name, note="": told.append((name, done)), **changes)
    assert facts == wanted
    assert next(done for name, done in told if name == unit) >= 3  # it began where the other ended
    for name in FILES:
        if (wanted_out / name).exists():
            assert (out / name).read_bytes() == (wanted_out / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in wanted_out.iterdir())


def test_other_words_are_refused(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(inputs["base"], changed)
    text = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(text.replace("<|user|>", "<|human|>"))
    with pytest.raises(
        FactoryError, match=r"the base and this model differ: token 2 is '<\|user\|>' in one and"
    ):
        run({**inputs, "model": changed, "drift": base[0]}, tmp_path / "out", held_out=())


def test_another_size_of_vocabulary_is_refused(
    inputs: dict[str, Path], base: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    larger = tmp_path / "larger"
    shutil.copytree(inputs["base"], larger)
    model = load.causal_lm(larger)
    model.resize_token_embeddings(300)
    model.save_pretrained(larger)
    with pytest.raises(FactoryError, match="differ: one has 261 logits, the other 300"):
        run({**inputs, "model": larger, "drift": base[0]}, tmp_path / "out", held_out=())


def test_text_is_cut_at_what_the_model_reads_and_judged_from_its_second_token(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": text}) for text in ("a", "b" * 5000)]
    (tmp_path / "texts" / "train.jsonl").write_text("\n".join(lines))
    text = {"data": TextSpec(name="general text"), "max_tokens": 2000, "called": "texts"}
    facts = run({**base_inputs(inputs), "text": tmp_path / "texts"}, tmp_path / "out", text=text, rows=2)
    assert (facts["text"]["texts"], facts["text"]["tokens"]) == (2, 1023)


def test_no_held_out_row_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = DataSpec(name="little")
    asked = HeldOut(data=spec, skip=TRAINED - 1, seen=spec.model_copy(update={"rows": TRAINED - 1}), rows=9)
    with pytest.raises(
        FactoryError, match=r"has 1 held-out row for drift: split 'train' has 1 that training does"
    ):
        run(base_inputs(inputs), tmp_path, held_out=(asked,))
