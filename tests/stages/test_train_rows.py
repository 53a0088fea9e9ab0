"""Training rows: labels on the response and its stop token alone, packs that do not leak, rows too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained import LORA, ROWS, dataset, quiet, run

from factory import prompts
from factory.data.rows import DataSpec
from factory.data.training_rows import TrainingRows
from factory.errors import FactoryError
from factory.models import load
from factory.stages.train_methods import model_to_train
from factory.stages.train_options import configs
from factory.stages.train_rows import IGNORED, Renderer, stops_of, training_rows
from factory.stages.train_watch import make_trainer

END = 0  # the id of <|end|>
MARKS = 4  # of a row: user, end, assistant, end


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows") / "data", ROWS)


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load.tokenizer(tiny_model), frozenset([END]), str(tiny_model))


def trainer_of(model_folder: Path, rows: Path, out: Path, **sft: Any) -> Any:
    """The real trainer of the train stage, before its first step."""
    options = configs("lora", "sft", 0.0, LORA, {"max_steps": 1, **sft}, 0, out)
    model, tokenizer = model_to_train("lora", model_folder, options[1]), load.tokenizer(model_folder)
    renderer = Renderer(tokenizer, stops_of(tokenizer, model.generation_config), "")
    found = TrainingRows("original", [DataSpec(name="math")], {"data.math": rows}, {})
    ready = training_rows(found, renderer, options[1].max_length, "drop", 0).dataset
    return make_trainer("sft", model, None, tokenizer, options, ready, quiet)


def expected(tokenizer: Any) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Of every row, by hand: the ids, and the labels behind the mark that opens the response."""
    found = {}
    for question, answer in ROWS:
        prompt = tokenizer(f"<|user|>{question}<|end|><|assistant|>")["input_ids"]
        response = tokenizer(f"{answer}<|end|>")["input_ids"]
        found[(*prompt, *response)] = (*[IGNORED] * len(prompt), *response)
    return found


