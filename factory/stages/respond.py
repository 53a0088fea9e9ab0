"""Respond: a model's own texts behind prompts, greedy and sampled, as tokens; the stage draft reads them.

Planned once a set of prompts for the target of speculative decoding, whatever the number of drafts. A
prompt is a question in the model's chat template, or the beginning of a plain text. Prompts of a dataset of
their own are drawn as drift draws its own (`factory/data/row_order.py`). Greedy texts of earlier steps are
taken over where the target is the recipe's base:

- responses that regenerate wrote greedily from the question alone, if they are split into the tokens that
  were generated (a set of prompts `of` a training set that was so regenerated);
- what drift had the base answer, where its held-out prompts and these are the same (a set whose dataset is
  one that drift asks of), if that may be as long.

The model, reading them, must find that it would write every token again (`factory/engines/writer.py`).

Texts are appended to a file as they are finished, so a run that was killed loses those in work; in memory
is one piece of them (`factory/texts/text.py`).
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from factory import parquet, prompts
from factory.data.row_order import drawn
from factory.data.rows import DataSpec, TextSpec, iterate_rows, iterate_texts
from factory.errors import FactoryError
from factory.json_lines import JsonLines
from factory.seeds import stream
from factory.stages import Frozen, Progress
from factory.texts import text as files
from factory.texts.text import MODES, Text

if TYPE_CHECKING:
    from factory.engines import Request

VERSION = 3
LIBRARIES = ("torch", "transformers", "tokenizers")


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the prompts, all of them; of `kind: text` its prompt kind says nothing.
        rows: how many are taken at most.
        draw: the seed under which they are drawn; None takes the first.
        kind: `chat` asks the rows' instructions in the chat template, `text` goes on from a text's beginning.
        prompt_tokens: of `kind: text`, how much of the text is the prompt; of a short one half of it.
        max_new_tokens: the longest response.
        positions: the most tokens that prompt and response may have together, of models that read them and
            have fewer positions than the target; None where none has.
        temperature: of the sampled responses.
        seed: of the sampling.
    """

    data: DataSpec
    rows: int = Field(default=100, ge=1)
    draw: int | None = None
    kind: Literal["chat", "text"] = "chat"
    prompt_tokens: int = Field(default=32, ge=1)
    max_new_tokens: int = Field(default=128, ge=2)
    positions: int | None = Field(default=None, ge=2)
    temperature: float = Field(default=1.0, gt=0)
    seed: int = 0


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes greedy/*.parquet and sampled/*.parquet, see `factory.texts.text.Text`.

    Args:
        settings: see `Settings`.
        inputs: `target`, a model folder, of `kind: chat` with a chat template; `data`, a dataset folder;
            perhaps `regenerated`, an artifact of regenerate whose first rows are those of `data`; perhaps
            `held_out`, the artifact of drift/base.
        out: may hold what an interrupted run of the same step wrote; that is kept.
        progress: told the texts done.

    Returns:
        `rows`; by mode `texts`, `tokens`, `stopped` (how many ended by themselves), `sources` (how many
        texts were generated, and taken over from where) and `no_room` (prompts that fill the model).

    Raises:
        FactoryError: the prompts or the model cannot be used.
    """
    from factory.engines import Sampling
    from factory.engines.writer import Writer

    chosen = _Chosen(settings, inputs["data"])
    total = sum(1 for _ in chosen.rows())  # reads it all: a broken row is told first
    progress(0, len(MODES) * total, "texts")
    asked = _Asked(settings, inputs)
    writer = Writer(inputs["target"], "draft")
    done, found = 0, dict[str, Any]()

    def told(here: int) -> None:
        progress(done + here, len(MODES) * total, "texts")

    for mode in MODES:
        counts: Counter[str] = Counter()
        sampling = Sampling(settings.max_new_tokens, settings.temperature if mode == "sampled" else 0.0)
        rows = zip(chosen.rows(), _regenerated(inputs), strict=False)
        piece = 0
        while part := list(islice(rows, files.PIECE)):
            if not files.path(out, mode, piece).exists():
                requests = [asked.request(index, row) for (index, row), _ in part]
                known = map(asked.known, requests, part) if mode == "greedy" else ()
                journal = JsonLines(out / "journal" / f"{mode}-{piece:05}.jsonl")
                made = writer.write(requests, sampling, journal, told, [text for text in known if text])
                files.write(out, mode, piece, [text for text in map(asked.fitted, made) if text.response])
            done += len(part)
            piece += 1
        for texts in files.read(out, mode):
            counts["texts"] += len(texts)
            for text in texts:
                counts["tokens"] += len(text.response)
                counts["stopped"] += text.finish == "stop"
                counts[text.source] += 1
        sources = {name: counts[name] for name in ("generated", "regenerated", "held_out")}
        sums = {name: counts[name] for name in ("texts", "tokens", "stopped")}
        found[mode] = {**sums, "sources": sources, "no_room": total - counts["texts"]}
    if not all(found[mode]["texts"] for mode in MODES):
        what = f"every prompt of '{settings.data.name}' fills the model: there is no room for a response"
        raise FactoryError(what, where=f"draft.prompts.{settings.data.name}", mend="Take shorter prompts")
    shutil.rmtree(out / "journal", ignore_errors=True)
    progress(done, done, "texts")
    return {"rows": total, **found}


class _Chosen:
    """The rows that are asked, with their places in the files, in that order."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._drawn = None if settings.draw is None else drawn(self._all(), settings.draw, settings.rows)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Read again each time, but where they are drawn."""
        return islice(self._all(), self._settings.rows) if self._drawn is None else iter(self._drawn)

    def _all(self) -> Iterator[tuple[int, dict[str, str]]]:
        data = self._settings.data
        if self._settings.kind == "text":
            spec = TextSpec(**data.model_dump(include=set(TextSpec.model_fields)))
            return enumerate({"text": text} for text in iterate_texts(self._folder, spec))
        return enumerate(iterate_rows(self._folder, data))


def _regenerated(inputs: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """What regenerate wrote for each row, a batch in memory, and nothing for ever behind the last of them."""
    if "regenerated" in inputs:
        columns = ["instruction", "context", "regenerated", "new_tokens"]
        for file in sorted((inputs["regenerated"] / "data").glob("train-*.parquet")):
            yield from parquet.rows(file, columns)
    while True:
        yield {}


class _Asked:
    """Rows as prompts, and what earlier steps know of their responses."""

    def __init__(self, settings: Settings, inputs: Mapping[str, Path]) -> None:
        from factory.engines.chats import Chats

        self._settings, self._chats = settings, Chats(inputs["target"])
        held_out = files.read(inputs["held_out"], "greedy") if "held_out" in inputs else ()
        self._held_out = {tuple(text.prompt): text.response for piece in held_out for text in piece}

    def request(self, index: int, row: Mapping[str, str]) -> Request:
        """The prompt of a row."""
        from factory.engines import Request

        seed = stream(self._settings.seed, "row", str(index))
        return Request(index, seed=seed, prompt=tuple(self._prompt(index, row)))

    def known(
        self, request: Request, numbered: tuple[tuple[int, dict[str, str]], dict[str, Any]]
    ) -> Text | None:
        """A greedy response from elsewhere, in the tokens that it was generated in; None where there is none.

        Args:
            request: the prompt.
            numbered: its row, and what regenerate made of it: `regenerated`, the text, and `new_tokens`, how
                many tokens it was.
        """
        (index, row), old = numbered
        if response := self._held_out.get(request.prompt):
            return self._cut(request, response, "held_out")
        if not old or (old["instruction"], old["context"]) != (row["instruction"], row["context"]):
            return None
        ids, _ = self._chats.answered(self._messages(index, row), old["regenerated"])
        prompt, response = ids[: len(request.prompt)], ids[len(request.prompt) :]
        count = old["new_tokens"]
        if count < 1 or tuple(prompt) != request.prompt or not 0 <= len(response) - count <= 1:
            return None
        # To a response that ran out of tokens the template adds a stop token that was never generated.
        return self._cut(request, response[:count], "regenerated")

    def _cut(self, request: Request, response: Sequence[int], source: str) -> Text | None:
        """A response cut to what is asked for; None where it was cut shorter than that."""
        room = self._chats.room(request.prompt, self._settings.max_new_tokens)
        cut = list(response[: max(0, room)])
        finish = "stop" if cut and cut[-1] in self._chats.stops else "length"
        if finish == "length" and len(cut) < max(1, room):
            return None
        return Text(request.id, list(request.prompt), cut, finish, source)

    def fitted(self, text: Text) -> Text:
        """A text cut to what models of fewer positions can read; what it begins with is what it was."""
        if self._settings.positions is None or len(text) <= self._settings.positions:
            return text
        room = max(0, self._settings.positions - len(text.prompt))
        return replace(text, response=text.response[:room], finish="length")

    def _prompt(self, index: int, row: Mapping[str, str]) -> list[int]:
        chats = self._chats
        if self._settings.kind == "chat":
            return chats.prompt(self._messages(index, row))
        ids: list[int] = chats.tokenizer(row["text"])["input_ids"]
        while len(ids) > 1 and ids[-1] in chats.stops:  # some tokenizers end every text themselves
            ids.pop()
        return ids[: max(1, min(self._settings.prompt_tokens, len(ids) // 2))]

    def _messages(self, index: int, row: Mapping[str, str]) -> list[dict[str, str]]:
        try:
            return prompts.messages(self._settings.data.prompt, row["instruction"], row["context"])
        except ValueError as error:
            name = self._settings.data.name
            what = f"row {index} (from 0) of the prompts '{name}' is no chat: {error}"
            mend = "Correct it, or take the prompt instruct"
            raise FactoryError(what, where=f"draft.prompts.{name}", mend=mend) from error
