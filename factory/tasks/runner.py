"""Runs a model over rendered prompts, for the evaluate stage: a small `LightevalModel`.

Multiple choice as lm-evaluation-harness does it (`_encode_pair` and `loglikelihood`), but what several
sequences begin with is computed once: first what all questions of a call share (an MMLU subject's
instruction and examples, TruthfulQA's preamble), then what the choices of one question share, then each
choice's own tokens on a repeated key-value cache. Log-probabilities equal those of one plain forward
pass a choice up to rounding. Greedy generation runs in batches of similar length; a row leaves its batch
soon after its stop. No answer is ever taken from an earlier run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from lighteval.models.abstract_model import LightevalModel
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from factory.tasks.prefixes import Reader, State, common_prefix

_WORTH_SHARING = 8  # tokens; a shorter beginning is not worth a pass of its own
_LOGITS_AT_ONCE = 1 << 26  # numbers: 256 MB in fp32
_DEFAULT_MAX_LENGTH = 2048  # v1's, for models that state none
_KEEP_IN_BATCH = 0.75  # generation drops finished rows when at most this share is still running

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class _Item:
    """A choice: the model reads `tokens`, and its last `len(target)` outputs are judged by `target`."""

    tokens: Tokens
    target: Tokens

    @property
    def judged_from(self) -> int:
        """How many tokens can be read before the first judged output."""
        return len(self.tokens) - len(self.target)


@dataclass(frozen=True)
class _Question:
    """What shares a context: the choices of one document, or of all documents with one id.

    `head` is how many tokens all choices share, short of the first judged output; `places` tells for
    each item its document and choice.
    """

    items: tuple[_Item, ...]
    places: tuple[tuple[int, int], ...]
    head: int

    @property
    def tails(self) -> tuple[Tokens, ...]:
        """What is left to read after the head, each different tail once."""
        return tuple(dict.fromkeys(item.tokens[self.head :] for item in self.items))

    def judged_after(self, tail: Tokens) -> Iterator[tuple[Tokens, tuple[int, int]]]:
        """Target and place of every item with this tail (MMLU's four letters follow the same one)."""
        for item, place in zip(self.items, self.places, strict=True):
            if item.tokens[self.head :] == tail:
                yield item.target, place


class Runner(LightevalModel):
    """A model and its tokenizer behind lighteval's interface.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the model's own.
        batch_size: questions a batch.
        advance: told how many more questions are finished, whenever some are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        advance: Callable[[int], None] = lambda finished: None,
    ) -> None:
        self.model, self._tokenizer, self.batch_size, self.advance = model, tokenizer, batch_size, advance
        self._reader = Reader(model, tokenizer.pad_token_id or 0)
        self._prompts = PromptManager(use_chat_template=False)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def add_special_tokens(self) -> bool:
        """True: a tokenizer that begins a text with a mark does so here, once."""
        return True

    @property
    def max_length(self) -> int:
        """Positions the model was made for, in tokens."""
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            if isinstance(value := getattr(self.model.config, name, None), int):
                return value
        return _DEFAULT_MAX_LENGTH

    @torch.inference_mode()
    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """Log-probability of every choice of every document after its prompt, in the documents' order.

        What does not fit the model is cut from the left.
        """
        items = self._items(docs)
        questions = _questions(docs, items)
        shared = self._shared_beginning(questions)
        root = self._reader.extend([shared])[1] if shared else None
        found: dict[tuple[int, int], tuple[float, bool]] = {}
        # Cutting from the left can leave the choices of a question nothing to share: those go apart.
        for alike in ([q for q in questions if q.head], [q for q in questions if not q.head]):
            alike.sort(key=lambda question: question.head, reverse=True)
            for start in range(0, len(alike), self.batch_size):
                batch = alike[start : start + self.batch_size]
                found.update(self._judge(batch, root, len(shared)))
                self.advance(len(batch))
        return [
            ModelResponse(
                input=doc.query,
                logprobs=[found[d, c][0] for c in range(len(doc.choices))],
                argmax_logits_eq_gold=[found[d, c][1] for c in range(len(doc.choices))],
                output_tokens=[list(item.target) for item in items[d]],
            )
            for d, doc in enumerate(docs)
        ]

    @torch.inference_mode()
    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """Greedy continuations, cut before the first stop sequence, in the documents' order.

        Generation ends at a stop sequence, the model's end token or `generation_size` tokens. The prompt
        is cut from the left so that prompt and continuation fit the model.
        """
        prompts = self.tokenizer([self._prompts.prepare_prompt(doc) for doc in docs])["input_ids"]
        prompts = [
            prompt[-max(1, self.max_length - (doc.generation_size or 0)) :]
            for prompt, doc in zip(prompts, docs, strict=True)
        ]
        order = sorted(range(len(docs)), key=lambda d: len(prompts[d]), reverse=True)
        responses: dict[int, ModelResponse] = {}
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            made = self._generate([prompts[d] for d in batch], [docs[d] for d in batch])
            for d, tokens in zip(batch, made, strict=True):
                text = self._text(tokens)
                for stop in docs[d].stop_sequences or ():
                    text = text.split(stop)[0]
                responses[d] = ModelResponse(input=docs[d].query, text=[text], output_tokens=[tokens])
            self.advance(len(batch))
        return [responses[d] for d in range(len(docs))]

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """Not offered: no task of the suites scores whole texts.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("no task of the suites scores whole texts")

    def _items(self, docs: Sequence[Doc]) -> list[list[_Item]]:
        """Every choice of every document as tokens (v1's `_encode_pair`)."""
        pairs = [self._prompt_and_choices(doc) for doc in docs]
        contexts = self.tokenizer([context for context, _ in pairs])["input_ids"]
        texts = [context + choice for context, choices in pairs for choice in choices]
        wholes = iter(self.tokenizer(texts)["input_ids"])
        made: list[list[_Item]] = []
        for (_, choices), context in zip(pairs, contexts, strict=True):
            made.append([])
            for _ in choices:
                whole = next(wholes)
                # Both may merge into as many tokens; one must be left to judge (as lighteval has it).
                cut = min(len(context), len(whole) - 1)
                target = tuple(whole[cut:][-self.max_length :])
                made[-1].append(_Item(tuple(whole[-(self.max_length + 1) :][:-1]), target))
        return made

    def _prompt_and_choices(self, doc: Doc) -> tuple[str, list[str]]:
        """Spaces at the end of the prompt belong to the choices."""
        prompt = self._prompts.prepare_prompt(doc)
        context = prompt.rstrip()
        return context, [prompt[len(context) :] + choice for choice in doc.choices]

    def _shared_beginning(self, questions: Sequence[_Question]) -> Tokens:
        """What all questions begin with, if that is worth a pass; every question keeps a token of head."""
        if len(questions) < 2 or not self._reader.pads_inside:
            return ()
        heads = [question.items[0].tokens[: max(0, question.head - 1)] for question in questions]
        length = common_prefix(heads)
        return heads[0][:length] if length >= _WORTH_SHARING else ()

    def _judge(
        self, questions: Sequence[_Question], root: State | None, skip: int
    ) -> Iterator[tuple[tuple[int, int], tuple[float, bool]]]:
        """By (document, choice): the log-probability, and whether it is the greedy continuation.

        `root` has read the first `skip` tokens of all questions. Either every question has a head or none.
        """
        device = self.model.device
        state = None
        if questions[0].head:
            everyone = torch.zeros(len(questions), dtype=torch.long, device=device)
            before = root.select(everyone) if root else None
            heads = [question.items[0].tokens[skip : question.head] for question in questions]
            state = self._reader.extend(heads, before)[1]
        tails = [(q, tail) for q, question in enumerate(questions) for tail in question.tails]
        tails.sort(key=lambda tail: len(tail[1]), reverse=True)
        start = 0
        while start < len(tails):
            widest = len(tails[start][1])
            rows = max(1, min(self.batch_size, _LOGITS_AT_ONCE // (widest * self.model.config.vocab_size)))
            chunk, start = tails[start : start + rows], start + rows
            parents = torch.tensor([q for q, _ in chunk], device=device)
            logits, _ = self._reader.extend(
                [tail for _, tail in chunk],
                state.select(parents) if state else None,
                side="right",
                every_logit=True,
            )
            logits = logits.float()
            normaliser, greedy = logits.logsumexp(-1), logits.argmax(-1)
            for row, (q, tail) in enumerate(chunk):
                for target, place in questions[q].judged_after(tail):
                    outputs = slice(len(tail) - len(target), len(tail))
                    wanted = torch.tensor(target, device=device)
                    chosen = logits[row, outputs].gather(1, wanted[:, None])[:, 0]
                    value = (chosen - normaliser[row, outputs]).double().sum().item()
                    yield place, (value, bool((greedy[row, outputs] == wanted).all()))

    def _generate(self, prompts: Sequence[Sequence[int]], docs: Sequence[Doc]) -> list[list[int]]:
        """Greedy tokens for each prompt, up to and including what ended it."""
        ends = self._end_tokens()
        made: list[list[int]] = [[] for _ in prompts]
        running = list(range(len(prompts)))  # which prompt each row of the batch belongs to
        finished: set[int] = set()
        logits, state = self._reader.extend(prompts)
        while True:
            chosen = logits[:, -1].argmax(-1).tolist()
            for row, p in enumerate(running):
                if p not in finished:
                    made[p].append(chosen[row])
                    if chosen[row] in ends or self._is_over(made[p], docs[p]):
                        finished.add(p)
            if len(finished) == len(prompts):
                return made
            going = [row for row, p in enumerate(running) if p not in finished]
            if len(going) <= _KEEP_IN_BATCH * len(running):
                state = state.select(torch.tensor(going, device=self.model.device))
                running, chosen = [running[row] for row in going], [chosen[row] for row in going]
            logits, state = self._reader.extend([[token] for token in chosen], state)

    def _is_over(self, made: list[int], doc: Doc) -> bool:
        if len(made) >= (doc.generation_size or 1):
            return True
        stops = doc.stop_sequences or ()
        # A token is at least a byte, so a stop that has just been completed lies in the last few tokens.
        window = max((len(stop.encode()) for stop in stops), default=0) + 1
        text = self._text(made[-window:])
        return any(stop in text for stop in stops)

    def _text(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _end_tokens(self) -> set[int]:
        stated = self.model.generation_config.eos_token_id if self.model.generation_config else None
        listed = stated if isinstance(stated, list) else [stated]
        return {token for token in (*listed, self.tokenizer.eos_token_id) if token is not None}


def _questions(docs: Sequence[Doc], items: Sequence[Sequence[_Item]]) -> list[_Question]:
    """Gathers the items of documents with one id, which share most of their context."""
    together: dict[str, list[tuple[_Item, tuple[int, int]]]] = defaultdict(list)
    for d, doc in enumerate(docs):
        together[doc.id or f"#{d}"].extend((item, (d, c)) for c, item in enumerate(items[d]))
    questions = []
    for members in together.values():
        own = tuple(item for item, _ in members)
        head = min(common_prefix([item.tokens for item in own]), *(item.judged_from for item in own))
        questions.append(_Question(own, tuple(place for _, place in members), head))
    return questions
