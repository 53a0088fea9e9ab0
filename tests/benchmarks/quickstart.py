"""Wall time and peak memory of the quickstart, of a second run, and of the command line itself.

    python tests/benchmarks/quickstart.py

Memory is the sum of the proportional set sizes of the command and all its children, sampled ten times a
second (Linux), so that pages shared between processes count once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def _tree_bytes(process: psutil.Process) -> int:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def measure(*arguments: str) -> tuple[float, float]:
    """Seconds and peak GB of one command."""
    peak, done = 0, threading.Event()
    started = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = subprocess.Popen([sys.executable, "-m", "factory.cli", *arguments], cwd=ROOT, env=environment)
    process = psutil.Process(command.pid)

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            try:
                peak = max(peak, _tree_bytes(process))
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    code = command.wait()
    seconds = time.perf_counter() - started
    done.set()
    thread.join()
    if code:
        raise SystemExit(f"factory {' '.join(arguments)} ended with exit code {code}")
    return seconds, peak / 1e9


def main() -> None:
    """Prints a row of a Markdown table for each command."""
    with tempfile.TemporaryDirectory() as runs:
        run = ("run", "recipes/quickstart.yaml", "--runs-dir", runs)
        rows = [
            ("factory --help", measure("--help")),
            ("factory run recipes/quickstart.yaml", measure(*run)),
            ("the same again", measure(*run)),
        ]
    print("\n| command | seconds | peak GB |\n|---|---|---|")
    for name, (seconds, gigabytes) in rows:
        print(f"| `{name}` | {seconds:.1f} | {gigabytes:.2f} |")


if __name__ == "__main__":
    main()
