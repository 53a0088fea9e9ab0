"""GPUs that can be rented, as data, and what of their speed a step is taken to get: under work.py.

Peaks are NVIDIA's, dense (without sparsity) and in the type a step computes in: bfloat16, on the T4 float16.
Prices are dollars an hour of one GPU on demand. Those of Hugging Face Jobs stand at
https://huggingface.co/docs/hub/jobs-pricing (a stored copy, read on 2026-11-21), which lists no H100; its
price is Lambda's for one H100 SXM (https://lambda.ai/pricing, as others noted it on 2026-09-25; in that
autumn it cost from 2.69 at RunPod to 6.88 at AWS). Prices change: `factory plan` names them every time.
"""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9
GIB = 2**30


@dataclass(frozen=True)
class Kind:
    """One kind of GPU.

    Attributes:
        name: as people call it.
        memory: bytes.
        flops: a second, at its peak.
        bandwidth: of its memory, bytes a second.
        dollars: an hour.
        seller: whose price that is.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    dollars: float
    seller: str


_JOBS = "Hugging Face Jobs"
KINDS = (
    Kind("T4", 16 * GB, 65e12, 320e9, 0.40, _JOBS),
    Kind("L4", 24 * GB, 121e12, 300e9, 0.80, _JOBS),
    Kind("A10G", 24 * GB, 70e12, 600e9, 1.00, _JOBS),
    Kind("A100 80GB", 80 * GB, 312e12, 1_935e9, 2.50, _JOBS),
    Kind("H100", 80 * GB, 989e12, 3_350e9, 4.29, "Lambda"),
    Kind("H200", 141 * GB, 989e12, 4_800e9, 5.00, _JOBS),
)


@dataclass(frozen=True)
class Speeds:
    """What of a machine's speed steps get: one end of an estimate.

    Attributes:
        forward: share of the peak while many tokens run through at once: importance, evaluation, prompts.
        train: the same while learning.
        decode: share of the memory's bandwidth while tokens are generated one after the other.
        launch: seconds a block takes at least in every pass, for it has to be told to the GPU; of vLLM.
        launch_eager: the same, of transformers.
        start: seconds before a step does anything: a process, its imports.
        disk: bytes a second, of weights read and written.
    """

    forward: float
    train: float
    decode: float
    launch: float
    launch_eager: float
    start: float
    disk: float


# Assumed, not measured on GPUs: from what such steps commonly reach and what they reach at worst.
FAST = Speeds(forward=0.50, train=0.45, decode=0.60, launch=0.05e-3, launch_eager=0.4e-3, start=10, disk=1e9)
SLOW = Speeds(
    forward=0.20, train=0.20, decode=0.25, launch=0.15e-3, launch_eager=1.0e-3, start=40, disk=0.2e9
)
