"""On 200 prompts of the sandbox, of all kinds: reading tells the step lists of real assisted generation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from factory import sandbox
from factory.data.rows import DataSpec
from factory.drafts import assisted, speculative
from factory.models import load
from factory.stages import respond
from factory.texts import text as files
from factory.texts.measures import proposed, tie
from factory.texts.reader import Reader
from factory.texts.text import Text

pytestmark = pytest.mark.slow

SETS = {
    "math": {"data": DataSpec(name="math", split="test", prompt="math"), "rows": 80},
    "instruct": {"data": DataSpec(name="instruct", split="test"), "rows": 60},
    "corpus": {"data": DataSpec(name="corpus"), "rows": 60, "kind": "text", "prompt_tokens": 16},
}
LONGEST = 24
DRAFT = (0, 1, 2, 4, 6, 8, 10, 11)  # blocks of twelve: often right, often wrong


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Text]:
    root = tmp_path_factory.mktemp("steps")
    found: list[Text] = []
    for name, options in SETS.items():
        sandbox.write_dataset(name, root / "data" / name)
        out = root / "out" / name
        out.mkdir(parents=True)
        settings = respond.Settings(**options, max_new_tokens=LONGEST)
        inputs = {"target": sandbox.model_folder(), "data": root / "data" / name}
        respond.run(settings, inputs, out, lambda *told: None)
        found += [text for piece in files.read(out, "greedy") for text in piece]
    return found


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with a third of its blocks gone."""
    folder = tmp_path_factory.mktemp("steps") / "draft"
    shutil.copytree(sandbox.model_folder(), folder)
    model = load.causal_lm(sandbox.model_folder())
    model.model.layers = torch.nn.ModuleList(model.model.layers[i] for i in DRAFT)
    model.config.num_hidden_layers = len(DRAFT)
    model.config.layer_types = None
    model.save_pretrained(folder)
    return folder


def first_difference(told: Sequence[int], taken: Sequence[int]) -> int | None:
    """The token whose acceptance two step lists see differently; None where they are the same."""
    at = 0
    for one, other in zip(told, taken, strict=False):
        if one != other:
            return at + min(one, other)
        at += one + 1
    return None if len(told) == len(taken) else at


def is_tie(model: Any, text: Text, at: int) -> bool:
    """Whether the two likeliest tokens of a model lie within rounding at a token of a response."""
    ids = torch.tensor([[*text.prompt, *text.response[:at]]])
    with torch.inference_mode():
        two = model(ids).logits[0, -1].topk(2).values
    return float(two[0] - two[1]) < tie(model) * float(two.abs().max())


def test_step_lists_of_200_prompts_are_those_of_assisted_generation(texts: list[Text], draft: Path) -> None:
    target, model = load.causal_lm(sandbox.model_folder()), load.causal_lm(draft)
    decoder = assisted.Decoder(target, model, [0])
    read = list(Reader(proposed(tie(model)), model, where="draft").read(texts))
    assert len(read) == len(texts) == 200
    ties, kept = 0, [0, 0]
    for i, (text, found) in enumerate(read):
        k, response = 1 + i % speculative.MOST, text.response
        done = decoder.assisted(text.prompt, LONGEST, k)
        if done.tokens != response:
            same = zip(done.tokens, response, strict=False)
            at = next((j for j, (a, b) in enumerate(same) if a != b), min(len(done.tokens), len(response)))
            assert is_tie(target, text, at), (text, done)
            ties += 1
            continue
        told = speculative.step_list((found["accept"] > 0.5).tolist(), k)
        if told != done.steps:
            at = first_difference(told, done.steps)
            assert at is not None and is_tie(model, text, at), (text, told, done.steps)
            ties += 1
        kept[0] += sum(done.steps)
        kept[1] += len(done.steps)
    assert ties <= 4  # rounding explains a few at most
    assert (
        0.3 < kept[0] / kept[1] < 6
    )  # neither everything nor nothing is accepted: the test tells them apart
