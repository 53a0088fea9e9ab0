"""The runner's shared prefixes and batches change nothing: it equals one plain forward pass a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lighteval.tasks.requests import Doc
from plain_passes import TOLERANCE, documents, one_by_one, plain
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from factory.errors import FactoryError
from factory.tasks.runner import Runner


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def talker(tokenizer: Any) -> Any:
    """A random model that does not repeat itself, as one with tied embeddings does."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.5,
        bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def check(model: Any, tokenizer: Any, docs: list[Doc], batch_size: int) -> None:
    finished: list[int] = []
    runner = Runner(model, tokenizer, batch_size, finished.append)
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, runner.max_length) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE), doc.id
    assert sum(finished) == len({doc.id for doc in docs})


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_log_probabilities_equal_a_plain_pass(model: Any, tokenizer: Any, batch_size: int) -> None:
    check(model, tokenizer, documents(), batch_size)


def test_documents_that_share_nothing(model: Any, tokenizer: Any) -> None:
    docs = [Doc(f"{letter * 9} {letter}", [" one", " three"], 0) for letter in "abcdef"]
    runner = Runner(model, tokenizer, 4)
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, 1024) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE)


def test_too_long_prompts_are_cut_from_the_left(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "max_position_embeddings", 40)
    docs = [*documents(), Doc("short:", [" yes", " no"], 0, id="short")]
    assert max(len(tokenizer.encode(doc.query)) for doc in docs) > 60
    check(model, tokenizer, docs, 4)


def test_a_mark_that_begins_every_text_stands_once(tiny_model: Path, model: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    marked = AutoTokenizer.from_pretrained(tiny_model)
    marked.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", marked.convert_tokens_to_ids("<|system|>"))]
    )
    assert marked.encode("a")[0] == marked.convert_tokens_to_ids("<|system|>")
    check(model, marked, documents(), 4)


def test_generation_equals_plain_greedy_decoding(talker: Any, tokenizer: Any) -> None:
    docs = [Doc(f"Q: {'bee ' * n}\nA:", [""], 0, generation_size=70, stop_sequences=[]) for n in range(1, 9)]
    free = [one_by_one(talker, tokenizer, doc, 1024)[0] for doc in docs]
    # Stops taken from what the model says, so that rows end at different steps, and some do not.
    stops = [free[0][5:8], free[3][20:23], free[5][40:44]]
    for doc in docs:
        doc.stop_sequences = stops
    expected = [one_by_one(talker, tokenizer, doc, 1024) for doc in docs]
    assert len({len(text) for text, _ in expected}) > 3
    for batch_size in (1, 3, 8):
        found = Runner(talker, tokenizer, batch_size).greedy_until(docs)
        # The tokens too: they show that a row ends at its stop and is not merely cut there afterwards.
        assert [(response.text[0], response.output_tokens[0]) for response in found] == expected


