"""A stage that works in milliseconds, for tests of what surrounds the stages.

It writes one row at a time, resumes by the rows it finds, and misbehaves on demand.
`python stand_in.py RUNS RECIPE SETTINGS` runs a small plan of such stages, for tests that need processes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from factory.commands.display import Plain
from factory.errors import FactoryError
from factory.plan.plan import Plan, Ref, Step
from factory.recipe.recipe import Recipe
from factory.run.run import run as execute
from factory.stages import Frozen, Progress

VERSION = 1
LIBRARIES = ("pydantic",)


class Settings(Frozen):
    name: str = "step"
    rows: int = 3
    pause: float = 0.0
    diary: str = ""
    trouble: Literal["", "error", "user", "killed", "silent", "full", "stray"] = ""
    trouble_rank: int = 0
    megabytes: int = 0
    tells: tuple[str, ...] = ()
    lacks: str = ""


def ready(settings: Settings) -> None:
    if settings.lacks:
        raise FactoryError(f"{settings.lacks} is not installed", mend="Install it")


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    if settings.diary:
        with Path(settings.diary).open("a") as diary:
            diary.write(settings.name + "\n")
    print(f"{settings.name} prints something")
    rank = int(os.environ.get("RANK", 0))
    if rank == settings.trouble_rank:
        _misbehave(settings, out)
    read = "".join((folder / "rows.txt").read_text() for _, folder in sorted(inputs.items()))
    rows = out / (f"rows-{rank}.txt" if rank else "rows.txt")
    done = rows.read_text().count("\n") if rows.exists() else 0
    with rows.open("a") as stream:
        for i in range(done, settings.rows):
            time.sleep(settings.pause)
            stream.write(f"{settings.name} {i} {len(read)}\n")
            stream.flush()
            progress(i + 1, settings.rows, "rows", f"row {i}")
    (out / "data.bin").write_bytes(b"x" * (settings.megabytes << 20))
    (out / "model").mkdir(exist_ok=True)  # what a run's folder has links to
    (out / "report.md").touch()
    facts = {"rows": settings.rows, "threads": os.environ["OMP_NUM_THREADS"]}
    return facts | ({"said": settings.tells} if settings.tells else {})


def _misbehave(settings: Settings, out: Path) -> None:
    if settings.trouble == "error":
        raise ValueError("the numbers\ndo not add up")
    if settings.trouble == "user":
        raise FactoryError("row 7 has no response", where="rows.jsonl:7", mend="Fill it in")
    if settings.trouble == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.trouble == "silent":
        print("the library says goodbye", file=sys.stderr)
        os._exit(3)
    if settings.trouble == "full":
        raise RuntimeError("could not save: I/O error: No space left on device (os error 28)")
    if settings.trouble == "stray":  # a process that outlives the stage, unless somebody cleans up
        subprocess.Popen(["sh", "-c", f"while :; do date > {out.parent}/stray; sleep 0.05; done"])
        while not (out.parent / "stray").exists():
            time.sleep(0.01)


def recipe(name: str) -> Recipe:
    """A valid recipe of that name; the plans below do not follow from it."""
    return Recipe.model_validate(
        {
            "name": name,
            "base": {"model": "sandbox/base"},
            "prune": {"drop": 2, "calibration": {"dataset": "sandbox/corpus"}},
            "datasets": {"math": {"id": "sandbox/math", "prompt": "math"}},
            "variants": {"math-sft": {"data": ["math"], "targets": "original"}},
            "evaluate": {"suite": "sandbox_v1"},
        }
    )


def plan(name: str, **settings: Any) -> Plan:
    """Two steps side by side, one that reads both, and one that reads that.

    `settings` hold for every step, or for one as `trouble_join="error"`. As in a real plan the key follows
    from what decides the output, so not from `pause`, `diary` or `trouble`.
    """
    common = {key: value for key, value in settings.items() if key in Settings.model_fields}
    steps: dict[str, Step] = {}
    graph = {
        "regenerate/left": (),
        "regenerate/right": (),
        "train/join": ("left", "right"),
        "report": ("join",),
    }
    for step_name, needs in graph.items():
        stage, _, short = step_name.rpartition("/")
        short, stage = short, stage or short
        own = {
            key.removesuffix(f"_{short}"): value
            for key, value in settings.items()
            if key.endswith(f"_{short}")
        }
        chosen = Settings(**{"name": short, **common, **own})
        inputs = {need: Ref(steps[need].name) for need in needs}
        content = [stage, chosen.name, chosen.rows, chosen.megabytes, *(steps[need].key for need in needs)]
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        steps[short] = Step(step_name, stage, chosen, dict(inputs), key)
    return Plan(recipe(name), tuple(steps.values()))


def load(stage: str) -> ModuleType:
    """This module, as every stage."""
    return importlib.import_module("stand_in")


if __name__ == "__main__":
    runs, chosen_name, settings_json = sys.argv[1:4]
    try:
        execute(
            plan(chosen_name, **json.loads(settings_json)), Path(runs), load=load, events=Plain(sys.stderr)
        )
    except FactoryError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
