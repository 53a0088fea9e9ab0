"""The head that training uses on a CPU gives what TRL's own gives, and keeps out of where it does not fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from factory.stages import train_head

SMALL: dict[str, Any] = {
    "vocab_size": 53, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 64,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
FIELDS = ("log_probs", "entropy", "is_top1", "label_mask")


def pair(kind: str = "llama") -> tuple[Any, Any]:
    """A model with TRL's head and its twin with ours over it; heads and embeddings are frozen."""
    torch.manual_seed(0)
    config, of = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "phi": (PhiConfig, PhiForCausalLM),  # whose head has a bias
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),  # which caps its logits
    }[kind]
    theirs = of(config(**SMALL)).train()
    for part in (theirs.get_input_embeddings(), theirs.get_output_embeddings()):
        part.requires_grad_(False)
    if kind == "phi":
        torch.nn.init.normal_(theirs.lm_head.bias)
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    train_head.lighten(ours)
    return theirs, ours


def batch(lengths: list[int], labelled: list[float]) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, SMALL["vocab_size"], (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    labels = ids.masked_fill(~mask, -100)
    for row, share in zip(labels, labelled, strict=True):
        row[: round(len(row) * (1 - share))] = -100
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def both(models: tuple[Any, Any], inputs: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """What comes out of the two, after the way back of a loss that weighs the tokens unequally."""
    found = []
    for model in models:
        model.zero_grad()
        outputs = model(**inputs, fused_lm_head=True, use_cache=False)
        (-outputs.log_probs * outputs.log_probs.exp().detach()).sum().backward()
        found.append(outputs)
    return found[0], found[1]


def alike(models: tuple[Any, Any], inputs: dict[str, torch.Tensor]) -> None:
    expected, found = both(models, inputs)
    for name in FIELDS:
        torch.testing.assert_close(found[name], expected[name], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, atol=2e-5, rtol=1e-5)
    for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(2, 20), st.floats(0, 1)), min_size=1, max_size=4),
    logits=st.sampled_from([1, 53, 160, 1 << 23]),
)
def test_losses_metrics_and_gradients_are_trls(rows: list[tuple[int, float]], logits: int) -> None:
    inputs = batch([length for length, _ in rows], [share for _, share in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_head, "LOGITS", logits)
        alike(pair(), inputs)


def test_a_bias_of_the_head_counts() -> None:
    alike(pair("phi"), batch([9, 5], [0.5, 1.0]))


def test_a_batch_without_labels_gives_a_zero_that_can_go_back() -> None:
    models = pair()
    _, found = both(models, batch([6], [0.0]))
    assert found.log_probs.abs().sum() == 0
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in models[1].parameters())


def test_only_labelled_tokens_are_projected() -> None:
    seen = []
    _, ours = pair()
    inputs = batch([20, 10], [0.25, 0.5])
    original = torch.nn.functional.linear

    def linear(states: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if weight is ours.lm_head.weight:
            seen.append(len(states))
        return original(states, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", linear)
        ours(**inputs, fused_lm_head=True, use_cache=False)
    assert seen == [int((inputs["labels"][:, 1:] != -100).sum())]


def test_a_head_that_learns_gets_its_gradient() -> None:
    models = pair()
    for model in models:
        model.lm_head.requires_grad_(True)
    alike(models, batch([12, 7], [0.5, 0.5]))
    assert models[1].lm_head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("why", ["bf16", "capped", "autocast"])
def test_where_it_does_not_fit_trls_is_used(why: str) -> None:
    models = pair("gemma2" if why == "capped" else "llama")
    for model in models:
        if why == "bf16":
            model.to(torch.bfloat16)
    inputs = batch([12, 7], [0.5, 0.5])
    with torch.autocast("cpu", torch.bfloat16, enabled=why == "autocast"):
        expected, found = (model(**inputs, fused_lm_head=True, use_cache=False) for model in models)
    assert torch.equal(found.log_probs, expected.log_probs)


def test_without_the_fused_head_the_forward_is_the_models_own() -> None:
    theirs, ours = pair()
    inputs = batch([8], [1.0])
    assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)