def test_generation_ends_at_the_models_end_token(
    talker: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc = Doc("Q: bee\nA:", [""], 0, generation_size=20)
    free = Runner(talker, tokenizer, 1).greedy_until([doc])[0].output_tokens[0]
    monkeypatch.setattr(talker.generation_config, "eos_token_id", [free[4], 0])
    ended = Runner(talker, tokenizer, 1).greedy_until([doc])[0].output_tokens[0]
    assert ended == free[: free.index(free[4]) + 1]


def test_generation_cuts_the_prompt_so_that_the_answer_fits(
    talker: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talker.config, "max_position_embeddings", 40)
    doc = Doc(f"Q: {'bee elk ' * 20}\nA:", [""], 0, generation_size=16, stop_sequences=[])
    (found,) = Runner(talker, tokenizer, 2).greedy_until([doc])
    assert found.text == [one_by_one(talker, tokenizer, doc, 40)[0]]


def test_generation_reads_a_shared_beginning_once(talker: Any, tokenizer: Any) -> None:
    shots = "Q: elk\nA: cow ape\n\n" * 4
    docs = [Doc(f"{shots}Q: {'bee ' * n}\nA:", [""], 0, generation_size=9) for n in (3, 1, 2)]
    read, model = 0, talker.get_input_embeddings()

    def count(module: Any, inputs: Any) -> None:
        nonlocal read
        read += inputs[0].numel()

    runner = Runner(talker, tokenizer, 3)
    hook = model.register_forward_pre_hook(count)
    found = [response.text[0] for response in runner.greedy_until(docs)]
    hook.remove()
    assert found == [one_by_one(talker, tokenizer, doc, 1024)[0] for doc in docs]
    assert read < 2 * len(tokenizer.encode(shots))


def test_only_judged_outputs_become_logits(model: Any, tokenizer: Any) -> None:
    docs = documents()
    sizes: list[int] = []
    runner = Runner(model, tokenizer, 4)
    hook = model.lm_head.register_forward_hook(lambda module, inputs, out: sizes.append(out[..., 0].numel()))
    responses = runner.loglikelihood(docs)
    hook.remove()
    judged = sum(len(tokens) for response in responses for tokens in response.output_tokens)
    # Passes that only read a beginning still compute one.
    assert sum(sizes) <= judged + len(sizes)


def test_answers_come_batch_by_batch(model: Any, tokenizer: Any) -> None:
    docs = documents()
    batches = list(Runner(model, tokenizer, 3).judged(docs))
    assert max(len({docs[d].id for d, _ in batch}) for batch in batches) <= 3
    assert sorted(d for batch in batches for d, _ in batch) == list(range(len(docs)))
    pair = {d for d, doc in enumerate(docs) if doc.id == "two contexts"}
    assert [pair & {d for d, _ in batch} for batch in batches].count(pair) == 1


def test_answers_left_over_are_the_same_when_asked_alone(model: Any, tokenizer: Any) -> None:
    docs = documents()
    whole = Runner(model, tokenizer, 3).loglikelihood(docs)
    first = next(Runner(model, tokenizer, 3).judged(docs))
    rest = [d for d in range(len(docs)) if d not in dict(first)]
    again = Runner(model, tokenizer, 3).loglikelihood([docs[d] for d in rest])
    for d, response in [*first, *zip(rest, again, strict=True)]:
        assert response.logprobs == pytest.approx(whole[d].logprobs, abs=TOLERANCE)


def test_tasks_asked_together_keep_their_documents_apart(model: Any, tokenizer: Any) -> None:
    docs = [
        Doc(f"{'elk bee ' * 6}{word} {i}:", [" yes", " no", " perhaps"], 0, id=str(i), task_name=word)
        for word in ("ape", "cow")
        for i in range(3)
    ]
    finished: list[int] = []
    runner = Runner(model, tokenizer, 4, finished.append)
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, 1024) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE)
    assert finished == [3, 3]


def test_little_memory_makes_small_batches(model: Any, tokenizer: Any) -> None:
    docs = documents()
    runner = Runner(model, tokenizer, 32, memory=1 << 18)
    batches = list(runner.judged(docs))
    assert len(batches) > len(list(Runner(model, tokenizer, 32).judged(docs)))
    for d, response in (answer for batch in batches for answer in batch):
        expected = [plain(model, tokenizer, docs[d].query, choice, 1024) for choice in docs[d].choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE)


def test_cut_prompts_are_counted(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.config, "max_position_embeddings", 40)
    docs = [Doc("elk " * 30, [" yes", " no"], 0, id="long"), Doc("elk", [" yes", " no"], 0, id="short")]
    runner = Runner(model, tokenizer, 4)
    over = len(tokenizer.encode(docs[0].query.rstrip())) + len("  yes") - 1 - 40
    assert [one.truncated_tokens_count for one in runner.loglikelihood(docs)] == [over, 0]
    assert runner.cut == 1
    asked = [Doc(doc.query, [""], 0, id=doc.id, generation_size=8) for doc in docs]
    assert [one.truncated_tokens_count for one in runner.greedy_until(asked)] == [120 - 32, 0]
    assert runner.cut == 2


