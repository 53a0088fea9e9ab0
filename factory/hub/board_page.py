"""The leaderboard as a page: a folder of plain files that needs no server. Beside board_dataset.py.

The page's own scripts and the charting library are in page/; here its figures are written beside them:
`models.js` with every row, and a small file a model with what a paired comparison needs, read when it is
asked for. They are scripts, since a page that was opened as a file may read nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import factory
from factory.compare import REPLICATES, SEED
from factory.hub.board_dataset import Models, documents_id
from factory.hub.board_row import MORE, Figure, Row
from factory.hub.board_sources import Samples
from factory.paired import TaskSamples
from factory.seeds import stream
from factory.tasks.bootstrap import draw_means, mean_of_groups
from factory.wording import MINIATURE, counted

FOLDER = "page"
_OURS = Path(__file__).parent / "page"
_DIGITS = 6  # of a fraction; the page shows three
SUITES = {"openllm_v1": "Open LLM Leaderboard v1"}


def write(models: Models, out: Path) -> None:
    """Writes the page's folder."""
    shutil.copytree(_OURS, out, ignore=shutil.ignore_patterns("__pycache__"))
    (out / "answers").mkdir()
    rows = []
    for row, samples in models:
        file = hashlib.sha256(f"{row.key} {row.name}".encode()).hexdigest()[:16] if samples else None
        if samples:
            script = f"FACTORY_ANSWERS({_script(file)}, {_script(answers(samples))});\n"
            (out / "answers" / f"{file}.js").write_text(script, encoding="utf-8")
        rows.append(_plain(row, file))
    more = [[name, one.label, one.title, one.unit] for name, one in MORE.items()]
    data = {"models": rows, "more": more, "lead": _lead(models), "made": _made(models)}
    (out / "models.js").write_text(f"window.FACTORY_BOARD = {_script(data)};\n", encoding="utf-8")
    (out / "README.md").write_text(_README, encoding="utf-8")


_README = """---
title: Leaderboard
emoji: 🏭
colorFrom: blue
colorTo: green
sdk: static
pinned: false
license: apache-2.0
---

The leaderboard of a model factory, as a static page. `factory leaderboard build` writes it.
"""


def answers(samples: Samples) -> dict[str, Any]:
    """What a comparison in the page needs of a model, by task.

    `documents` are the same where two models answered the same ones; `replicates` are of the bootstrap, drawn
    as factory/compare.py draws them, in 65,535ths; `correct` has a bit a document, `scores` a bit or, where
    they are not 0 or 1, a double.
    """
    return {task: _answers(task, of) for task, of in samples.items()}


def _answers(task: str, of: TaskSamples) -> dict[str, Any]:
    scores = np.asarray(of.score, dtype=np.float64)
    drawn = draw_means(scores, of.group, REPLICATES, stream(SEED, "report", "bootstrap", task))
    binary = bool(np.isin(scores, (0.0, 1.0)).all())
    return {
        "documents": documents_id(of),
        "n": len(scores),
        "value": mean_of_groups(scores, of.group),
        "replicates": _text(np.round(drawn * 65535).astype("<u2").tobytes()),
        "correct": _bits(np.asarray(of.correct, dtype=bool)) if len(of.correct) else None,
        "binary": binary,
        "scores": _bits(scores == 1.0) if binary else _text(scores.astype("<f8").tobytes()),
    }


def _bits(flags: Any) -> str:
    return _text(np.packbits(flags, bitorder="little").tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _script(content: Any) -> str:
    """JSON that is a JavaScript expression too, wherever it stands: it ends no element and no line."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def group(row: Row) -> str:
    """What stands in one table: a suite, whole, or apart for the same reasons."""
    suite = SUITES.get(row.suite, row.suite)
    if not row.apart:
        return suite
    sandbox = any(why.startswith("Made on the sandbox") for why in row.apart)
    small = MINIATURE in row.apart
    marks = ["miniature"] if small else ["sandbox"] if sandbox else []
    marks += [f"{counted(row.limit, 'document')} a task"] if row.limit else []
    shots = "-".join(str(score.shots) for score in row.scores.values())
    marks += [f"{shots} shots"] if _odd_shots(row) else []
    return f"{suite}: {', '.join(marks or ['not the whole benchmark'])}"


def _odd_shots(row: Row) -> bool:
    """Whether tasks were asked with other shots than the suite's."""
    usual = _shots(row.suite)
    return bool(usual) and any(usual.get(task) != score.shots for task, score in row.scores.items())


@cache
def _shots(suite: str) -> dict[str, int]:
    from factory.tasks.suites import SUITES as KNOWN

    return {name: task.shots for name, task in KNOWN[suite].items()} if suite in KNOWN else {}


def _plain(row: Row, file: str | None) -> dict[str, Any]:
    return {
        "name": row.name, "url": row.url, "group": group(row), "suite": row.suite, "apart": list(row.apart),
        "base": row.base, "method": row.method, "how": row.how, "targets": row.targets,
        "data": list(row.data), "rows": row.rows, "blocks": row.blocks,
        "removed": row.removed, "removedBlocks": row.removed_blocks,
        "parameters": row.parameters, "parametersRemoved": round(row.parameters_removed, _DIGITS),
        "flops": row.flops, "scores": {task: _three(score) for task, score in row.scores.items()},
        "average": _three(row.average), "recovery": _three(row.recovery),
        "speed": _three(row.tokens_per_second),
        "more": {name: _three(one) for name, one in row.more.items()}, "answers": file,
    }  # fmt: skip


def _three(one: Figure | None) -> list[float | None] | None:
    return (
        None
        if one is None
        else [x if x is None else round(x, _DIGITS) for x in (one.value, one.low, one.high)]
    )


def _lead(models: Models) -> str:
    bases = {row.base for row, _ in models}
    return (
        f"{counted(len(models), 'model')} from {counted(len(bases), 'base model')}: decoder blocks removed, "
        "what is left trained again, everything scored with intervals."
    )


def _made(models: Models) -> str:
    """When the newest of it was scored: a page that is built again from the same records is the same."""
    newest: Sequence[str] = sorted(row.evaluated for row, _ in models)
    return f"Built by factory {factory.__version__}. The newest scores are of {newest[-1][:10]}."
