"""The `vllm` engine: vLLM's offline engine on the GPUs of this machine, for regeneration at scale.

An optional extra (`pip install model-factory[vllm]`). Chats are rendered and stop tokens found as for the
engine `transformers`; vLLM schedules, batches and samples. Requests are added as others finish, so no
more than a window of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from factory.engines import Answered, Generated, Request, Sampling, vllm_missing
from factory.engines.chats import Chats

AT_ONCE = 256  # vLLM's own usual number of rows in work
AHEAD = 4
"""Requests handed over for every row in work, so that vLLM never waits for one."""


class VllmEngine:
    """An `Engine` over `vllm.LLM`."""

    def __init__(self, folder: Path, batch_size: int | None = None) -> None:
        """Loads the model.

        Args:
            folder: stock model folder with tokenizer and chat template.
            batch_size: the most rows in work at once.

        Raises:
            FactoryError: vLLM is not installed, or the folder has no chat template or stop token.
        """
        try:
            import vllm
        except ImportError as error:
            raise vllm_missing(str(error)) from error
        self.chats = Chats(folder)
        self.at_once = batch_size or AT_ONCE
        self._vllm = vllm
        self._engine = vllm.LLM(model=str(folder), max_num_seqs=self.at_once, seed=0).llm_engine

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Generated]:
        """See `factory.engines.Engine`. A prompt that leaves no room gives "" and finish "length"."""
        source = iter(requests)
        working, in_tokens = 0, set[str]()  # the latter: asked in tokens, to be answered in tokens
        while True:
            for request in islice(source, AHEAD * self.at_once - working):
                in_tokens |= {str(request.id)} if request.prompt else set()
                prompt = list(request.prompt) or self.chats.prompt(request.messages)
                if (room := self.chats.room(prompt, sampling.max_new_tokens)) > 0:
                    parameters = self._sampling(request, sampling, room)
                    self._engine.add_request(str(request.id), {"prompt_token_ids": prompt}, parameters)
                    working += 1
                else:
                    yield Generated(request.id, "", "length", len(prompt), 0)
            if not working:
                return
            for output in self._engine.step():
                if output.finished:
                    working -= 1
                    yield self._finished(output, output.request_id in in_tokens)

    def likelihoods(self, chats: Iterable[Answered]) -> Iterator[tuple[int, float]]:
        """See `factory.engines.Engine`."""
        source = iter(chats)
        starts: dict[int, int] = {}
        parameters = self._vllm.SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, output_kind=self._last()
        )
        while True:
            for chat in islice(source, self.at_once - len(starts)):
                ids, start = self.chats.answered(chat.messages, chat.response)
                if self.chats.room(ids, 1) > 0:  # vLLM always writes a token behind
                    starts[chat.id] = start
                    self._engine.add_request(str(chat.id), {"prompt_token_ids": ids}, parameters)
                else:
                    yield chat.id, float("-inf")
            if not starts:
                return
            for output in self._engine.step():
                if output.finished:
                    id, ids = int(output.request_id), output.prompt_token_ids
                    told = zip(ids, output.prompt_logprobs, strict=True)
                    each = [at[token].logprob for token, at in islice(told, starts.pop(id), None)]
                    yield id, sum(each) / len(each)

    def _sampling(self, request: Request, sampling: Sampling, room: int) -> Any:
        return self._vllm.SamplingParams(
            max_tokens=room,
            temperature=sampling.temperature,
            seed=request.seed if sampling.temperature > 0 else None,
            stop_token_ids=sorted(self.chats.stops),
            logprobs=0,  # of the token taken and no other
            detokenize=False,
            output_kind=self._last(),
        )

    def _last(self) -> Any:
        """Results once, at the end of a row."""
        from vllm.sampling_params import RequestOutputKind

        return RequestOutputKind.FINAL_ONLY

    def _finished(self, output: Any, in_tokens: bool) -> Generated:
        [written] = output.outputs
        return Generated(
            int(output.request_id),
            self.chats.text(written.token_ids),
            "stop" if written.finish_reason == "stop" else "length",
            len(output.prompt_token_ids),
            len(written.token_ids),
            written.cumulative_logprob,
            tuple(written.token_ids) if in_tokens else (),
        )
