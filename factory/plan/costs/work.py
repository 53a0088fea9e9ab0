"""What a step takes, and how long that is on a GPU: the result of an estimate, under `factory.plan.costs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from factory.plan.costs.gpu_kinds import FAST, SLOW, Kind, Speeds

How = Literal["forward", "train", "decode"]
HEADROOM = 0.92  # of a GPU's memory that tensors can have


@dataclass(frozen=True)
class Passes:
    """Passes of tokens through a model, one behind the other.

    Whatever of three is slowest decides their time: computing, reading weights and caches from memory, and
    Python, which tells the GPU of every block.

    Attributes:
        how: many tokens at once, the same while learning, or a token of each row.
        flops: of all of them.
        read: bytes read from the GPU's memory by all of them.
        blocks: blocks that they pass, together.
        eager: whether Python starts every operation of a block.
    """

    how: How
    flops: float
    read: float = 0.0
    blocks: float = 0.0
    eager: bool = True

    def seconds(self, kind: Kind, speeds: Speeds) -> float:
        """How long they take on a GPU, if they get so much of its speed."""
        share = speeds.train if self.how == "train" else speeds.forward
        return max(
            self.flops / (kind.flops * share),
            self.read / (kind.bandwidth * speeds.decode),
            self.blocks * (speeds.launch_eager if self.eager else speeds.launch),
        )


@dataclass(frozen=True)
class Work:
    """What one step takes.

    Attributes:
        step: its name.
        stage: its stage.
        passes: through models.
        memory: bytes on the GPU at most; 0 for steps that need none.
        disk: bytes that stay.
        moved: bytes of weights read and written.
        starts: processes that begin one after the other.
    """

    step: str
    stage: str
    passes: tuple[Passes, ...] = ()
    memory: float = 0.0
    disk: float = 0.0
    moved: float = 0.0
    starts: int = 1

    @property
    def flops(self) -> float:
        """All of them."""
        return sum(one.flops for one in self.passes)

    def seconds(self, kind: Kind, speeds: Speeds) -> float:
        """How long it takes on a GPU, if it gets so much of its speed."""
        passing = sum(one.seconds(kind, speeds) for one in self.passes)
        return self.starts * speeds.start + self.moved / speeds.disk + passing


@dataclass(frozen=True)
class Costs:
    """What a plan takes.

    Attributes:
        work: of its steps, in order.
        assumed: sentences, each something that was not known.
    """

    work: tuple[Work, ...]
    assumed: tuple[str, ...]

    def hours(self, kind: Kind, only: Iterable[str] | None = None) -> tuple[float, float]:
        """Hours on one GPU, one step after the other, at the fast and the slow end."""
        chosen = None if only is None else set(only)
        wanted = [work for work in self.work if chosen is None or work.step in chosen]
        fast, slow = (sum(work.seconds(kind, speeds) for work in wanted) / 3600 for speeds in (FAST, SLOW))
        return fast, slow

    def too_large(self, kind: Kind) -> list[Work]:
        """The steps that do not fit on one GPU of a kind."""
        return [work for work in self.work if work.memory > kind.memory * HEADROOM]
