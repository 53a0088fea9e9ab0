"""Every measure equals its definition, computed text by text, in families of every kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from families import BEYOND, random_model
from families import FAMILIES as FAMILIES_OF_THE_TABLE
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForCausalLM

from factory.metrics import METRICS, Name
from factory.metrics.batches import Texts, grouped
from factory.models.architectures import architecture_of
from factory.models.load import named_blocks

TEXTS = ["ab", "the quick brown fox", "x", "jumps over a lazy dog again", "Ab12", "o" * 40]
FAMILIES = ("llama", "gemma3_text", "gpt2", "falcon", "mixtral", "gpt_neox", "bloom", "opt")
L = 8


def encode(texts: list[str], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
    # Padding has an embedding of zeros, at which the gradients of some norms overflow.
    return {"input_ids": [[2 + ord(char) % 62 for char in text][:max_length] for text in texts]}


def texts_of(batch_tokens: int = 8192, least: int = 1, texts: list[str] | None = None) -> Texts:
    return Texts(lambda: iter(texts or TEXTS), encode, 30, batch_tokens, least=least)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = random_model(tmp_path_factory.mktemp(family), family, "float32")
        return made[family]

    return of


def loaded(folder: Path, head: bool) -> tuple[Any, Any]:
    kind: Any = AutoModelForCausalLM if head else AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    config = json.loads((folder / "config.json").read_text())
    from factory.models.checkpoint import stored_tensors

    row = architecture_of(config, folder, [tensor.name for tensor in stored_tensors(folder)])
    return model, named_blocks(model, row)


def compute(name: str, folder: Path, batch_tokens: int = 8192, **more: Any) -> dict[str, Any]:
    metric = METRICS[name]
    model, blocks = loaded(folder, metric.head)
    texts = texts_of(batch_tokens, 2 if metric.head else 1)
    return metric.load()(model, blocks, texts, lambda *a, **k: None, **more)


def ids_of(text: str) -> torch.Tensor:
    return torch.tensor(encode([text], True, 30)["input_ids"])


def states_of(folder: Path) -> Iterator[torch.Tensor]:
    """Of each text the states of shape (L + 1, tokens, width) in float64, taken by hooks."""
    model, blocks = loaded(folder, head=False)
    seen: list[torch.Tensor] = []
    blocks[0].register_forward_pre_hook(
        lambda m, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"])[0].double()),
        with_kwargs=True,
    )
    for block in blocks:
        block.register_forward_hook(
            lambda m, args, out: seen.append((out[0] if isinstance(out, tuple) else out)[0].double())
        )
    for text in TEXTS:
        seen.clear()
        with torch.no_grad():
            model(input_ids=ids_of(text), use_cache=False)
        yield torch.stack(seen)


def angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.arccos(torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1)) / math.pi


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_tokens", [8192, 70, 1])
def test_angular(folder: Any, family: str, batch_tokens: int) -> None:
    states = list(states_of(folder(family)))
    for name, last in (("angular", True), ("angular_tokens", False)):
        found = compute(name, folder(family), batch_tokens)["distances"]
        assert [len(row) for row in found] == list(range(L, 1, -1))
        for n, row in enumerate(found, 1):
            for start, distance in enumerate(row):
                angles = [
                    angle(s[start], s[start + n])[-1:] if last else angle(s[start], s[start + n])
                    for s in states
                ]
                assert distance == pytest.approx(float(torch.cat(angles).mean()), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_block_influence(folder: Any, family: str) -> None:
    states = torch.cat(list(states_of(folder(family))), dim=1)
    found = compute("block_influence", folder(family), 70)["scores"]
    for block, score in enumerate(found):
        cosine = torch.cosine_similarity(states[block], states[block + 1], dim=-1)
        assert score == pytest.approx(1 - float(cosine.mean()), abs=1e-4)


def unchanged(m: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """A forward hook: what a block has computed is thrown away."""
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden, *out[1:]) if isinstance(out, tuple | list) else hidden  # a list: openai-gpt


def naive_perplexity(folder: Path, gone: tuple[int, ...]) -> float:
    """Text by text; a block that is gone computes, and its output is thrown away."""
    model, blocks = loaded(folder, head=True)
    for block in gone:
        blocks[block].register_forward_hook(unchanged, with_kwargs=True)
    total, count = 0.0, 0
    for text in TEXTS:
        ids = ids_of(text)
        if ids.shape[1] > 1:
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1].double()
            chosen = logits.log_softmax(-1)[torch.arange(len(logits)), ids[0, 1:]]
            total, count = total - float(chosen.sum()), count + len(logits)
    return math.exp(total / count)


@pytest.mark.parametrize("family", FAMILIES)
def test_perplexity(folder: Any, family: str) -> None:
    found = compute("perplexity", folder(family), 70)
    whole = naive_perplexity(folder(family), ())
    assert found["perplexity"] == pytest.approx(whole, rel=1e-4)
    for block, score in enumerate(found["scores"]):
        assert score == pytest.approx(naive_perplexity(folder(family), (block,)) - whole, abs=1e-3 * whole)


def one_by_one(folder: Path, sets: list[tuple[int, ...]]) -> list[float]:
    """Perplexities over the same batches as `compute`, with a whole forward pass for each set of blocks."""
    model, blocks = loaded(folder, head=True)
    totals, texts = [0.0] * len(sets), texts_of(70, 2)
    for batch in texts.batches():
        for i, gone in enumerate(sets):
            hooks = [blocks[block].register_forward_hook(unchanged, with_kwargs=True) for block in gone]
            with torch.no_grad():
                logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
            for hook in hooks:
                hook.remove()
            wanted = batch.ids[:, 1:].masked_fill(~batch.real()[:, 1:], -100)
            totals[i] += float(
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
                )
            )
    return [math.exp(total / (texts.tokens - texts.rows)) for total in totals]


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in ("llama", "gemma3_text", "bloom") else pytest.mark.slow)
        for family in (*FAMILIES_OF_THE_TABLE, *BEYOND)
    ],
)
def test_sharing_the_blocks_before_a_candidate_changes_nothing(folder: Any, family: str) -> None:
    whole, *without = one_by_one(folder(family), [(), *((block,) for block in range(L))])
    found = compute("perplexity", folder(family), 70)
    assert found["perplexity"] == pytest.approx(whole, rel=1e-5)
    expected = [figure - whole for figure in without]
    assert found["scores"] == pytest.approx(expected, rel=1e-5, abs=1e-5 * whole)
    order = compute("perplexity_iterative", folder(family), 70, rounds=3, exclude=(1, 1))["order"]
    left = [block for block in range(1, L - 1) if block not in order[:2]]
    tried = one_by_one(folder(family), [(*order[:2], block) for block in left])
    assert order[2] == left[min(range(len(left)), key=tried.__getitem__)]


def test_every_round_computes_half_of_the_blocks(folder: Any) -> None:
    model, blocks = loaded(folder("llama"), head=True)
    calls = 0

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1

    for block in blocks:
        block.self_attn.register_forward_hook(counted)
    METRICS["perplexity"].load()(model, blocks, texts_of(least=2), lambda *a, **k: None)
    # One batch: before candidate c its predecessor's block, behind it L - c - 1; and one look at the first.
    assert calls == L + 1 + L * (L - 1) // 2


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_perplexity_iterative(folder: Any, family: str) -> None:
    found = compute("perplexity_iterative", folder(family), 70, rounds=3, exclude=(1, 2))
    whole, order = naive_perplexity(folder(family), ()), []
    for step in range(3):
        left = [block for block in range(1, L - 2) if block not in order]
        tried = {block: naive_perplexity(folder(family), (*order, block)) for block in left}
        order.append(min(left, key=tried.__getitem__))
        assert found["scores"][step] == pytest.approx(tried[order[-1]] - whole, abs=1e-3 * whole)
    assert found["order"] == order
    shorter = compute("perplexity_iterative", folder(family), 70, rounds=2, exclude=(1, 2))
    assert (shorter["order"], shorter["scores"]) == (order[:2], found["scores"][:2])  # sweeps rely on it


@pytest.mark.parametrize("family", FAMILIES)
def test_taylor(folder: Any, family: str) -> None:
    model, blocks = loaded(folder(family), head=True)
    losses, count = [], 0
    for text in TEXTS:
        ids = ids_of(text)
        if ids.shape[1] > 1:
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(logits)
    (torch.stack(losses).sum() / count).backward()
    found = compute("taylor", folder(family), 70)["scores"]
    for block, score in zip(blocks, found, strict=True):
        weights = [w for w in block.parameters() if w.grad is not None]
        assert score == pytest.approx(
            sum(float((w.detach() * w.grad).abs().sum()) for w in weights), rel=1e-3
        )


def test_a_measure_leaves_the_model_as_it_was(folder: Any) -> None:
    model, blocks = loaded(folder("llama"), head=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("perplexity", "perplexity_iterative", "taylor"):
        METRICS[name].load()(model, blocks, texts_of(least=2), lambda *a, **k: None)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any("forward" in vars(block) or block._forward_hooks for block in blocks)
    assert all(w.grad is None for w in model.parameters())


def test_every_name_has_a_function() -> None:
    assert get_args(Name) == tuple(METRICS)
    for metric in METRICS.values():
        assert metric.load().__doc__


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=40), most=st.integers(1, 200))
def test_batches_hold_every_text_once_and_keep_the_bound(lengths: list[int], most: int) -> None:
    tokens = [[i] * length for i, length in enumerate(lengths)]
    batches = list(grouped(tokens, most))
    assert sorted(ids for batch in batches for ids in batch) == sorted(tokens)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= most


def test_texts_are_streamed_and_read_anew() -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for _ in range(5000):
            taken += 1
            yield "abc"

    texts = Texts(source, encode, 30, 64)
    next(texts.batches())
    assert taken == 1024
    assert (texts.rows, texts.tokens) == (0, 0)
    for _ in range(2):
        assert sum(len(batch.ids) for batch in texts.batches()) == 5000
        assert (texts.rows, texts.tokens) == (5000, 15000)
