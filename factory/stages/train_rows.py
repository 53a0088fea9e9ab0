"""Training rows as token ids and labels: the loss is on the response and its stop token alone.

Under train.py, which hands them to TRL's trainers as they are: rows with labels are not touched there. A
row is rendered by the tokenizer's own chat template; the completion begins where the prompt by itself and
the whole row part, as in TRL's own preparation.

What cannot be trained on is counted: rows longer than the model reads, and rows without a response.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from factory import prompts
from factory.data.rows import DataSpec
from factory.errors import FactoryError
from factory.recipe.training import LongRows
from factory.wording import counted

IGNORED = -100  # the label of a token without loss: PyTorch's ignore_index
_BEHIND = 3  # some templates put a line end behind the stop token


@dataclass(frozen=True)
class Rows:
    """Rows to train on.

    Attributes:
        dataset: a `datasets.Dataset` of input_ids and labels, shuffled.
        tokens: of all of them.
        trained: tokens that have a label.
        left_out: rows longer than the room, which are not among them.
        cut: rows among them that lost the beginning of their prompt.
        empty: rows without a response, which are not among them.
        unlike: rows before whose response the template puts other tokens than where it asks for one,
            as some do that know of a thinking mode.
    """

    dataset: Any
    tokens: int
    trained: int
    left_out: int
    cut: int
    empty: int
    unlike: int

    def said(self, room: int | None, whole: bool = False) -> list[str]:
        """What a person has to be told of these rows, as sentences without a full stop.

        Args:
            room: how many tokens a row may have.
            whole: whether that is all that the model reads, less than the recipe allows.
        """
        lines = []
        most = f"{room:,} tokens" + (", all that the model reads" if whole else "") if room else ""
        if self.left_out:
            lines.append(f"{counted(self.left_out, 'row')} left out: longer than {most}")
        if self.cut:
            lines.append(f"{counted(self.cut, 'row')} cut at the beginning of the prompt to {most}")
        if self.empty:
            lines.append(f"{counted(self.empty, 'row')} left out: no response")
        if self.unlike:
            rows = counted(self.unlike, "row")
            lines.append(
                f"in {rows} the chat template puts other tokens before a response than where it asks for one"
            )
        return lines


@dataclass(frozen=True)
class Row:
    """A row's ids, how many of them are the prompt's, and whether a question ends otherwise than that."""

    ids: array[int]
    start: int
    unlike: bool


@dataclass(frozen=True)
class Renderer:
    """Makes token ids of rows.

    Attributes:
        tokenizer: of the model.
        stops: ids that end a turn.
        where: the model's folder, for messages.
    """

    tokenizer: Any
    stops: frozenset[int]
    where: str

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise FactoryError(
                "the tokenizer has no chat template",
                where=self.where,
                mend="Use an instruction-tuned model, or add chat_template.jinja to the base",
            )

    def row(self, prompt: list[dict[str, str]], response: str) -> Row:
        """Prompt and response as ids.

        Raises:
            FactoryError: the template does not end the response with a stop token.
        """
        asked = self._ids(prompt, add_generation_prompt=True)
        whole = self._ids([*prompt, {"role": "assistant", "content": response}])
        alike = zip(asked, whole, strict=False)
        start = next((i for i, (a, b) in enumerate(alike) if a != b), min(len(asked), len(whole)))
        if not self.stops & set(whole[start:][-_BEHIND:]):
            raise FactoryError(
                "the chat template does not end the assistant's turn with a stop token of the model, so the "
                "trained model would never stop",
                where=self.where,
                mend="Add the template's last token to eos_token_id in generation_config.json",
            )
        return Row(array("i", whole), start, start < len(asked))

    def _ids(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        ids = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        return list(ids)


def stops_of(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """The ids at which the model ends a turn."""
    found = generation_config.eos_token_id
    found = tokenizer.eos_token_id if found is None else found
    return frozenset(found if isinstance(found, list) else [found])


def training_rows(
    sources: Iterable[tuple[DataSpec, Iterable[tuple[str, str, str]]]],
    renderer: Renderer,
    room: int | None,
    long_rows: LongRows,
    seed: int,
) -> Rows:
    """Renders, measures and shuffles rows.

    Args:
        sources: each dataset with its rows as (instruction, context, response).
        renderer: of the model.
        room: how many tokens a row may have; None for any number.
        long_rows: what becomes of longer ones: `drop` leaves them out, `cut` takes away from the beginning of
            the prompt (see `cut`); one whose response alone is too long is left out in any case.
        seed: of the shuffling.

    Raises:
        FactoryError: no row is left; as `Renderer.row`.
    """
    from datasets import Dataset, Features, Sequence, Value

    ids: list[array[int]] = []
    labels: list[array[int]] = []
    left_out = shortened = empty = unlike = 0
    for spec, rows in sources:
        for instruction, context, response in rows:
            if not response.strip():
                empty += 1
                continue

            def render(
                instruction: str, context: str, kind: str = spec.prompt, response: str = response
            ) -> Row:
                return renderer.row(prompts.messages(kind, instruction, context), response)

            row: Row | None = render(instruction, context)
            if room is not None and row is not None and len(row.ids) > room:
                row = cut(render, room, spec.prompt, instruction, context) if long_rows == "cut" else None
                left_out += row is None
                shortened += row is not None
            if row is not None:
                unlike += row.unlike
                ids.append(row.ids)
                labels.append(array("i", [IGNORED]) * row.start + row.ids[row.start :])
    if not ids:
        raise _none_left(left_out, empty, room, long_rows)
    features = Features({name: Sequence(Value("int32")) for name in ("input_ids", "labels")})
    dataset = Dataset.from_dict({"input_ids": ids, "labels": labels}, features=features)
    return Rows(
        dataset.shuffle(seed=seed),
        tokens=sum(map(len, ids)),
        trained=sum(len(row) - row.count(IGNORED) for row in labels),
        left_out=left_out,
        cut=shortened,
        empty=empty,
        unlike=unlike,
    )


def cut(
    render: Callable[[str, str], Row],
    room: int,
    kind: str,
    instruction: str,
    context: str,
) -> Row | None:
    """A row that is too long with as little as must be of its prompt taken away; None where nothing helps.

    First the context loses its beginning, and once it is gone the instruction; of a conversation whole turns
    go, the oldest first. The template's own marks and the response with its stop token stay whole.

    Args:
        render: from instruction and context to a row.
        room: how many tokens it may have.
        kind: of prompt, one of `prompts.KINDS`.
        instruction: of the row.
        context: of the row.
    """

    def fits(instruction: str, context: str) -> bool:
        return len(render(instruction, context).ids) <= room

    if kind == prompts.CHAT:
        turns = prompts.turns(context)
        kept = turns[:1] if turns and turns[0]["role"] == "system" else []
        turns = turns[len(kept) :]
        while turns and not fits(instruction, json.dumps([*kept, *turns])):
            turns = turns[2:]  # a question goes with its answer: roles still take turns
        context = json.dumps([*kept, *turns])
    else:
        start = bisect_left(range(len(context)), True, key=lambda i: fits(instruction, context[i:]))
        context = context[start:]
    if not fits(instruction, context):
        start = bisect_left(range(len(instruction)), True, key=lambda i: fits(instruction[i:], context))
        instruction = instruction[start:]
    return render(instruction, context) if instruction.strip() and fits(instruction, context) else None


def _none_left(left_out: int, empty: int, room: int | None, long_rows: LongRows) -> FactoryError:
    if not left_out:
        what = f"no row has a response ({counted(empty, 'row')} left out)"
        return FactoryError(what, where="train", mend="Look at the regenerated rows, or train on `original`")
    return FactoryError(
        f"no row fits max_length, {room} tokens ({counted(left_out, 'row')} left out)",
        where="train.sft.max_length",
        mend="Raise it" + ("" if long_rows == "cut" else ", or set `long_rows: cut`"),
    )
