"""What a plan takes, as text for a terminal and as JSON: behind an estimate, for `factory plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from factory.plan.costs.gpu_kinds import FAST, GB, KINDS, SLOW, Kind
from factory.plan.costs.known import RESERVE
from factory.plan.costs.work import HEADROOM, Costs, Work
from factory.wording import counted

Downloads = Mapping[str, tuple[int, int] | None]


def facts(costs: Costs, missing: Sequence[str], fetched: Downloads) -> dict[str, Any]:
    """For JSON: by step and by GPU kind; hours and dollars of the steps that are not made yet.

    Args:
        costs: of the whole plan.
        missing: names of the steps that are not made.
        fetched: from `downloads`.
    """
    return {
        "steps": {
            work.step: {
                "flops": work.flops,
                "gpu_memory": round(work.memory),
                "disk": round(work.disk),
                "seconds": {
                    kind.name: [round(work.seconds(kind, s), 1) for s in (FAST, SLOW)] for kind in KINDS
                },
            }
            for work in costs.work
        },
        "flops": sum(work.flops for work in _of(costs, missing)),
        "disk": round(sum(work.disk for work in _of(costs, missing))),
        "gpus": [_kind(costs, kind, missing) for kind in KINDS],
        "downloads": [
            {"repository": name, "bytes": known and known[0], "to_fetch": known and known[1]}
            for name, known in fetched.items()
        ],
        "assumptions": assumptions(costs),
    }


def _kind(costs: Costs, kind: Kind, missing: Sequence[str]) -> dict[str, Any]:
    fast, slow = costs.hours(kind, missing)
    return {
        "kind": kind.name,
        "memory": kind.memory,
        "dollars_per_hour": kind.dollars,
        "price_of": kind.seller,
        "hours": [round(fast, 3), round(slow, 3)],
        "dollars": [round(fast * kind.dollars, 2), round(slow * kind.dollars, 2)],
        "too_large": [work.step for work in costs.too_large(kind) if work.step in missing],
    }


def _of(costs: Costs, names: Sequence[str]) -> list[Work]:
    wanted = set(names)
    return [work for work in costs.work if work.step in wanted]


def stage_rows(costs: Costs, missing: Sequence[str]) -> list[list[str]]:
    """By stage: how many steps are to be made, their FLOPs, the most GPU memory of one, their disk."""
    rows = []
    left = _of(costs, missing)
    for stage in dict.fromkeys(work.stage for work in left):
        of = [work for work in left if work.stage == stage]
        memory = max(work.memory for work in of)
        flops, disk = sum(work.flops for work in of), sum(work.disk for work in of)
        rows.append(
            [stage, str(len(of)), _flops(flops), size(memory) if memory else "-", size(disk) if disk else "-"]
        )
    return rows


def gpu_rows(costs: Costs, missing: Sequence[str]) -> list[list[str]]:
    """By GPU kind: memory, hours and dollars, and what does not fit."""
    rows = []
    for kind in KINDS:
        told = _kind(costs, kind, missing)
        hours, dollars = told["hours"], told["dollars"]
        stages = dict.fromkeys(work.stage for work in costs.too_large(kind) if work.step in missing)
        fits = f"too small for {', '.join(stages)}" if stages else "yes"
        rows.append(
            [
                kind.name,
                size(kind.memory),
                f"{_number(hours[0])} to {_number(hours[1])}",
                f"{dollars[0]:,.2f} to {dollars[1]:,.2f}",
                fits,
            ]
        )
    return rows


def download_line(fetched: Downloads) -> str:
    """What is to be downloaded, in a sentence."""
    known = [one for one in fetched.values() if one is not None]
    unknown = [name for name, one in fetched.items() if one is None]
    if not fetched:
        return "downloads: none"
    parts = []
    if known:
        total, lacking = (sum(one[i] for one in known) for i in (0, 1))
        here = f", {size(total - lacking)} of it in the cache already" if lacking < total else ""
        parts.append(
            f"{size(total)} ({total:,} bytes) from {counted(len(known), 'repository')}{here}".replace(
                "repositorys", "repositories"
            )
        )
    if unknown:
        parts.append(f"unknown for {', '.join(unknown)}: the Hub does not answer")
    return f"downloads: {'; '.join(parts)}"


def assumptions(costs: Costs) -> list[str]:
    """What the figures stand on, a sentence each."""
    fast, slow = FAST, SLOW
    prices = ", ".join(f"{kind.name} {kind.dollars:.2f}" for kind in KINDS)
    sellers = "; ".join(
        f"{seller}: {', '.join(kind.name for kind in KINDS if kind.seller == seller)}"
        for seller in dict.fromkeys(kind.seller for kind in KINDS)
    )
    return [
        f"dollars an hour: {prices} ({sellers}; November 2026)",
        "one GPU, one step after the other; with several steps at a time hours are fewer",
        f"of the peak (bfloat16, dense) {_share(fast.train, slow.train)} % while learning, "
        f"{_share(fast.forward, slow.forward)} % while reading, and "
        f"{_share(fast.decode, slow.decode)} % of the memory's bandwidth while generating",
        f"a step needs {fast.start:g} to {slow.start:g} s to begin, and weights move at "
        f"{fast.disk / GB:g} to {slow.disk / GB:g} GB/s",
        f"{RESERVE / 1e9:.0f} GB of GPU memory for libraries and what lies between tensors; "
        f"{1 - HEADROOM:.0%} of a GPU's memory is not to be had",
        *costs.assumed,
    ]


def _share(fast: float, slow: float) -> str:
    return f"{100 * fast:.0f} to {100 * slow:.0f}"


def _number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"


def _flops(flops: float) -> str:
    return f"{flops:.1e}" if flops else "-"


def size(count: float) -> str:
    """Bytes in a person's words, in powers of ten."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"