@pytest.mark.parametrize("generates", [False, True])
def test_logits_that_are_no_numbers_name_the_row(tiny_model: Path, tokenizer: Any, generates: bool) -> None:
    broken = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    rare = tokenizer.encode("#")[0]
    with torch.no_grad():
        broken.get_input_embeddings().weight[rare] = float("inf")
    docs = [
        Doc(text, [" a", " bc"], 0, id=f"arc/{i}", task_name="arc|25", generation_size=4)
        for i, text in enumerate(["fine", "this # breaks it"])
    ]
    broken.lm_head.weight = torch.nn.Parameter(broken.lm_head.weight.nan_to_num(0, 0, 0))
    runner = Runner(broken, tokenizer, 1)
    with pytest.raises(FactoryError, match="arc: the model's output for row 1 is not finite"):
        runner.greedy_until(docs) if generates else runner.loglikelihood(docs)
    for doc in docs:
        doc.task_name = "abstract_algebra|5"
    with pytest.raises(FactoryError, match=r"mmlu \(abstract_algebra\): .* row 1 is not finite"):
        runner.greedy_until(docs) if generates else runner.loglikelihood(docs)


def test_a_mark_that_ends_every_text_is_not_read(tiny_model: Path, model: Any, talker: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    def tokenizer(template: str) -> Any:
        made = AutoTokenizer.from_pretrained(tiny_model)
        marks = [(mark, made.convert_tokens_to_ids(mark)) for mark in ("<|system|>", made.eos_token)]
        made.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=marks)
        return made

    begun = tokenizer("<|system|> $A")
    ended = tokenizer(f"<|system|> $A {begun.eos_token}")
    assert ended("a")["input_ids"] == [*begun("a")["input_ids"], begun.eos_token_id]
    without, found = (Runner(model, one, 4).loglikelihood(documents()) for one in (begun, ended))
    assert [one.logprobs for one in found] == [one.logprobs for one in without]
    assert [one.output_tokens for one in found] == [one.output_tokens for one in without]
    asked = [Doc(f"Q: {'bee ' * n}\nA:", [""], 0, generation_size=9) for n in (1, 2)]
    without, found = (Runner(talker, one, 4).greedy_until(asked) for one in (begun, ended))
    assert [one.output_tokens for one in found] == [one.output_tokens for one in without]


def test_a_mark_that_cannot_be_told_from_the_text_is_refused(tiny_model: Path, model: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    class Ending(type(tokenizer)):  # type: ignore[misc]
        """Puts the end behind every text, whatever it is asked."""

        def __call__(self, text: Any, **settings: Any) -> Any:
            texts = [text] if isinstance(text, str) else text
            ids = [[*row, self.eos_token_id] for row in super().__call__(texts, **settings)["input_ids"]]
            return {"input_ids": ids[0] if isinstance(text, str) else ids}

    tokenizer.__class__ = Ending
    with pytest.raises(FactoryError, match="the tokenizer ends every text with"):
        Runner(model, tokenizer, 4).loglikelihood(documents())


@pytest.mark.parametrize(("stated", "expected"), [(777, 777), (int(1e30), 2048)])
def test_without_a_length_in_its_configuration_the_tokenizers_stands(
    tiny_model: Path, model: Any, monkeypatch: pytest.MonkeyPatch, stated: int, expected: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    monkeypatch.setattr(tokenizer, "model_max_length", stated)
    assert Runner(model, tokenizer, 4).max_length == model.config.max_position_embeddings
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)
    unlimited = BloomForCausalLM(config).eval()
    assert Runner(unlimited, tokenizer, 4).max_length == expected
