"""How long the leaderboard's page takes to answer, with 2,000 models, in headless Chromium.

    python tests/benchmarks/leaderboard.py [--rows 2000] [--rounds 7]

An interaction is timed inside the page, from the event to the frame that shows what came of it, and by the
processor time of the page's main thread, which says more where the machine works for others too. A chart's
own time is told apart: charts are drawn behind the table, and only where they can be seen. Prints a table for
RESULTS.md: median, lowest and highest of the rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from factory.hub import board_page
from factory.hub.board_row import Row
from factory.paired import TaskSamples

TASKS = {"arc": 1172, "hellaswag": 10042, "mmlu": 14042, "truthfulqa": 817, "winogrande": 1267, "gsm8k": 1319}
METHODS = ("pruned", "SFT", "self-distilled", "merged")
# Run in the page: does something, waits for its frame, says how many milliseconds both took.
_TIMED = """async (what) => {
    const start = performance.now();
    await new Function("return (async () => {" + what + "})()")();
    await new Promise((done) => requestAnimationFrame(() => { const c = new MessageChannel();
        c.port1.onmessage = done; c.port2.postMessage(0); }));
    return performance.now() - start;
}"""
_EVENT = (
    "const e = document.querySelector('{}'); e.value = {}; "
    "e.dispatchEvent(new Event('{}', {{bubbles: true}}));"
)
INTERACTIONS = {
    "sort by a column": "document.querySelector('[data-sort=\"task gsm8k\"]').click();",
    "sort by name": "document.querySelector('[data-sort=name]').click();",
    "filter by method": _EVENT.format(
        "#method", "document.querySelector('#method').value ? '' : 'SFT'", "change"
    ),
    "search, a letter typed": _EVENT.format("#text", "'run-1' + Math.floor(Math.random() * 9)", "input"),
    "clear the filters": "document.querySelector('button[type=reset]').click();",
    "next page": "document.querySelector('#next').click();",
    "tick a model": "document.querySelectorAll('#models tbody input')[5].click();",
    "compare two, 28,659 documents": "[Board.state.a, Board.state.b] = Board.pair; "
    "Board.pair.reverse(); await Board.compare.draw();",
    "draw a chart of all models": "Board.charts.update(Board.filtered()); "
    "document.querySelector('#cost').dispatchEvent(new Event('change'));",
}


def rows(count: int) -> list[tuple[Row, Any]]:
    """Models with scores of v1's sizes; the first two with every document."""
    random, found = np.random.default_rng(0), []
    for i in range(count):
        values = {task: float(random.uniform(0.3, 0.9)) for task in TASKS}
        scores = {task: _estimate(value, TASKS[task]) for task, value in values.items()}
        average = float(np.mean(list(values.values())))
        removed = int(random.integers(1, 12))
        row = Row(
            key=f"{i:016x}", name=f"org-{i % 17}/run-{i // 5}-model-{i}", run=f"run-{i // 5}",
            variant="model",
            base=f"base/{i % 23}", revision="a" * 40, method=METHODS[i % 4],  # type: ignore[arg-type]
            how="lora", targets="self", data=("math", "chat"), rows=int(10 ** random.uniform(2, 5)),
            blocks=32 - removed, removed=removed, removed_blocks=f"{20 - removed}..20",
            parameters=int(10 ** random.uniform(8, 10)), parameters_removed=removed / 34, flops=10**10,
            suite="openllm_v1", scores=scores, average=_estimate(average, 28_659),
            recovery=_estimate(min(1.0, average + 0.1), 28_659), evaluated="2026-01-01",
        )  # fmt: skip
        samples = None
        if i < 2:
            samples = {task: _samples(values[task], n, random) for task, n in TASKS.items()}
        found.append((row, samples))
    return found


def _estimate(value: float, n: int) -> Any:
    error = 2 * (value * (1 - value) / n) ** 0.5
    return {"value": value, "low": max(0.0, value - error), "high": min(1.0, value + error)}


def _samples(value: float, n: int, random: Any) -> TaskSamples:
    right = random.random(n) < value
    return TaskSamples(range(n), ["t"] * n, right.astype(float), ["p"] * n, right)


def measured(page: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """By interaction and round, milliseconds until it is seen, and of the main thread's processor."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("there is no Chromium here")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("open the page", *INTERACTIONS)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(rounds):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto((page / "index.html").as_uri())
            tab.wait_for_selector("html[data-ready=yes]")
            found["open the page"].append((tab.evaluate("performance.now()"), _busy(session)))
            tab.evaluate("Board.pair = FACTORY_BOARD.models.slice(0, 2)")
            for name, what in INTERACTIONS.items():
                before = _busy(session)
                seen = tab.evaluate(_TIMED, what)
                found[name].append((seen, _busy(session) - before))
                tab.wait_for_timeout(200)
            tab.close()
        browser.close()
    return found


def _busy(session: Any) -> float:
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return 1000 * float(metrics["TaskDuration"])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "page"
        board_page.write(rows(asked.rows), page)
        size = (page / "models.js").stat().st_size
        answers = next((page / "answers").iterdir()).stat().st_size
        found = measured(page, asked.rounds)
    print(f"{asked.rows:,} models, {asked.rounds} rounds; models.js {size / 1e6:.1f} MB,", end=" ")
    print(f"the documents of a model {answers / 1e3:.0f} kB; load average {os.getloadavg()[0]:.1f}\n")
    print("| interaction | ms of the processor | lowest | highest | ms until seen |\n|---|--:|--:|--:|--:|")
    for name, times in found.items():
        seen, own = ([one[i] for one in times] for i in (0, 1))
        figures = (statistics.median(own), min(own), max(own), statistics.median(seen))
        print(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")


if __name__ == "__main__":
    main()
