"""Runs a model over rendered prompts, for the evaluate stage: a small `LightevalModel`.

encoding.py turns prompts and choices into tokens; judging.py and generation.py compute what several
sequences begin with once. Log-probabilities equal those of one plain forward pass a choice up to rounding.
Answers are handed over batch by batch, so that they can be kept as they come; none is ever taken from an
earlier run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import torch
from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from factory.errors import FactoryError
from factory.tasks import generation
from factory.tasks.encoding import Encoder
from factory.tasks.judging import WORTH_SHARING, Bounds, Judge
from factory.tasks.mmlu import SUBJECTS
from factory.tasks.prefixes import Reader, Tokens, common_prefix
from factory.tasks.states import State

_DEFAULT_MAX_LENGTH = 2048  # v1's, for models that state none
_NO_LENGTH = 10**9  # tokenizers without a length state one far above
_MEMORY = 1 << 28  # bytes for keys and values without a GPU
_GPU_SHARE = 0.4  # of the memory that is free once the model is loaded
_MOST_TOKENS = 1 << 14  # in one pass; larger ones are no faster

Batch = list[tuple[int, ModelResponse]]
"""Positions of documents in the list that was asked, each with its response."""


class _NoCache:
    """Stands where lighteval's models have their sample cache until lighteval_upstream.py takes it away."""

    def _init_registry(self, registry: Any) -> None:
        """Nothing is kept, so no task needs to be known."""


