"""What models take on this machine: latency, tokens a second, peak memory. Behind `factory measure`.

Every model lives in a process of its own (turns.py) and all of them are loaded at the same time; this
process gives one at a time the turn to generate. Processes, because only then is a peak of memory the
model's own: within one process it would hold what the other model, or loading it, once took, and the
second model would find an allocator that the first has warmed up. Turns, because a machine's speed drifts
by more than a pruned block saves: every round runs each model once, in an order that flips from round to
round, and ratios are taken within a round.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from factory import machine
from factory.errors import FactoryError, StageFailed

WARM_UPS = 2  # rounds that are run and thrown away

# As in run/child.py: modules are looked for exactly where this process does.
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from factory.models.turns import main"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Workload:
    """What every model generates in its turn, greedily and past any end-of-text token.

    Attributes:
        batch: sequences at a time.
        prompt: tokens of each prompt, drawn at random and the same for every model.
        new: tokens generated for each; the first comes from the prompt's forward pass, so two at least.
        rounds: turns of each model that count.
        dtype: torch's name of the weights' type; None for the checkpoint's own on a GPU, float32 on a CPU.
    """

    batch: int = 1
    prompt: int = 256
    new: int = 64
    rounds: int = 5
    dtype: str | None = None


@dataclass(frozen=True)
class Turn:
    """One generation: seconds up to the first new token, seconds for all the others, peak memory in bytes."""

    prefill: float
    decode: float
    peak: int


@dataclass(frozen=True)
class Spread:
    """The median of some rounds with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value or more."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """One model's turns, and what it was.

    Attributes:
        model: its folder.
        weights: `checkpoint`, or `random` where the folder has none (the values hardly matter for speed).
        device: such as `cpu` or a GPU's name.
        dtype: torch's name of the weights' type.
        threads: of the numeric libraries.
        load_seconds: from the folder to the device; only as cold as the disk's cache was.
        weight_bytes: of parameters and buffers on the device.
        before_bytes: what the process took before it loaded (0 on a GPU). Part of every peak.
        load_peak: the highest while loading, bytes. On a CPU resident memory of the process, on a GPU what
            torch allocated there.
        turns: the rounds that count, in order.
    """

    model: str
    weights: str
    device: str
    dtype: str
    threads: int
    load_seconds: float
    weight_bytes: int
    before_bytes: int
    load_peak: int
    turns: tuple[Turn, ...]

    @property
    def peak(self) -> int:
        """The highest memory of any turn, in bytes, counted as `load_peak` and without it."""
        return max(turn.peak for turn in self.turns)

    def series(self, work: Workload) -> dict[str, list[float]]:
        """A value a round: seconds to the first token, seconds a further token, tokens a second."""
        steps = work.new - 1
        return {
            "prefill_seconds": [turn.prefill for turn in self.turns],
            "decode_seconds": [turn.decode / steps for turn in self.turns],
            "decode_tokens_per_second": [work.batch * steps / turn.decode for turn in self.turns],
            "tokens_per_second": [
                work.batch * work.new / (turn.prefill + turn.decode) for turn in self.turns
            ],
        }

    def facts(self, work: Workload) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        spreads = {name: asdict(Spread.of(values)) for name, values in self.series(work).items()}
        return {**asdict(self), "peak": self.peak, **spreads}


def measure(
    models: Sequence[Path],
    work: Workload,
    *,
    threads: int | None = None,
    progress: Callable[[int, int, str, str], None] = lambda done, total, unit, note: None,
) -> list[Measured]:
    """Loads the models side by side and lets them generate in turns.

    All of them are in memory at the same time.

    Args:
        models: stock folders; one without weights is measured with random ones.
        work: what to generate.
        threads: of the numeric libraries; by default OMP_NUM_THREADS, or else every core.
        progress: told the turns that are over, of how many, their unit and the model's folder.

    Raises:
        FactoryError: a workload or a folder that cannot be used, or too little memory.
        StageFailed: a model broke while it ran.
    """
    if work.new < 2 or min(work.batch, work.prompt, work.rounds) < 1:
        raise FactoryError("too small a workload", mend="Two new tokens at least, one of everything else")
    threads = threads or int(os.environ.get("OMP_NUM_THREADS") or machine.cores())
    rounds = WARM_UPS + work.rounds
    turns: list[list[Turn]] = [[] for _ in models]
    with ExitStack() as stack:
        seats = []
        for model in models:  # one after the other: two at a time would measure each other's loading
            seats.append(stack.enter_context(_Seat(model, work, threads)))
            progress(0, rounds * len(models), "turns", f"loaded {model.name}")
        over = 0
        for number in range(rounds):
            order = range(len(seats)) if number % 2 == 0 else reversed(range(len(seats)))
            for index in order:
                turns[index].append(Turn(**seats[index].ask("turn")))
                over += 1
                progress(over, rounds * len(models), "turns", models[index].name)
        facts = [seat.loaded for seat in seats]
    return [
        Measured(model=str(model), **fact, turns=tuple(taken[WARM_UPS:]))
        for model, fact, taken in zip(models, facts, turns, strict=True)
    ]


def ratios(base: Measured, other: Measured, work: Workload) -> dict[str, Spread]:
    """Every series of `other` over the base's, round by round."""
    pairs = other.series(work).items()
    series = base.series(work)
    return {
        name: Spread.of([a / b for a, b in zip(values, series[name], strict=True)]) for name, values in pairs
    }


class _Seat:
    """A child process with a loaded model, which works when asked. Ends with its block or its parent."""

    loaded: dict[str, Any]

    def __init__(self, model: Path, work: Workload, threads: int) -> None:
        self._model = model
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        read, write = os.pipe()
        order = json.dumps({"model": str(model), "work": asdict(work)})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"{_BOOT}; main()", str(write), order, json.dumps(sys.path)],
            stdin=subprocess.PIPE,  # closes when this process ends, however it ends; the child then leaves
            stdout=self._log,
            stderr=self._log,
            pass_fds=(write,),
            start_new_session=True,  # Ctrl-C is this process's to handle
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        )
        os.close(write)
        self._answers = os.fdopen(read, "rb")

    def __enter__(self) -> _Seat:
        try:
            self.loaded = self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._answers.close()
        self._log.close()

    def ask(self, what: str) -> dict[str, Any]:
        """Gives the child its turn and waits for what it found."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(what.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it died: its answer, or its log, says why
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "user" in answer:
            raise FactoryError(**answer["user"])
        if "error" in answer:
            raise StageFailed(answer["error"], where=str(self._model), mend="Mend that and measure again")
        return answer

    def _died(self) -> FactoryError:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            what, mend = "the process was killed, out of memory perhaps", "Lower --batch or --prompt"
            return FactoryError(what, where=str(self._model), mend=mend)
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), f"ended with exit code {code}")
        return StageFailed(last, where=str(self._model), mend="Mend that and measure again")
