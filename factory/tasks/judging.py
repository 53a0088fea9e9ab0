"""Log-probabilities of choices, with what they begin with read once.

Between prefixes.py and runner.py. Three levels are shared: what all questions of a group begin with (an
MMLU subject's instruction and examples, TruthfulQA's preamble), then what the choices of one question
share, then what choices read alike but answer differently (MMLU's four letters). Batches are as large as
a bound on memory allows.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from factory.tasks.prefixes import Reader, Tokens, common_prefix
from factory.tasks.states import State

WORTH_SHARING = 8  # tokens; a shorter beginning is not worth a pass of its own

Place = tuple[int, int]
"""A choice: which document, and which of its choices."""


@dataclass(frozen=True)
class Tail:
    """What is read after a question's head, and the targets its last outputs are judged by."""

    tokens: Tokens
    targets: tuple[tuple[Tokens, Place], ...]

    @property
    def judged(self) -> int:
        """How many of its last outputs are wanted."""
        return max(len(target) for target, _ in self.targets)


@dataclass(frozen=True)
class Question:
    """What shares a context: the choices of one document, or of all documents with one id.

    Attributes:
        head: the tokens all choices share, short of the first judged output.
        tails: every different continuation of the head, longest first.
        whole: whether nothing was cut from its left.
    """

    head: Tokens
    tails: tuple[Tail, ...]
    whole: bool

    @property
    def targets(self) -> dict[Place, Tokens]:
        """All its choices, with the tokens each is judged by."""
        return {place: target for tail in self.tails for target, place in tail.targets}

    @property
    def longest(self) -> int:
        """Tokens of its longest choice, the head included."""
        return len(self.head) + len(self.tails[0].tokens)

    @property
    def columns(self) -> int:
        """Tokens of its head and all its tails."""
        return len(self.head) + sum(len(tail.tokens) for tail in self.tails)

    @property
    def forks(self) -> bool:
        """Whether its head is worth a pass of its own."""
        return len(self.tails) > 1 and len(self.head) >= WORTH_SHARING


def question(choices: Sequence[tuple[Tokens, Tokens, Place]], whole: bool) -> Question:
    """Gathers what choices share.

    Args:
        choices: of each what the model reads, by what its last outputs are judged, and its place.
        whole: whether nothing was cut from its left.
    """
    room = min(len(tokens) - len(target) for tokens, target, _ in choices)
    head = min(common_prefix([tokens for tokens, _, _ in choices]), room)
    gathered: dict[bytes, list[tuple[Tokens, Place]]] = {}
    for tokens, target, place in choices:
        gathered.setdefault(tokens[head:].tobytes(), []).append((target, place))
    tails = [Tail(np.frombuffer(key, dtype=np.int32), tuple(targets)) for key, targets in gathered.items()]
    tails.sort(key=lambda tail: len(tail.tokens), reverse=True)
    return Question(choices[0][0][:head].copy(), tuple(tails), whole)


@dataclass(frozen=True)
class Bounds:
    """How large a batch may become.

    Attributes:
        questions: in a batch.
        tokens: read in one pass.
        cached: bytes of keys and values.
        logits: numbers computed in one pass.
    """

    questions: int
    tokens: int
    cached: int
    logits: int


