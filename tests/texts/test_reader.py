"""Models read texts: every measure against a plain computation; batches, parts and kills change nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.json_lines import JsonLines
from factory.models import load
from factory.texts import measures, reader
from factory.texts.reader import Reader
from factory.texts.text import Text


def written(row: int, length: int, prompt: int) -> Text:
    ids = [(7 * row + 11 * k) % 250 + 5 for k in range(length)]
    return Text(row, ids[:prompt], ids[prompt:], "stop")


TEXTS = [written(i, 3 + i, 1 + i % 3) for i in range(9)]
MEASURES = {
    "surprise": measures.surprise, "divergence": measures.divergence, "kept": measures.kept(0.7),
    "proposed": measures.proposed(1e-3), "greedily": measures.greedily(0.5),
}  # fmt: skip


@pytest.fixture(scope="module")
def other(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without its third block, its weights moved a little."""
    model = load.causal_lm(tiny_model)
    del model.model.layers[2]
    model.config.num_hidden_layers -= 1
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:-1]
    folder = tmp_path_factory.mktemp("other") / "model"
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.02 * torch.randn_like(weights)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def pair(tiny_model: Path, other: Path) -> list[Any]:
    return [load.causal_lm(folder) for folder in (tiny_model, other)]


def plainly(models: Sequence[Any], text: Text, temperature: float = 1.0) -> list[torch.Tensor]:
    """Log-probabilities at a text's response, (tokens, vocabulary), in double precision, of each model."""
    ids = torch.tensor([[*text.prompt, *text.response]])
    with torch.no_grad():
        whole = [model(input_ids=ids).logits[0].double() / temperature for model in models]
    return [one[len(text.prompt) - 1 : -1].log_softmax(-1) for one in whole]


def read(name: str, models: Sequence[Any], texts: Sequence[Text] = TEXTS) -> dict[int, Mapping[str, Any]]:
    """What is found, by row; a measure of one model is the last one's."""
    some = models if name in ("divergence", "kept") else models[-1:]
    return {text.row: found for text, found in Reader(MEASURES[name], *some, where="here").read(texts)}


def test_divergence_is_what_a_plain_computation_gives(pair: list[Any]) -> None:
    found = read("divergence", pair)
    assert sorted(found) == [text.row for text in TEXTS]
    total = [0.0, 0.0]
    for text in TEXTS:
        logs, tokens = plainly(pair, text), text.response
        for name, log in zip(("nll_base", "nll"), logs, strict=True):
            wanted = [-float(line[token]) for line, token in zip(log, tokens, strict=True)]
            assert found[text.row][name] == pytest.approx(wanted, rel=1e-5)
        kl = [
            sum(math.exp(a) * (a - b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
            for p, q in zip(*logs, strict=True)
        ]
        assert found[text.row]["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-6) and sum(kl) > 0.01
        assert found[text.row]["kl"].sum() == pytest.approx(sum(kl), rel=1e-4)
        agreed = (logs[0].argmax(-1) == logs[1].argmax(-1)).tolist()
        assert found[text.row]["agreed"].tolist() == agreed
        total = [total[0] + sum(agreed), total[1] + len(agreed)]
    assert 0 < total[0] < total[1]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampled_acceptance_is_the_rejection_rules(pair: list[Any], temperature: float) -> None:
    kept = Reader(measures.kept(temperature), *pair, where="here")
    for text, found in kept.read(TEXTS):
        p, q = (log.exp() for log in plainly(pair, text, temperature))
        at = torch.arange(len(text.response)), torch.tensor(text.response)
        assert found["rate"] == pytest.approx(torch.minimum(p, q).sum(-1).numpy(), abs=1e-5)
        assert found["accept"] == pytest.approx((q[at] / p[at]).clamp(max=1).numpy(), abs=1e-4)


def test_greedy_acceptance_and_surprise_are_what_the_logits_say(pair: list[Any]) -> None:
    (log,) = plainly(pair[1:], TEXTS[8])
    best = log.argmax(-1).tolist()
    text = Text(0, TEXTS[8].prompt, [best[0], *TEXTS[8].response[1:]], "stop")
    (log,) = plainly(pair[1:], text)
    same = [int(likeliest) == token for likeliest, token in zip(log.argmax(-1), text.response, strict=True)]
    assert same[0] and not all(same)
    assert read("proposed", pair, [text])[0]["accept"].tolist() == same
    nll = [-float(line[token]) for line, token in zip(log, text.response, strict=True)]
    assert read("surprise", pair, [text])[0]["nll"] == pytest.approx(nll, rel=1e-5)


def test_the_less_likely_of_two_is_tied_within_a_share_of_its_logit() -> None:
    logits = torch.tensor([[16.0, 15.9, 3.0], [4.0, 3.9, 3.0], [16.0, 15.7, 3.0], [-4.0, -4.01, -9.0]])
    second = torch.full((4,), 1)
    near = 2 / 128  # at 16 that is 0.25, at 4 0.06
    assert measures.greedily(near)(second, logits)["greedy"].tolist() == [True, False, False, True]
    assert measures.proposed(near)(second, logits)["ties"].tolist() == [True, False, False, True]
    assert measures.greedily(0.0)(second - 1, logits)["greedy"].all()


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.0156), ("float16", 2e-3), ("float32", 6.1e-5)])
def test_what_rounding_may_turn_follows_from_the_dtype(dtype: str, share: float) -> None:
    model = torch.nn.Linear(1, 1).to(getattr(torch, dtype))
    model.dtype = model.weight.dtype
    assert measures.tie(model) == pytest.approx(share, rel=0.03)


