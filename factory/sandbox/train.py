"""`factory sandbox train`: makes `sandbox/base` from nothing but the world's text.

A Llama of twelve narrow blocks is trained on a seeded stream of documents (`corpus.py`), with Muon for
the matrices and AdamW for the rest. The packaged model in `base/` was made by this file; nobody needs
to run it to use the factory.
"""

from __future__ import annotations

import math
import platform
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.models.checkpoint import follow_umask
from factory.sandbox import card, corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from factory.stages import Progress

PAD = "<|pad|>"
SPECIAL = (corpus.END, PAD, corpus.USER, corpus.ASSISTANT)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """What the base is made of; sizes in tokens, blocks and features."""

    vocabulary: int = 1280
    blocks: int = 12
    width: int = 96
    heads: int = 3
    inner: int = 256
    positions: int = 512
    sequence: int = 320
    batch: int = 16
    steps: int = 1600
    learning_rate: float = 1e-2
    decay: float = 0.5
    threads: int = 1


def make_tokenizer(size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (any UTF-8 text round-trips) with single digits and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    documents = corpus.stream(random.Random(f"tokenizer|{seed}"))
    texts = (corpus.text(next(documents)[1]) for _ in range(20_000))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=corpus.END, pad_token=PAD, model_max_length=512
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def batches(tokenizer: Any, recipe: Recipe, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Packed token ids, their loss weights and the kinds of their documents, each (batch, sequence + 1)."""
    import torch

    documents = corpus.stream(random.Random(f"corpus|{seed}"))
    kinds = list(corpus.MIXTURE)
    shape = (recipe.batch, recipe.sequence + 1)
    columns: tuple[list[int], list[float], list[int]] = ([], [], [])
    while True:
        while len(columns[0]) < shape[0] * shape[1]:
            kind, segments = next(documents)
            pieces = tokenizer([text for text, _ in segments], add_special_tokens=False)["input_ids"]
            for piece, (_, weight) in zip(pieces, segments, strict=True):
                columns[0].extend(piece)
                columns[1].extend([weight] * len(piece))
                columns[2].extend([kinds.index(kind)] * len(piece))
        taken = [torch.tensor(column[: shape[0] * shape[1]]).view(shape) for column in columns]
        for column in columns:
            del column[: shape[0] * shape[1]]
        yield taken[0], taken[1], taken[2]


def _build(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=recipe.inner,
            num_hidden_layers=recipe.blocks,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=recipe.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model


def train(out: Path, seed: int, steps: int | None, progress: Progress) -> dict[str, Any]:
    """Trains the base, scores it, and writes a stock model folder with its record and card.

    Args:
        out: the folder to write.
        seed: of the tokenizer's sample, the initial weights and the stream.
        steps: instead of the recipe's own number, for a quick try.
        progress: told after every step.
    """
    import torch

    recipe = Recipe(**({"steps": steps} if steps else {}))
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(recipe.vocabulary, seed)
    model = _build(recipe, tokenizer)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[Any] = [
        torch.optim.Muon(
            matrices, lr=recipe.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]

    def share(step: int) -> float:
        left = (recipe.steps - step) / (recipe.decay * recipe.steps)
        return min(1.0, (step + 1) / 50, left)

    started = time.time()
    losses: list[float] = []
    by_kind: dict[str, float] = {}
    stream = batches(tokenizer, recipe, seed)
    for step in range(recipe.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * share(step)
        ids, weights, kinds = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1], use_cache=False).logits
        each = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        weight = weights[:, 1:].flatten()
        loss = (each * weight).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        answered = weight >= 1
        for index, kind in enumerate(corpus.MIXTURE):
            chosen = each.detach()[answered & (kinds[:, 1:].flatten() == index)]
            if len(chosen):
                by_kind[kind] = 0.95 * by_kind.get(kind, chosen.mean().item()) + 0.05 * chosen.mean().item()
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss became {losses[-1]} at step {step}")
        recent = losses[-50:]
        progress(step + 1, recipe.steps, "steps", f"loss {sum(recent) / len(recent):.3f}")
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    follow_umask(out)
    facts: dict[str, Any] = {
        "recipe": asdict(recipe),
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": recipe.steps * recipe.batch * recipe.sequence,
        "seconds": round(time.time() - started),
        "loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "loss_of_answers": {kind: round(value, 4) for kind, value in sorted(by_kind.items())},
        "machine": f"{platform.machine()}, {recipe.threads} thread, torch {torch.__version__}",
    }
    facts["scores"] = card.scores(out, progress)
    card.write(out, facts)
    return facts