class Judge:
    """Finds log-probabilities with a `Reader`.

    Args:
        reader: reads pieces; whole sequences if it has an obstacle.
        bounds: of a batch.
    """

    def __init__(self, reader: Reader, bounds: Bounds) -> None:
        self.reader, self.bounds = reader, bounds
        self.vocabulary = reader.model.config.get_text_config(decoder=True).vocab_size

    @torch.inference_mode()
    def batches(
        self, questions: Sequence[Question], done: Container[int] = ()
    ) -> Iterator[tuple[list[Question], dict[Place, tuple[float, bool]]]]:
        """Judges the questions of a group batch by batch, long ones first.

        Args:
            questions: of one group.
            done: documents; a batch of these alone is passed over.

        Yields:
            The questions of a batch; and by choice its log-probability in nats, and whether it is the
            greedy continuation.
        """
        # What was cut from the left no longer begins as the others do.
        for alike in ([one for one in questions if one.whole], [one for one in questions if not one.whole]):
            skip, forks = self._levels(alike)
            root = self.reader.read([alike[0].head[:skip]])[1] if skip else None
            for forking in (True, False):
                kind = [one for one in alike if (forks and one.forks) == forking]
                kind.sort(key=lambda one: one.longest, reverse=True)
                rows = self._rows(kind, skip, forking) if kind else 0
                room = max((one.columns for one in kind), default=0) - skip
                spread = root.select([0] * rows, room) if root and kind else None
                while kind:
                    rows = rows if spread else self._rows(kind, skip, forking)
                    batch = kind[: rows if forking else self._enough(kind, rows)]
                    kind = kind[len(batch) :]
                    if all(d in done for one in batch for d, _ in one.targets):
                        continue
                    if forking:
                        yield batch, self._fork(batch, spread, skip)
                    else:
                        yield batch, self._whole(batch, spread, skip, rows)

    def _levels(self, questions: Sequence[Question]) -> tuple[int, bool]:
        """How many tokens all questions share, if that is worth a pass, and whether heads are worth one."""
        if not questions or self.reader.obstacle:
            return 0, False
        heads = max(len(one.head) for one in questions)
        self.reader.expect(heads + max(one.columns - len(one.head) for one in questions))
        skip = common_prefix([one.head[:-1] for one in questions])
        if len(questions) < 2 or skip < WORTH_SHARING:
            return 0, True
        if self.reader.pads_inside:
            return skip, True
        # Heads of several lengths cannot follow a root without padding between: one level only.
        tails = [(len(one.head), len(tail.tokens)) for one in questions for tail in one.tails]
        with_root = skip + sum(head - skip + tail for head, tail in tails)
        with_heads = sum(tail for _, tail in tails) + sum(
            len(one.head) * (1 if one.forks else len(one.tails)) for one in questions
        )
        return (skip, False) if with_root < with_heads else (0, True)

    def _rows(self, questions: Sequence[Question], skip: int, forking: bool) -> int:
        """How many rows the next batch may have; at least one."""
        bounds = self.bounds
        if forking:
            rows = [(len(one.head) - skip, max(tail.judged for tail in one.tails)) for one in questions]
        else:
            rows = [
                (len(one.head) + len(tail.tokens) - skip, tail.judged)
                for one in questions
                for tail in one.tails
            ]
        columns = max(one.columns for one in questions)
        cached = columns * self.reader.bytes_a_token if forking or skip else 0
        width = judged = 0
        for count, (wide, own) in enumerate(rows, start=1):
            width, judged = max(width, wide), max(judged, own)
            if count > 1 and (
                count * width > bounds.tokens
                or count * cached > bounds.cached
                or count * judged * self.vocabulary > bounds.logits
                or (forking and count > bounds.questions)
            ):
                return count - 1
        return len(rows)

    def _enough(self, questions: Sequence[Question], rows: int) -> int:
        """How many questions fill so many rows."""
        filled = 0
        for count, one in enumerate(questions[: self.bounds.questions], start=1):
            filled += len(one.tails)
            if filled >= rows:
                return count
        return min(len(questions), self.bounds.questions)

    def _fork(
        self, batch: list[Question], spread: State | None, skip: int
    ) -> dict[Place, tuple[float, bool]]:
        """Reads each head once and every tail after it."""
        batch = sorted(batch, key=lambda one: len(one.tails), reverse=True)
        judged = max(tail.judged for one in batch for tail in one.tails)
        at_once = max(1, self.bounds.logits // (len(batch) * judged * self.vocabulary))
        if not self.reader.fans:
            at_once = 1
        state = self.reader.read(
            [one.head[skip:] for one in batch],
            spread.fork(len(batch)) if spread else None,
            room=max(sum(len(tail.tokens) for tail in one.tails[:at_once]) for one in batch),
        )[1]
        found: dict[Place, tuple[float, bool]] = {}
        for turn in range(0, len(batch[0].tails), at_once):
            rows = [one.tails[turn : turn + at_once] for one in batch if turn < len(one.tails)]
            each = [tail for row in rows for tail in row]
            before = state.fork(len(rows))
            if len(each) == len(rows):
                logits = self.reader.end([t.tokens for t in each], before, [t.judged for t in each])
            else:
                logits = self.reader.fan(
                    [[tail.tokens for tail in row] for row in rows],
                    before,
                    [[tail.judged for tail in row] for row in rows],
                )
            found |= _values(each, logits.float())
        return found

    def _whole(
        self, batch: list[Question], spread: State | None, skip: int, rows: int
    ) -> dict[Place, tuple[float, bool]]:
        """Reads every tail with its head."""
        each = [(tail, np.concatenate([one.head[skip:], tail.tokens])) for one in batch for tail in one.tails]
        each.sort(key=lambda row: len(row[1]), reverse=True)
        found: dict[Place, tuple[float, bool]] = {}
        for start in range(0, len(each), rows):
            some = each[start : start + rows]
            state = spread.fork(len(some)) if spread else None
            tails = [tail for tail, _ in some]
            logits = self.reader.end([tokens for _, tokens in some], state, [tail.judged for tail in tails])
            found |= _values(tails, logits.float())
        return found


def _values(tails: Sequence[Tail], logits: torch.Tensor) -> dict[Place, tuple[float, bool]]:
    """Log-probability, and whether it is the greedy continuation, of every target.

    Args:
        tails: with their targets.
        logits: (all judged outputs, vocabulary), tail by tail.
    """
    outputs: list[np.ndarray] = []
    targets: list[Tokens] = []
    places: list[Place] = []
    end = 0
    for tail in tails:
        end += tail.judged
        for target, place in tail.targets:
            outputs.append(np.arange(end - len(target), end))
            targets.append(target)
            places.append(place)
    output = torch.from_numpy(np.concatenate(outputs)).to(logits.device)
    wanted = torch.from_numpy(np.concatenate(targets)).to(logits.device, torch.long)
    values = (logits[output, wanted] - logits.logsumexp(-1)[output]).double().cpu()
    greedy = (logits.argmax(-1)[output] == wanted).cpu()
    lengths = [len(target) for target in targets]
    return {
        place: (value.sum().item(), bool(same.all()))
        for place, value, same in zip(places, values.split(lengths), greedy.split(lengths), strict=True)
    }