def test_a_model_is_at_no_distance_from_itself(pair: list[Any]) -> None:
    for one in read("divergence", [pair[0], pair[0]]).values():
        assert not one["kl"].any() and one["agreed"].all() and (one["nll"] == one["nll_base"]).all()
    for one in read("kept", [pair[0], pair[0]]).values():
        assert np.allclose(one["accept"], 1) and np.allclose(one["rate"], 1, atol=1e-5)


def test_the_divergence_is_from_the_first_to_the_second(pair: list[Any]) -> None:
    there, back = read("divergence", pair), read("divergence", pair[::-1])
    assert there[8]["kl"].sum() != pytest.approx(back[8]["kl"].sum(), rel=1e-3)
    assert there[8]["nll"] == pytest.approx(back[8]["nll_base"])


@settings(max_examples=15, deadline=None)
@given(
    some=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9, unique_by=lambda text: text.row),
    tokens=st.integers(1, 60),
    name=st.sampled_from(sorted(MEASURES)),
)
def test_neighbours_in_a_batch_and_parts_of_it_have_no_influence(
    pair: list[Any], some: list[Text], tokens: int, name: str
) -> None:
    alone = {text.row: read(name, pair, [text])[text.row] for text in some}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BATCH_TOKENS", tokens)
        patch.setattr(reader, "LOGITS", 1000)  # three tokens at a time
        together = read(name, pair, some)
    assert sorted(together) == sorted(alone)
    for row, found in together.items():
        for key, values in found.items():
            assert values == pytest.approx(alone[row][key], rel=1e-3, abs=1e-5)


def test_no_more_than_so_many_logits_are_made_at_once(
    pair: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LOGITS", 4 * 261)
    sizes = []

    def seen(tokens: torch.Tensor, logits: torch.Tensor) -> measures.Found:
        sizes.append(tuple(logits.shape))
        return measures.surprise(tokens, logits)

    assert len(list(Reader(seen, pair[0], where="here").read(TEXTS))) == len(TEXTS)
    assert max(sizes) == (4, 261) and sum(n for n, _ in sizes) == sum(len(text.response) for text in TEXTS)


def test_what_the_first_never_says_counts_nothing() -> None:
    never = torch.tensor([[0.0, 1.0, -torch.inf]])
    assert measures.divergence(torch.tensor([1]), never, never)["kl"].tolist() == [0.0]


def test_what_was_read_is_not_read_again_and_the_rest_is_as_undisturbed(
    pair: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "BATCH_TOKENS", 24)
    journal = tmp_path / "read.jsonl"

    def kept() -> tuple[dict[int, dict[str, Any]], list[int]]:
        done: list[int] = []
        found = Reader(measures.divergence, *pair, where="here").kept(
            TEXTS, JsonLines(journal), lambda figures: {"kl": float(figures["kl"].sum())}, done.append
        )
        return found, done

    whole, done = kept()
    assert done[-1] == len(TEXTS) and done == sorted(done)
    lines = journal.read_bytes().splitlines(keepends=True)
    marked = {**json.loads(lines[0]), "kl": 123.0}  # only what was kept can give this
    torn = [json.dumps(marked).encode() + b"\n", *lines[1:4], lines[4][:20]]  # a kill tore the fifth line
    journal.write_bytes(b"".join(torn))
    again, _ = kept()
    assert again == {**whole, marked["row"]: marked}


def test_a_model_that_gives_no_numbers_is_refused(pair: list[Any], tiny_model: Path) -> None:
    broken = load.causal_lm(tiny_model)
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    with pytest.raises(FactoryError, match="here: a model gives log-probabilities that are no numbers"):
        read("divergence", [pair[0], broken])


def test_what_a_model_does_behind_its_head_is_done() -> None:
    """Gemma 2 caps its logits, Granite divides them, Mixtral's forward passes on what its experts said."""
    import transformers as hf

    small = {
        "vocab_size": 261, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    for model in (
        hf.Gemma2ForCausalLM(hf.Gemma2Config(**small, final_logit_softcapping=0.1)),
        hf.GraniteForCausalLM(hf.GraniteConfig(**small, logits_scaling=5.0)),
        hf.MixtralForCausalLM(hf.MixtralConfig(**small, num_local_experts=2)),
        hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=261, n_embd=16, n_layer=2, n_head=2)),
    ):
        for row, found in read("surprise", [model.eval()]).items():
            (log,) = plainly([model], TEXTS[row])
            wanted = [-float(line[t]) for line, t in zip(log, TEXTS[row].response, strict=True)]
            assert found["nll"] == pytest.approx(wanted, rel=1e-5)
