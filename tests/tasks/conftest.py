"""Models for the tests of the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from real import DATA, V1, rows


@pytest.fixture(scope="session")
def bpe_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Llama of 4,096 positions, its byte-level BPE trained on the real rows."""
    if not DATA.is_dir():
        pytest.skip("the real rows are not beside the repository (../shared/data)")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [row["question"] + "\n" + row["answer"] for row in rows(V1["gsm8k"], "train")[:800]]
    texts += [row["question"] + "\n" + "\n".join(row["choices"]["text"]) for row in rows(V1["arc"], "train")]
    texts += [row["ctx"] + " " + row["endings"][0] for row in rows(V1["hellaswag"], "train")[:500]]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=3000,
            special_tokens=["<|end|>", "<|pad|>"],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=4096
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3000, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=0, pad_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    folder = tmp_path_factory.mktemp("bpe") / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
