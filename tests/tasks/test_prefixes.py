"""Every family of models reads shared prefixes as it reads whole sequences, or says that it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import BEYOND, FAMILIES, SHAPE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lighteval.tasks.requests import Doc
from plain_passes import TOLERANCE, documents, one_by_one, plain
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig

from factory.tasks.prefixes import Reader
from factory.tasks.runner import Runner

CANNOT = {"mamba": "it has no key-value cache", "qwen3_5_text": "its cache holds LinearAttentionLayer"}
# Windows that are narrower than what a model is tried out with, than a prompt, and than neither.
WINDOWS = [
    (family, window) for family in FAMILIES if "sliding_window" in FAMILIES[family] for window in (5, 40, 400)
]
_CACHELESS = ("openai-gpt",)  # its class has no key-value cache at all
OTHERS = [
    (family, None)
    for family in [*FAMILIES, *BEYOND]
    if (family, 5) not in WINDOWS and family not in _CACHELESS
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def random_model(family: str, vocabulary: int, **options: Any) -> Any:
    own = FAMILIES[family] if family in FAMILIES else BEYOND[family]
    long = {
        name: 512
        for name in ("n_positions", "max_seq_len", "original_max_position_embeddings")
        if name in own
    }
    shape = {**SHAPE, **own, **long, "vocab_size": vocabulary, "max_position_embeddings": 512, **options}
    torch.manual_seed(0)
    fields = {key: value for key, value in shape.items() if value is not ...}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields)).float().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return model


@pytest.mark.parametrize(("family", "window"), [*WINDOWS, *OTHERS])
def test_log_probabilities_equal_a_plain_pass(tokenizer: Any, family: str, window: int | None) -> None:
    model = random_model(family, len(tokenizer), **({"sliding_window": window} if window else {}))
    docs = documents()
    runner = Runner(model, tokenizer, 4)
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, 512) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE), doc.id
    if family in CANNOT:
        assert CANNOT[family] in runner.notes[0]
    else:
        assert runner.notes == ()


@pytest.mark.parametrize(
    ("family", "window"),
    [
        ("mistral", 5),
        ("gemma2", 40),
        ("gpt_oss", 5),
        ("bloom", None),
        ("mpt", None),
        ("mamba", None),
        ("qwen3_5_text", None),
    ],
)
def test_generation_equals_plain_greedy_decoding(tokenizer: Any, family: str, window: int | None) -> None:
    model = random_model(family, len(tokenizer), **({"sliding_window": window} if window else {}))
    docs = [
        Doc(doc.query, [""], 0, id=doc.id, generation_size=10, stop_sequences=["\n"]) for doc in documents()
    ]
    docs.append(docs[0])  # two prompts of one length
    found = Runner(model, tokenizer, 4).greedy_until(docs)
    expected = [one_by_one(model, tokenizer, doc, 512) for doc in docs]
    assert [(response.text[0], response.output_tokens[0]) for response in found] == expected


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_kind_of_attention_takes_the_masks(tokenizer: Any, attention: str) -> None:
    model = random_model("llama", len(tokenizer), attn_implementation=attention)
    model.set_attn_implementation(attention)
    docs = documents()
    for doc, response in zip(docs, Runner(model, tokenizer, 4).loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, 512) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE), doc.id


def test_a_model_that_counts_positions_by_itself_is_read_whole(tokenizer: Any) -> None:
    model = random_model("llama", len(tokenizer))
    forward = model.forward

    def stubborn(input_ids: Any, past_key_values: Any = None, position_ids: Any = None, **others: Any) -> Any:
        positions = None if past_key_values is None else torch.zeros_like(input_ids)
        return forward(input_ids, past_key_values=past_key_values, position_ids=positions, **others)

    model.forward = stubborn
    runner = Runner(model, tokenizer, 4)
    assert "differs from what it reads whole" in runner.notes[0]
    docs = documents()[:3]
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(model, tokenizer, doc.query, choice, 512) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE), doc.id


WORDS = st.text(alphabet="ab \n", min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    beginning=st.text(alphabet="xy ", max_size=30),
    asked=st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=5)), min_size=1, max_size=6),
    batch_size=st.integers(1, 4),
    memory=st.sampled_from([1 << 16, 1 << 22]),
)
def test_whatever_is_shared_the_answer_is_the_same(
    small: Any, tokenizer: Any, beginning: str, asked: Any, batch_size: int, memory: int
) -> None:
    docs = [Doc(f"Q{beginning}{question}", [f" {one}" for one in choices], 0) for question, choices in asked]
    runner = Runner(small, tokenizer, batch_size, memory=memory)
    for doc, response in zip(docs, runner.loglikelihood(docs), strict=True):
        expected = [plain(small, tokenizer, doc.query, choice, 512) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE)


@pytest.fixture(scope="module")
def small(tokenizer: Any) -> Any:
    return random_model("llama", len(tokenizer), num_hidden_layers=2)


@pytest.mark.parametrize(("is_decoder", "ahead"), [(False, True), (True, False)])
def test_an_encoder_is_told_from_a_decoder(is_decoder: bool, ahead: bool) -> None:
    """transformers loads either as a causal language model."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.2, is_decoder=is_decoder,
    )  # fmt: skip
    assert Reader(AutoModelForCausalLM.from_config(config).eval(), 0).looks_ahead is ahead