def test_every_token_of_a_batch_has_the_label_it_should(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """The batches that TRL's trainer really reads, padding and all."""
    trainer = trainer_of(tiny_model, rows, tmp_path, per_device_train_batch_size=3)
    by_hand = expected(trainer.processing_class)
    seen = {}
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            length = int(mask.sum())
            assert set(labels[length:].tolist()) <= {IGNORED}
            seen[tuple(ids[:length].tolist())] = tuple(labels[:length].tolist())
    assert seen == by_hand
    assert all(labels[-1] == END for labels in seen.values())


def packed(trainer: Any) -> tuple[dict[str, Any], list[slice]]:
    """The one pack of all rows, and where each of them lies in it."""
    (batch,) = trainer.get_train_dataloader()
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    assert len(starts) == len(ROWS)
    ends = [*starts[1:], batch["input_ids"].shape[1]]
    return batch, [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def test_rows_keep_their_labels_in_a_pack(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tiny_model, rows, tmp_path, packing=True, per_device_train_batch_size=1)
    by_hand = expected(trainer.processing_class)
    batch, places = packed(trainer)
    for place in places:
        ids, labels = (batch[key][0, place].tolist() for key in ("input_ids", "labels"))
        # What a row's first token follows is another row: it never has a label.
        assert tuple(labels) == by_hand.pop(tuple(ids))
        assert labels[0] == IGNORED
    assert not by_hand


def test_a_row_in_a_pack_reads_itself_alone(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    import torch

    trainer = trainer_of(tiny_model, rows, tmp_path, packing=True, per_device_train_batch_size=1)
    batch, places = packed(trainer)
    model = trainer.model.eval()
    with torch.no_grad():
        together = model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False)
        for place in places:
            alone = model(input_ids=batch["input_ids"][:, place], use_cache=False).logits
            torch.testing.assert_close(together.logits[:, place], alone, atol=1e-5, rtol=0)


def rendered(
    renderer: Renderer,
    room: int | None,
    *rows: tuple[str, str, str],
    long_rows: Any = "cut",
    kind: str = "instruct",
) -> Any:
    return training_rows([(DataSpec(name="a", prompt=kind), rows)], renderer, room, "cut", 0)


def texts(renderer: Renderer, found: Any) -> list[str]:
    return [renderer.tokenizer.decode(ids) for ids in found.dataset["input_ids"]]


def test_a_cut_row_loses_the_beginning_of_its_context(renderer: Renderer) -> None:
    row = ("Sum up.", "0123456789", "Digits.")
    whole = len("Sum up.") + len("\n\n") + len("0123456789") + len("Digits.") + MARKS
    found = rendered(renderer, whole - 4, row)
    assert texts(renderer, found) == ["<|user|>Sum up.\n\n456789<|end|><|assistant|>Digits.<|end|>"]
    assert (found.cut, found.left_out) == (1, 0)
    assert rendered(renderer, whole, row).cut == 0


def test_once_the_context_is_gone_the_instruction_gives_way(renderer: Renderer) -> None:
    found = rendered(renderer, MARKS + len("up.") + len("Digits."), ("Sum up.", "0123456789", "Digits."))
    assert texts(renderer, found) == ["<|user|>up.<|end|><|assistant|>Digits.<|end|>"]


def test_a_conversation_loses_its_oldest_turns_whole(renderer: Renderer) -> None:
    system, first, second = ("system", "Be kind."), ("user", "One?"), ("user", "Two?")
    turns = [system, first, ("assistant", "1."), second, ("assistant", "2.")]
    context = json.dumps([{"role": role, "content": text} for role, text in turns])
    (text,) = texts(renderer, rendered(renderer, 39, ("And?", context, "3."), kind="chat"))
    assert text == (
        "<|system|>Be kind.<|end|><|user|>Two?<|end|><|assistant|>2.<|end|><|user|>And?<|end|>"
        "<|assistant|>3.<|end|>"
    )


@given(
    instruction=st.text("ab é", min_size=1).filter(str.strip),
    context=st.text("xy z"),
    response=st.text("rs t", min_size=1).filter(str.strip),
    room=st.integers(16, 60),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_row_fits_and_its_response_is_whole(
    renderer: Renderer, instruction: str, context: str, response: str, room: int
) -> None:
    ending = f"<|assistant|>{response}<|end|>"
    try:
        found = rendered(renderer, room, (instruction, context, response))
    except FactoryError:  # the response leaves no room for any of the instruction
        assert len(response) + MARKS >= room - 2  # a letter with an accent has two bytes
        return
    (ids,), (text,) = found.dataset["input_ids"], texts(renderer, found)
    assert len(ids) <= room
    assert text.startswith("<|user|>") and text.endswith(ending)
    whole = "\n\n".join(part for part in (instruction, context) if part)
    kept = text.removeprefix("<|user|>").removesuffix(f"<|end|>{ending}")
    assert (kept == whole) if not found.cut else len(kept) < len(whole)


def test_long_rows_are_dropped_or_cut_as_asked_and_said(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    longest = max(len(question) + len(answer) + MARKS for question, answer in ROWS)
    sft = {"max_steps": 1, "max_length": longest - 1}
    dropped = run(tiny_model, {"math": rows}, tmp_path / "a", sft=sft)
    kept = run(tiny_model, {"math": rows}, tmp_path / "b", sft=sft, long_rows="cut")
    assert (kept["rows"], kept["rows_cut"], kept["rows_left_out"]) == (8, dropped["rows_left_out"], 0)
    assert dropped["said"] == [f"{dropped['rows_left_out']} rows left out: longer than {longest - 1} tokens"]
    assert kept["said"] == [
        f"{kept['rows_cut']} rows cut at the beginning of the prompt to {longest - 1} tokens"
    ]


def test_a_response_that_is_too_long_by_itself_is_left_out_even_so(renderer: Renderer) -> None:
    found = rendered(renderer, 20, ("Why?", "", "Because."), ("Why?", "", "Because of this and that."))
    assert (found.left_out, found.cut, len(found.dataset)) == (1, 0, 1)


def test_without_max_length_the_model_s_own_context_is_the_bound(tiny_model: Path, tmp_path: Path) -> None:
    rows = dataset(tmp_path / "data", [*ROWS, ("Long?", "y" * 1024)])  # the tiny model has 1,024 positions
    facts = run(tiny_model, {"math": rows}, tmp_path / "out", sft={"max_steps": 1, "max_length": None})
    assert facts["rows_left_out"] == 1
    assert facts["said"] == ["1 row left out: longer than 1,024 tokens, all that the model reads"]
    assert facts["used"]["max_length"] == 1024


def selected(folder: Path, responses: list[str]) -> Path:
    """A regenerated artifact as the regenerate stage leaves it."""
    from datasets import Dataset

    (folder / "data").mkdir(parents=True)
    columns = {
        "instruction": ["Why?"] * len(responses),
        "context": [""] * len(responses),
        "response": responses,
    }
    Dataset.from_dict(columns).to_parquet(str(folder / "data" / "train-00000.parquet"))
    return folder


def test_rows_without_a_response_are_counted_not_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    artifact = selected(tmp_path / "data", ["So.", "", " \n", "Thus."])
    facts = run(tiny_model, {"math": artifact}, tmp_path / "out", targets="self", sft={"max_steps": 1})
    assert (facts["rows"], facts["rows_empty"]) == (2, 2)
    assert facts["said"] == ["2 rows left out: no response"]
    assert facts["tokens_trained"] == len("So.") + len("Thus.") + 2


def test_nothing_but_empty_responses_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    artifact = selected(tmp_path / "data", ["", " "])
    with pytest.raises(FactoryError, match=r"no row has a response \(2 rows left out\)"):
        run(tiny_model, {"math": artifact}, tmp_path / "out", targets="self")


def test_a_template_that_asks_otherwise_than_it_answers_is_told(renderer: Renderer, tiny_model: Path) -> None:
    """As those of models with a thinking mode: a question ends with marks that a finished turn lacks."""
    row = ("Why?", "", "So.")
    assert rendered(renderer, None, row).said(None) == []
    tokenizer = load.tokenizer(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|assistant|>{%", "<|assistant|>()\n{%")
    found = rendered(Renderer(tokenizer, frozenset([END]), ""), None, row, row)
    said = "in 2 rows the chat template puts other tokens before a response than where it asks for one"
    assert found.said(None) == [said]
    assert texts(renderer, found)[0] == "<|user|>Why?<|end|><|assistant|>So.<|end|>"


def test_rows_are_rendered_as_trl_renders_them(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """Its own preparation of prompt and completion gives the same ids and labels."""
    from datasets import Dataset
    from trl import SFTTrainer

    ours = trainer_of(tiny_model, rows, tmp_path)
    chats = [
        {
            "prompt": prompts.messages("instruct", question),
            "completion": [{"role": "assistant", "content": answer}],
        }
        for question, answer in ROWS
    ]
    lora, arguments = configs("lora", "sft", 0.0, LORA, {"max_steps": 1}, 0, tmp_path)
    model = model_to_train("lora", tiny_model, arguments)
    theirs = SFTTrainer(
        model, arguments, train_dataset=Dataset.from_list(chats).shuffle(seed=0),
        processing_class=ours.processing_class, peft_config=lora,
    )  # fmt: skip
    for column in ("input_ids", "labels"):
        assert ours.train_dataset[column][:] == theirs.train_dataset[column][:]
