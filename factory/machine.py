"""Facts of the machine for an artifact's record: what was this made on?

Read by run/inside.py at the end of every step and by run/run.py for run.json. Light: it looks at the GPU only
when a stage has already loaded torch.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any


def cores() -> int:
    """Cores this process may use: its affinity, further limited by a container's CPU quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups here, or no quota ("max")
        pass
    return count


def load_per_core() -> float | None:
    """Processes that ran or waited for a core during the last minute, per core; None where nobody counts.

    The system counts for all its cores, however few of them this process may use.
    """
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):  # no such count here
        return None


def busy_seconds() -> float | None:
    """Seconds that all processors together have worked since the system began; None where nobody counts."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):  # not Linux
        return None


def facts() -> dict[str, Any]:
    """cpu name, cores, memory in bytes, GPUs (only once torch is loaded), python and platform."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


class Watch:
    """What other processes work while this one and its children do."""

    def __init__(self) -> None:
        self._began, self._all, self._own = time.monotonic(), busy_seconds(), _own_seconds()

    def others(self) -> float | None:
        """Processors that they kept busy since then, on average; children must have ended. None: unknown."""
        now = busy_seconds()
        if now is None or self._all is None:
            return None
        worked = (now - self._all) - (_own_seconds() - self._own)
        return round(max(0.0, worked / (time.monotonic() - self._began)), 2)


def _own_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)
