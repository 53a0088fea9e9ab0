"""Prompts and choices as tokens, as lm-evaluation-harness makes them (`_encode_pair`, `loglikelihood`).

Between lighteval's `Doc`s and judging.py, generation.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from transformers import PreTrainedTokenizerBase

from factory.errors import FactoryError
from factory.tasks.judging import Place, Question, question
from factory.tasks.prefixes import Tokens

_PROBES = ("a", "Question:", "1 + 1")
_AT_ONCE = 64  # texts, or questions; all at once would hold many times the tokens in memory


class Encoder:
    """A tokenizer that knows where a choice begins.

    Args:
        tokenizer: the model's own.
        longest: tokens the model can read.
        vocabulary: how many different tokens it knows.

    Raises:
        FactoryError: the tokenizer ends every text with a mark that cannot be told from the text. Later:
            it makes a token that the model does not know, or none at all of a prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, longest: int, vocabulary: int) -> None:
        self.tokenizer, self.longest, self.vocabulary = tokenizer, longest, vocabulary
        self._appended = _appended(tokenizer)
        self._prompts = PromptManager(use_chat_template=False)

    def prompts(self, docs: Sequence[Doc]) -> Iterator[Tokens]:
        """The whole prompt of each document."""
        for start in range(0, len(docs), _AT_ONCE):
            texts = [self._prompts.prepare_prompt(doc) for doc in docs[start : start + _AT_ONCE]]
            yield from (tokens if len(tokens) else self._nothing() for tokens in self._tokens(texts))

    def questions(self, docs: Sequence[Doc], some: Sequence[int]) -> tuple[list[Question], dict[int, int]]:
        """The questions of some documents, and by document how many tokens were cut from the left.

        Documents with one id are one question, wherever they stand.
        """
        together: dict[str, list[int]] = {}
        for d in some:
            together.setdefault(docs[d].id or f"#{d}", []).append(d)
        all_members = list(together.values())
        questions: list[Question] = []
        cut: dict[int, int] = {}
        for start in range(0, len(all_members), _AT_ONCE):
            part = all_members[start : start + _AT_ONCE]
            choices = self._choices(docs, [d for members in part for d in members])
            for members in part:
                cut |= {d: max(over for *_, over in choices[d]) for d in members}
                whole = not any(cut[d] for d in members)
                own = [(read, target, place) for d in members for read, target, place, _ in choices[d]]
                questions.append(question(own, whole))
        return questions, cut

    def _choices(
        self, docs: Sequence[Doc], some: Sequence[int]
    ) -> dict[int, list[tuple[Tokens, Tokens, Place, int]]]:
        """By document its choices: what is read, by what it is judged, its place, tokens cut."""
        pairs = [self._context_and_choices(docs[d]) for d in some]
        contexts = self._tokens([context for context, _ in pairs])
        wholes = iter(self._tokens([context + choice for context, choices in pairs for choice in choices]))
        made: dict[int, list[tuple[Tokens, Tokens, Place, int]]] = {d: [] for d in some}
        for d, (_, choices), context in zip(some, pairs, contexts, strict=True):
            begin = context if len(context) else self._nothing()
            for c in range(len(choices)):
                whole = next(wholes) if len(context) else np.concatenate([begin, next(wholes)])
                if len(whole) > len(begin):
                    # Where the last of the prompt merges with the choice, the prompt is read as it is alone.
                    target = whole[len(begin) :]
                    whole = np.concatenate([begin, target])
                else:  # both merged into as many tokens; one must be left to judge (as lighteval has it)
                    target = whole[-1:]
                target = target[-self.longest :]
                read = whole[-(self.longest + 1) :][:-1]
                made[d].append((read, target, (d, c), max(0, len(whole) - 1 - len(read))))
        return made

    def _context_and_choices(self, doc: Doc) -> tuple[str, list[str]]:
        """Spaces at the end of the prompt belong to the choices."""
        prompt = self._prompts.prepare_prompt(doc)
        context = prompt.rstrip()
        return context, [prompt[len(context) :] + choice for choice in doc.choices]

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        """What the tokenizer makes of each text, short of the marks that it puts behind."""
        ids = self.tokenizer(texts)["input_ids"]
        made = [np.array(one[: len(one) - self._appended], dtype=np.int32) for one in ids]
        largest = max((int(one.max()) for one in made if len(one)), default=0)
        if largest >= self.vocabulary:  # on a GPU this would be a failed assertion without a name
            what = f"the tokenizer makes token {largest:,}, and the model knows {self.vocabulary:,} of them"
            raise self._refusal(what, "Put the model's own tokenizer beside its weights")
        return made

    def _nothing(self) -> Tokens:
        """What is read where there is no prompt: the end of a text before, as in v1."""
        end = self.tokenizer.eos_token_id
        if end is None:
            what = "a prompt is empty, and the tokenizer has no end of text that could stand for it"
            raise self._refusal(what, "Give the task a prompt, or the tokenizer an eos_token")
        return np.array([end], dtype=np.int32)

    def _refusal(self, what: str, mend: str) -> FactoryError:
        return FactoryError(what, where=self.tokenizer.name_or_path or None, mend=mend)


def _appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many marks the tokenizer puts behind every text, as the template `<s> $A </s>` does.

    A choice would be judged by them alone: context and choice differ in length by the choice, and what
    the model would read before it would hold the end of a text.
    """
    plain_ends: set[Any] = set()
    for probe in _PROBES:
        full = tokenizer(probe)["input_ids"]
        plain = tokenizer(probe, add_special_tokens=False)["input_ids"]
        places = [at for at in range(len(full) - len(plain) + 1) if full[at : at + len(plain)] == plain]
        if plain and len(places) == 1 and len(plain) < len(full):
            return len(full) - len(plain) - places[0]
        plain_ends.add(full[-1] if full else None)
    # Marks that are no "special tokens" to it, or texts that read otherwise with them.
    marks = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {tokenizer.unk_token_id, None}
    if plain_ends <= marks:
        what = f"the tokenizer ends every text with {tokenizer.convert_ids_to_tokens(plain_ends.pop())}"
        where = tokenizer.name_or_path or None
        raise FactoryError(what, where=where, mend="Take the mark out of its post-processor")
    return 0
