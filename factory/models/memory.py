"""Whether a model fits in the memory of this machine. Asked by proof.py before it loads one."""

from __future__ import annotations

import os
from pathlib import Path

from factory.models.checkpoint import Checkpoint

# Loading holds the weights and, where experts are fused, one copy of a block's; but for attention scores,
# the activations and caches of a proof's few tokens are small beside what is kept free.
SHARE = 1.3
KEPT_FREE = 2 * 10**9
SMALL = 10**9  # a model of so few bytes is not worth a GPU, nor a reserve


def fits(checkpoint: Checkpoint, device: str, more: int = 0) -> bool:
    """Whether a device, `cuda` or `cpu`, has room for a model and `more` bytes.

    A small model is said not to fit a GPU: it is not worth one.
    """
    size = sum(tensor.size for tensor in checkpoint.tensors)
    needed = int(size * SHARE) + more + (KEPT_FREE if size >= SMALL else 0)
    if device == "cuda" and (size < SMALL or _cuda_free() < needed):
        return False
    return needed <= available()  # what goes to a GPU goes through main memory


def available() -> int:
    """Bytes of main memory that this process may still take, within its container's limit."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    except OSError:  # not Linux
        pass
    return min([*free, *_container()])


def _container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What control groups leave, from this process's own up to the root; files in memory can be let go."""
    left = []
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2].lstrip("/")
    except (OSError, IndexError):
        return []
    for group in (root / own, *(root / own).parents):
        try:
            most = (group / "memory.max").read_text().strip()
            used = int((group / "memory.current").read_text())
            files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            left.append(int(most) - used + int(files.get("file", 0)))
    return left


def _cuda_free() -> int:
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0