class Runner(LightevalModel):
    """A model and its tokenizer behind lighteval's interface.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the model's own.
        batch_size: questions a batch at most.
        advance: told how many more questions are finished, whenever some are.
        memory: bytes that the keys and values of a batch may take; passes and their logits take half as
            much again. None chooses by the device. Questions of long contexts come in smaller batches.

    Attributes:
        cut: documents whose prompt did not fit the model and lost its beginning, so far.
        notes: what a reader of the scores should know about how they were computed.

    Raises:
        FactoryError: the model is an encoder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        advance: Callable[[int], None] = lambda finished: None,
        memory: int | None = None,
    ) -> None:
        self.model, self._tokenizer, self.batch_size, self.advance = model, tokenizer, batch_size, advance
        self.cut = 0
        # What lighteval's `Pipeline` asks of a model while it is built; the answers are not cached.
        self.config = ModelConfig(model_name=model.config.name_or_path or model.config.model_type)
        self._cache = _NoCache()
        self._reader = Reader(model, tokenizer.pad_token_id or 0)
        if self._reader.looks_ahead:  # transformers loads it all the same, with a warning in a log
            raise FactoryError(
                f"the {model.config.model_type} is an encoder: each of its tokens sees those behind it",
                where=model.config.name_or_path or None,
                mend="Use a decoder-only language model",
            )
        self._bounds = _bounds(model, batch_size, memory)
        self.notes: tuple[str, ...] = ()
        if self._reader.obstacle:
            kind = model.config.model_type
            why = f"the cache of {kind} cannot be shared ({self._reader.obstacle})"
            self.notes = (f"{why}: every choice was read whole, which is slower",)

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
        """Positions the model was made for, in tokens.

        As in v1: where its configuration states none the tokenizer's length stands, else 2,048.
        """
        config = self.model.config.get_text_config(decoder=True)
        for name in ("n_positions", "max_position_embeddings", "n_ctx"):
            if isinstance(value := getattr(config, name, None), int):
                return value
        stated = self.tokenizer.model_max_length
        return stated if isinstance(stated, int) and 0 < stated < _NO_LENGTH else _DEFAULT_MAX_LENGTH

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """Log-probability of every choice of every document after its prompt, in the documents' order."""
        return _in_order(self.judged(docs))

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """Greedy continuations, cut before the first stop sequence, in the documents' order."""
        return _in_order(self.generated(docs))

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """Not offered: no task of the suites scores whole texts.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("no task of the suites scores whole texts")

    def judged(self, docs: Sequence[Doc], done: Container[int] = ()) -> Iterator[Batch]:
        """Log-probabilities of every choice, batch by batch, long prompts first.

        Batches are cut as if nothing were `done` (positions of documents answered before), and passed over
        where all of a batch is: so a document meets the same others, and its sums the same rounding,
        whenever it is answered.

        What does not fit the model is cut from the left (`truncated_tokens_count` of the response).
        Documents of one task and id come in the same batch; prefixes are shared within a task.

        Raises:
            FactoryError: a log-probability is not finite (names task and row), or the tokenizer is another
                model's.
        """
        judge, encoder = Judge(self._reader, self._bounds), self._encoder()
        for group in _by_task(docs).values():
            if all(d in done for d in group):
                continue
            questions, cut = encoder.questions(docs, group)
            for batch, found in judge.batches(questions, done):
                answered: Batch = []
                targets = {place: target for one in batch for place, target in one.targets.items()}
                for d in dict.fromkeys(d for d, _ in targets):
                    places = [(d, c) for c in range(len(docs[d].choices))]
                    if not all(math.isfinite(found[place][0]) for place in places):
                        raise self._no_number(docs[d])
                    response = ModelResponse(
                        input=docs[d].query,
                        logprobs=[found[place][0] for place in places],
                        argmax_logits_eq_gold=[found[place][1] for place in places],
                        output_tokens=[targets[place].tolist() for place in places],
                        truncated_tokens_count=cut[d],
                    )
                    answered.append((d, response))
                yield self._finished(answered, len(batch))

    def generated(self, docs: Sequence[Doc], done: Container[int] = ()) -> Iterator[Batch]:
        """Greedy continuations, cut before the first stop sequence; batch by batch, long prompts first.

        Generation ends at a stop sequence, the model's end token or `generation_size` tokens. The prompt
        is cut from the left so that prompt and continuation fit the model. `done` is as in `judged`.

        Raises:
            FactoryError: the best logit of a row is not finite (names task and row), or the tokenizer is
                another model's.
        """
        encoder = self._encoder()
        for group in _by_task(docs).values():
            if all(d in done for d in group):
                continue
            prompts: dict[int, Tokens] = {}
            cut: dict[int, int] = {}
            for d, tokens in zip(group, encoder.prompts([docs[d] for d in group]), strict=True):
                room = max(1, self.max_length - (docs[d].generation_size or 0))
                prompts[d], cut[d] = tokens[-room:], max(0, len(tokens) - room)
            longest = max(map(len, prompts.values()))
            self._reader.expect(longest + max(docs[d].generation_size or 1 for d in group))
            skip = self._shared_by_prompts(list(prompts.values()))
            root = self._reader.read([prompts[group[0]][:skip]])[1] if skip else None
            for members in self._generation_batches(docs, prompts):
                if all(d in done for d in members):
                    continue
                made = self._generate([docs[d] for d in members], [prompts[d][skip:] for d in members], root)
                answered: Batch = []
                for d, new in zip(members, made, strict=True):
                    text = self._text(new)
                    for stop in docs[d].stop_sequences or ():
                        text = text.split(stop)[0]
                    response = ModelResponse(
                        input=docs[d].query,
                        text=[text],
                        output_tokens=[new],
                        truncated_tokens_count=cut[d],
                    )
                    answered.append((d, response))
                yield self._finished(answered, len(members))

    def _encoder(self) -> Encoder:
        vocabulary = self.model.config.get_text_config(decoder=True).vocab_size
        return Encoder(self.tokenizer, self.max_length, vocabulary)

    def _finished(self, answered: Batch, questions: int) -> Batch:
        self.cut += sum(response.truncated_tokens_count > 0 for _, response in answered)
        self.advance(questions)
        return answered

    def _no_number(self, doc: Doc) -> FactoryError:
        name, row = doc.task_name.split("|")[0], doc.id.rpartition("/")[2]
        task = f"mmlu ({name})" if name in SUBJECTS else name
        what = f"{task}: the model's output for row {row} is not finite"
        where = self.model.config.name_or_path or None
        return FactoryError(what, where=where, mend="Check its weights, or compute in a wider number format")

    def _shared_by_prompts(self, prompts: Sequence[Tokens]) -> int:
        """How many tokens all prompts begin with, if that is worth a pass."""
        if self._reader.obstacle or not self._reader.pads_inside or len(prompts) < 2:
            return 0
        shared = common_prefix([prompt[:-1] for prompt in prompts])
        return shared if shared >= WORTH_SHARING else 0

    def _generation_batches(self, docs: Sequence[Doc], prompts: dict[int, Tokens]) -> Iterator[list[int]]:
        """Documents by length of prompt, in batches whose cache fits."""
        waiting = sorted(prompts, key=lambda d: len(prompts[d]), reverse=True)
        while waiting:
            longest = len(prompts[waiting[0]])
            columns = longest + max(docs[d].generation_size or 0 for d in waiting)
            cached = max(1, columns * self._reader.bytes_a_token)
            rows = max(1, min(self.batch_size, self._bounds.cached // cached))
            batch = waiting[:rows]
            if self._reader.obstacle:  # its own `generate` gets no padding
                batch = [d for d in batch if len(prompts[d]) == longest]
            yield batch
            waiting = waiting[len(batch) :]

    def _generate(
        self, docs: Sequence[Doc], prompts: Sequence[Tokens], root: State | None
    ) -> list[list[int]]:
        """Greedy tokens for each prompt, up to and including what ended it."""
        ends = self._end_tokens()
        longest = max(doc.generation_size or 1 for doc in docs)

        def ended(row: int, made: list[int]) -> bool:
            return made[-1] in ends or self._is_over(made, docs[row])

        try:
            if self._reader.obstacle:
                return generation.by_the_model(self._reader, prompts, ended, longest)
            return generation.greedy(self._reader, prompts, ended, root)
        except generation.NoNumberError as error:
            raise self._no_number(docs[error.row]) from error

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


def _by_task(docs: Sequence[Doc]) -> dict[str, list[int]]:
    """Positions of the documents of each task."""
    groups: dict[str, list[int]] = {}
    for d, doc in enumerate(docs):
        groups.setdefault(doc.task_name, []).append(d)
    return groups


def _in_order(batches: Iterator[Batch]) -> list[ModelResponse]:
    found = dict(answer for batch in batches for answer in batch)
    return [found[d] for d in sorted(found)]


def _bounds(model: PreTrainedModel, questions: int, memory: int | None) -> Bounds:
    """As much as the memory for keys and values, a quarter of it for one pass and one for its logits."""
    if memory is None:
        on_gpu = model.device.type == "cuda"
        memory = int(torch.cuda.mem_get_info(model.device)[0] * _GPU_SHARE) if on_gpu else _MEMORY
    config = model.config.get_text_config(decoder=True)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # The widest point of a block holds a token's inputs, projections and three inner vectors.
    token = (12 * config.hidden_size + 3 * inner) * model.dtype.itemsize
    tokens = min(_MOST_TOKENS, memory // 4 // token)
    # Logits, a float32 copy of them, and the exponentials that logsumexp takes the sum of.
    return Bounds(questions, tokens, memory, memory // 4 // (model.dtype.itemsize + 8))
