"""Log-probabilities and greedy text by single whole passes: what the runner's answers must equal."""

from __future__ import annotations

import random
from typing import Any

import torch
from lighteval.tasks.requests import Doc

TOLERANCE = 1e-4


def plain(model: Any, tokenizer: Any, context: str, choice: str, longest: int) -> float:
    """lm-evaluation-harness' log-probability: no batch, no cache, no padding."""
    stripped = context.rstrip()
    context, choice = stripped, context[len(stripped) :] + choice
    alone = tokenizer.encode(context)
    target = tokenizer.encode(context + choice)[len(alone) :]
    read = [*alone, *target][-(longest + 1) :][:-1]
    with torch.inference_mode():
        logprobs = model(torch.tensor([read])).logits[0].log_softmax(-1)
    return float(sum(logprobs[len(read) - len(target) + i, token] for i, token in enumerate(target)))


def documents() -> list[Doc]:
    rng = random.Random(0)
    words = lambda count: " ".join(rng.choice(["ape", "bee", "cow", "elk"]) for _ in range(count))  # noqa: E731
    preamble = words(12)
    docs = [
        Doc(
            f"{preamble}\n\nQ: {words(n)}\nA:",
            [f" {words(1 + n % 3)}" for _ in range(2 + n % 3)],
            0,
            id=str(n),
        )
        for n in range(1, 8)
    ]
    docs.append(Doc(f"{preamble}\n\nletters:", [" A", " B", " C"], 0, id="letters"))
    docs.append(Doc(f"{preamble}\n\nspaces at the end  ", ["x", "yz"], 0, id="spaces"))
    for option in ("Ann", "Bernadette"):  # one question in two contexts
        docs.append(Doc(f"{preamble}\n\nThey saw that {option}", [" had left."], 0, id="two contexts"))
    return docs


def one_by_one(model: Any, tokenizer: Any, doc: Doc, longest: int) -> tuple[str, list[int]]:
    """Text and tokens of greedy generation by whole passes, without a cache."""
    tokens = tokenizer.encode(doc.query)[-(longest - (doc.generation_size or 0)) :]
    made: list[int] = []
    stops = list(doc.stop_sequences or ())
    with torch.inference_mode():
        while len(made) < (doc.generation_size or 0):
            made.append(int(model(torch.tensor([tokens + made])).logits[0, -1].argmax()))
            text = tokenizer.decode(made, skip_special_tokens=True)
            if made[-1] == tokenizer.eos_token_id or any(stop in text for stop in stops):
                break
    for stop in stops:
        text = text.split(stop)[0]
    return str(text), made
