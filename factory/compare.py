"""Two models on the documents that both answered: which tasks differ beyond chance, documents won and lost.

After evaluation; behind `factory compare`, and by the same figures behind the leaderboard's page. Needs no
common run: what has to agree are the documents and their prompts, shots included. A task whose documents
differ is left out and named. Intervals are those of factory/paired.py: documents are drawn once for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factory.errors import FactoryError
from factory.paired import Counts, Paired, TaskSamples
from factory.tasks.bootstrap import Estimate

SEED = 0  # of the documents drawn: one for all, so that any two models can be compared later
REPLICATES = 1000
LEAST = 5e-5  # of a difference: less is not seen in what is printed; page/compare.js has it too


@dataclass(frozen=True)
class Side:
    """A model with its scored documents.

    Attributes:
        name: what it is called in messages.
        suite: that scored it.
        samples: by task.
        notes: why its scores are no benchmark's, such as that they were limited; without full stops.
    """

    name: str
    suite: str
    samples: Mapping[str, TaskSamples]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One task, or the average: both values, their difference, and the documents.

    Attributes:
        a: value of the first model, a fraction.
        b: of the second.
        difference: a minus b.
        counts: documents that the first won and lost.
    """

    a: float
    b: float
    difference: Estimate
    counts: Counts

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return is_beyond_chance(self.difference.low, self.difference.high)


@dataclass(frozen=True)
class Comparison:
    """Two models side by side.

    Attributes:
        names: of both.
        suite: that scored them.
        tasks: by name, in the suite's order.
        average: over these tasks.
        left_out: why a task is not compared, by its name.
        notes: those of both models, each once.
    """

    names: tuple[str, str]
    suite: str
    tasks: Mapping[str, Line]
    average: Line
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; values are fractions."""
        return {
            "models": list(self.names),
            "suite": self.suite,
            "tasks": {task: _plain(line) for task, line in self.tasks.items()},
            "average": _plain(self.average),
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def is_beyond_chance(low: float, high: float) -> bool:
    """Whether a 95 % interval leaves zero out: of equal models, one in twenty tasks does.

    By more than rounding: sums of the same scores in another order may differ in their last digits.
    """
    return low > LEAST or high < -LEAST


def compare(a: Side, b: Side) -> Comparison:
    """Compares two models task by task.

    Raises:
        FactoryError: they are one, were scored by different suites, or share no task with the same documents.
    """
    if a.name == b.name and a.samples == b.samples:  # two runs may have evaluated one base differently
        raise FactoryError(f"'{a.name}' is one and the same model twice", mend="Name two models")
    both = f"{a.name} and {b.name}"
    if a.suite != b.suite:
        what = f"{both} were scored by different suites, {a.suite} and {b.suite}"
        raise FactoryError(what, mend="Evaluate one of them on the other's suite")
    common, left_out = shared(a.samples, b.samples)
    if not common:
        why = "; ".join(f"{task}: {said}" for task, said in left_out.items()) or "nothing was scored"
        mend = "Evaluate both with the same tasks, limit and shots"
        raise FactoryError(f"{both} have no task in common ({why})", mend=mend)
    sides = {"a": a.samples, "b": b.samples}
    samples = {side: {task: found[task] for task in common} for side, found in sides.items()}
    paired = Paired(samples, replicates=REPLICATES, seed=SEED)

    def line(task: str | None = None) -> Line:
        difference, counts = paired.difference("a", "b", task), paired.counts("a", "b", task)
        return Line(paired.value("a", task), paired.value("b", task), difference, counts)

    notes = tuple(dict.fromkeys([*a.notes, *b.notes]))
    return Comparison((a.name, b.name), a.suite, {t: line(t) for t in common}, line(), left_out, notes)


def shared(
    ours: Mapping[str, TaskSamples], theirs: Mapping[str, TaskSamples]
) -> tuple[list[str], dict[str, str]]:
    """The tasks whose documents are the same for both, and why the others are left out."""
    common, left_out = [], {}
    for task in dict.fromkeys([*ours, *theirs]):
        if task not in ours or task not in theirs:
            left_out[task] = "only one of them was scored on it"
        elif documents(ours[task]) != documents(theirs[task]):
            left_out[task] = "they answered different documents, or the same ones with different prompts"
        else:
            common.append(task)
    return common, left_out


def documents(samples: TaskSamples) -> tuple[Sequence[Any], ...]:
    """What has to be the same for two models to be compared: rows, groups and what was read."""
    return tuple(map(tuple, (samples.index, samples.group, samples.prompt)))


def _plain(line: Line) -> dict[str, Any]:
    return {
        "a": line.a, "b": line.b, "difference": asdict(line.difference), **asdict(line.counts),
        "beyond_chance": line.beyond_chance,
    }  # fmt: skip
