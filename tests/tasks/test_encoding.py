"""Prompts and choices as tokens, where there is no prompt, or the tokenizer is another model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lighteval.tasks.requests import Doc
from plain_passes import TOLERANCE
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory.errors import FactoryError
from factory.tasks.runner import Runner


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def after_the_end(model: Any, tokenizer: Any, text: str) -> float:
    """The log-probability of a text behind the end of another."""
    tokens = tokenizer.encode(text)
    with torch.inference_mode():
        logprobs = model(torch.tensor([[tokenizer.eos_token_id, *tokens]])).logits[0].log_softmax(-1)
    return float(sum(logprobs[i, token] for i, token in enumerate(tokens)))


def test_a_choice_without_a_prompt_is_judged_after_the_end_of_a_text(model: Any, tokenizer: Any) -> None:
    """As lm-evaluation-harness has it: every token of the choice counts, the first one too."""
    docs = [
        Doc("", ["ape bee", "cow"], 0, id="nothing"),
        Doc("  ", ["elk", "b"], 0, id="blanks, which belong to the choices"),
        Doc("ape:", [" elk", " bee"], 0, id="a prompt"),
    ]
    found = Runner(model, tokenizer, 4).loglikelihood(docs)
    for doc, response in zip(docs[:2], found, strict=False):
        expected = [after_the_end(model, tokenizer, doc.query + choice) for choice in doc.choices]
        assert response.logprobs == pytest.approx(expected, abs=TOLERANCE)
        assert [len(tokens) for tokens in response.output_tokens] == [
            len(tokenizer.encode(doc.query + choice)) for choice in doc.choices
        ]


def test_text_without_a_prompt_is_generated_after_the_end_of_a_text(model: Any, tokenizer: Any) -> None:
    nothing, end = (Doc(text, [""], 0, generation_size=6) for text in ("", tokenizer.eos_token))
    runner = Runner(model, tokenizer, 1)
    (found,), (expected,) = runner.greedy_until([nothing]), runner.greedy_until([end])
    assert found.output_tokens == expected.output_tokens and found.output_tokens[0]


def test_without_a_prompt_a_tokenizer_needs_an_end_of_text(model: Any, tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(FactoryError, match="a prompt is empty, and the tokenizer has no end of text"):
        Runner(model, tokenizer, 4).loglikelihood([Doc("", ["ape"], 0)])


@pytest.mark.parametrize("generates", [False, True])
def test_a_token_that_the_model_does_not_know_is_refused(model: Any, tokenizer: Any, generates: bool) -> None:
    tokenizer.add_tokens(["elk"])
    runner = Runner(model, tokenizer, 4)
    ask = runner.greedy_until if generates else runner.loglikelihood
    assert ask([Doc("ape", [" bee"], 0, generation_size=2)])
    said = rf"makes token {len(tokenizer) - 1}, and the model knows {len(tokenizer) - 1} of them"
    with pytest.raises(FactoryError, match=said):
        ask([Doc("an elk", [" bee"], 0, generation_size=2)])
