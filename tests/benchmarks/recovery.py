"""Recovery over seeds: the quickstart's recipe run with several seeds, its variants compared in pairs.

    python tests/benchmarks/recovery.py --seeds 5

Prints Markdown: recovery by seed and variant, self-data minus SFT with its 95 % t interval over the
seeds, and the merged variant minus its better parent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scipy.stats import t as student

ROOT = Path(__file__).parents[2]


def recoveries(seed: int, recipe: str, runs: Path, overrides: list[str]) -> dict[str, float]:
    """Recovery of every model of one run of the recipe."""
    name = f"seed-{seed}"
    settings = [part for key in (f"seed={seed}", f"name={name}", *overrides) for part in ("--set", key)]
    command = [sys.executable, "-m", "factory.cli", "run", recipe, "--runs-dir", str(runs), *settings]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    report = json.loads((runs / name / "report.json").read_text())
    return {model["name"]: model["recovery"]["value"] for model in report["models"]}


def interval(values: list[float]) -> str:
    """Mean and 95 % t interval, in points."""
    mean = statistics.mean(values)
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{100 * mean:+.1f} points [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


def main() -> None:
    """Runs the seeds one after the other and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", default="recipes/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--runs-dir", type=Path, default=Path(tempfile.mkdtemp()))
    chosen = parser.parse_args()
    by_seed = [
        recoveries(seed, chosen.recipe, chosen.runs_dir, chosen.overrides) for seed in range(chosen.seeds)
    ]
    names = [name for name in by_seed[0] if name != "base"]
    print(f"\n| seed | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for seed, found in enumerate(by_seed):
        print(f"| {seed} | {' | '.join(f'{100 * found[name]:.1f} %' for name in names)} |")
    gain = [found["math-self"] - found["math-sft"] for found in by_seed]
    merged = [found["merged"] - max(found["math-self"], found["instruct-self"]) for found in by_seed]
    print(f"\nmath-self minus math-sft: {interval(gain)}")
    print(f"merged minus its better parent: {interval(merged)}; worst seed {100 * min(merged):+.1f}")


if __name__ == "__main__":
    main()
