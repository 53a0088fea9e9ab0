"""Predicted against measured: what `factory plan` reckons for a run that has been made, beside its records.

    factory run recipes/quickstart.yaml && python tests/benchmarks/predicted.py recipes/quickstart.yaml
    python tests/benchmarks/predicted.py recipes/quickstart.yaml --write     # into RESULTS.md

The estimates are for GPUs. So that a run on a CPU can be compared, the machine is made a `Kind` first: how
many FLOPs a second one thread multiplies matrices with, how many bytes it reads, how long Python takes for a
block, and how long a step takes to begin (a process that imports what a step imports) are measured here, and
the plan is estimated as one for a CPU. What is compared is then the arithmetic of the estimate, tokens and
passes, not the GPUs' figures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from factory import machine
from factory.plan import costs
from factory.plan.costs.gpu_kinds import FAST, SLOW, Kind
from factory.plan.plan import Plan
from factory.plan.sweep import plan_file
from factory.run.store import Store

# What a step imports before it does anything; scoring takes lighteval along.
ANY = "any"
IMPORTED = {
    ANY: "torch, transformers, peft, trl",
    "evaluate": "factory.tasks.runner, factory.tasks.lighteval_compat",
}
RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "## Predicted against measured"


def this_machine() -> tuple[Kind, float, dict[str, float]]:
    """One thread of this machine as a `Kind`; seconds of Python for a block, and by stage until it begins."""
    import torch

    from factory import sandbox
    from factory.models import load

    torch.set_num_threads(1)
    side = 1024
    one = torch.rand(side, side)
    large = torch.rand(32_000_000)  # 128 MB: no cache holds it

    def best(work: object, times: int = 5) -> float:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            work()  # type: ignore[operator]
            taken.append(time.perf_counter() - began)
        return min(taken)

    flops = 2 * side**3 / best(lambda: one @ one)
    bandwidth = large.numel() * 4 / best(large.sum)
    small = load.causal_lm(sandbox.model_folder())  # of a token it computes next to nothing
    token = torch.zeros(1, 1, dtype=torch.long)
    with torch.inference_mode():
        launch = best(lambda: small(token, use_cache=True), 50) / small.config.num_hidden_layers
    starts = {}
    for stage, modules in IMPORTED.items():
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
        starts[stage] = time.perf_counter() - began
    return Kind("this CPU, one thread", 0, flops, bandwidth, 0.0, ""), launch, starts


def compare(plan: Plan, store: Store, command: str) -> list[str]:
    """The section of RESULTS.md on the steps of a plan that are made."""
    found = costs.estimate(plan, "cpu")
    kind, launch, starts = this_machine()
    rows = [
        "| step | seconds, predicted | measured | memory, MB: tensors predicted | process measured "
        "| disk, MB: predicted | weights measured |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    steps = {step.name: step for step in plan.steps}
    for work in found.work:
        step = steps[work.step]
        if not store.has(step.stage, step.key):
            continue
        record, folder = store.record(step.stage, step.key), store.folder(step.stage, step.key)
        weights = sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))
        begin = starts.get(step.stage, starts[ANY])
        own = {"start": begin, "launch": launch, "launch_eager": launch}
        fast, slow = (work.seconds(kind, replace(speeds, **own)) for speeds in (FAST, SLOW))
        tensors = max(0.0, work.memory - costs.RESERVE * work.starts) / 1e6
        peak = _peak(record) / 1e6
        cells = [f"{fast:.0f} to {slow:.0f}", f"{record['seconds']:.0f}", f"{tensors:,.0f}", f"{peak:,.0f}"]
        cells += [f"{work.disk / 1e6:.2f}" if work.disk else "-", f"{weights / 1e6:.2f}" if weights else "-"]
        rows.append(f"| {work.step} | {' | '.join(cells)} |")
    load = machine.load_per_core()
    return [
        f"{TITLE} ({date.today().isoformat()})",
        "",
        f"`{command}`. One thread of this machine: {kind.flops / 1e9:.0f} GFLOP/s, "
        f"{kind.bandwidth / 1e9:.1f} GB/s, {launch * 1e3:.2f} ms a block, {starts[ANY]:.1f} s to begin, "
        f"{starts['evaluate']:.1f} s to begin to score; "
        f"{load:.1f} processes a core ran or waited when that was measured.",
        "",
        *rows,
        "",
    ]


def _peak(record: dict[str, Any]) -> int:
    """The most memory of a step's process; of `measure` that of the two which hold the models, together."""
    if record["stage"] == "measure":
        models = record["facts"]["models"].values()
        return sum(max(one["load_peak"], one["peak"]) for one in models)
    return int(record["peak_memory"] or 0)


def main() -> None:
    """Prints the section, or puts it into RESULTS.md in place of an older one."""
    parser = argparse.ArgumentParser(description="Predicted against measured.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md, in place of the section there")
    chosen = parser.parse_args()
    plan = plan_file(chosen.recipe, miniature=chosen.miniature)
    small = " --miniature" if chosen.miniature else ""
    command = f"python tests/benchmarks/predicted.py {chosen.recipe}{small}"
    section = "\n".join(compare(plan, Store(chosen.runs_dir / "store"), command))
    print(section)
    if chosen.write:
        text = RESULTS.read_text(encoding="utf-8")
        before, found, after = text.partition(f"{TITLE} (")
        rest = after[after.find("\n## ") + 1 :] if found and "\n## " in after else ""
        parts = [part.strip("\n") for part in (before, section, rest)]
        RESULTS.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
