"""Chats as tokens, for the engines that run a model folder themselves: transformers and vLLM.

One place applies the chat template, finds the stop tokens and the number of positions, so that both
engines read the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models import load

Messages = Sequence[dict[str, str]]


class Chats:
    """The tokenizer of a model folder with its chat template.

    Attributes:
        tokenizer: transformers' own.
        stops: ids of the tokens that end a turn.
        positions: how many tokens prompt and response may have together; None where there is no bound.
    """

    def __init__(self, folder: Path) -> None:
        """Reads tokenizer and configs, no weights.

        Raises:
            FactoryError: there is no readable tokenizer, no chat template or no stop token.
        """
        from transformers import AutoConfig, GenerationConfig

        self.tokenizer = load.tokenizer(folder)
        if not self.tokenizer.chat_template:
            raise FactoryError(
                "the tokenizer has no chat template",
                where=str(folder),
                mend="Use an instruction-tuned model, or add chat_template.jinja to the folder",
            )
        config = AutoConfig.from_pretrained(folder).get_text_config()
        self.positions: int | None = getattr(config, "max_position_embeddings", None)
        try:
            stops = GenerationConfig.from_pretrained(folder).eos_token_id
        except OSError:  # a folder need not have a generation_config.json
            stops = getattr(config, "eos_token_id", None)
        stops = self.tokenizer.eos_token_id if stops is None else stops
        if stops is None:
            raise FactoryError(
                "the model has no stop token",
                where=str(folder),
                mend="Give eos_token_id in generation_config.json",
            )
        self.stops = frozenset(stops if isinstance(stops, list) else [stops])

    def prompt(self, messages: Messages) -> list[int]:
        """The tokens of a chat that waits for the assistant's turn."""
        return self._ids(list(messages), add_generation_prompt=True)

    def answered(self, messages: Messages, response: str) -> tuple[list[int], int]:
        """The tokens of a chat with the assistant's turn, up to its stop token, and where that begins."""
        prompt = self.prompt(messages)
        ids = self._ids([*messages, {"role": "assistant", "content": response}], add_generation_prompt=False)
        start = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt))
        end = next((i + 1 for i in range(len(ids) - 1, start - 1, -1) if ids[i] in self.stops), len(ids))
        return ids[:end], start

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, without special ones."""
        said: str = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return said

    def room(self, prompt: Sequence[int], max_new_tokens: int) -> int:
        """How many tokens a prompt may get; 0 or less where it fills the model."""
        return max_new_tokens if self.positions is None else min(max_new_tokens, self.positions - len(prompt))

    def _ids(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        return list(self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options))
