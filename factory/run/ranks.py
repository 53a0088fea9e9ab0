"""Several processes that run one stage together, under child.py.

    run_stage -> the child, which launches -> a process for each rank, which runs the stage

The launcher is the part of torchrun that starts and watches processes, with torchrun's environment for each.
Its rendezvous is left out: it listens on every network the machine is on. Here ranks meet through a file, and
talk over loopback (on GPUs of one machine NCCL does not need even that).

A process started so has a session of its own and no descriptors but the standard three. So the launcher's
standard input is a socket in which a bundle of descriptors waits for each rank: the control pipe, the pipe
for events and the locks of the artifact. With them a rank is a child like any other: it dies when the factory
dies, it keeps the artifact's lock while it lives, and what it tells arrives as one line.

- The first rank tells progress and result. Any rank tells its error; the first to do so is believed, for the
  others then only say that somebody left.
- A rank that fails ends all. Of one that was killed the launcher tells, and that is believed over all else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from factory.run.child import ChildFailed, Killed, Work
from factory.run.inside import Teller, die_with_parent, finish, perform

FOLDER = "ranks"  # in the artifact's unfinished folder, for the time of the work
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from factory.run.ranks import main; main()"
)
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_DESCRIPTORS = 32  # of a bundle, at most
_PERIOD = 0.1  # seconds between two looks at the ranks


def launch(work: Work, control: int, events: int) -> None:
    """Run the stage in `work.processes` processes and wait for them. Called in the child.

    Args:
        work: what each rank is told.
        control: descriptor whose other end the factory holds open while it lives.
        events: descriptor that the factory reads.

    Raises:
        Killed: a rank was killed.
        ChildFailed: a rank ended in another way than by ending its work.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    desk, theirs = socket.socketpair()
    for _ in range(work.processes):
        socket.send_fds(desk, [b"."], [control, events, *work.hold])
    os.dup2(theirs.fileno(), 0)  # the one descriptor of ours that is handed on
    folder = Path(work.out) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # of a killed run: its ranks would be waited for
    folder.mkdir()
    words = ("-P", "-c", _BOOT, json.dumps(asdict(work)), json.dumps(sys.path))
    ranks = range(work.processes)
    processes = start_processes(
        "rank",
        sys.executable,
        dict.fromkeys(ranks, words),
        {rank: _environment(rank, work.processes) for rank in ranks},
        DefaultLogsSpecs(log_dir=str(folder)),
    )
    ended = processes.wait(period=_PERIOD)
    shutil.rmtree(folder, ignore_errors=True)
    if ended is not None and ended.is_failed():
        raise _loss({rank: failure.exitcode for rank, failure in ended.failures.items()}, work)


def _environment(rank: int, count: int) -> dict[str, str]:
    """What torchrun tells a process on a single machine, and where to talk."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": _LOOPBACK,
        "NCCL_SOCKET_IFNAME": _LOOPBACK,
    }


def _loss(codes: Mapping[int, int], work: Work) -> ChildFailed:
    """What to tell of ranks that ended with these exit codes (negative: by a signal)."""
    for rank, code in sorted(codes.items()):
        if code < 0 and -code != signal.SIGTERM:  # by which the others are ended
            reason = " (out of memory?)" if -code == signal.SIGKILL else ""
            name = signal.Signals(-code).name
            return Killed(f"rank {rank} of {work.processes} was killed by {name}{reason}")
    rank, code = max(codes.items(), key=lambda each: each[1])
    return ChildFailed(f"rank {rank} of {work.processes} ended with exit code {code}")


def main() -> NoReturn:
    """Entry of a rank, which has its environment, the work and, in a socket, its bundle of descriptors."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    work = Work(**{**told, "inputs": dict(told["inputs"]), "hold": tuple(told["hold"])})
    with socket.socket(fileno=0) as desk:
        _, descriptors, _, _ = socket.recv_fds(desk, 1, _DESCRIPTORS)
    os.open(os.devnull, os.O_RDONLY)  # takes the lowest number: standard input
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    control, events = descriptors[:2]
    die_with_parent(control, events)
    finish(Teller(events), lambda teller: _perform(work, teller))


def _perform(work: Work, teller: Teller) -> None:
    import torch
    from torch import distributed

    rank = int(os.environ["RANK"])
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    meeting = f"file://{Path(work.out).absolute() / FOLDER / 'meeting'}"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=work.processes)
    perform(work, teller, rank)
    distributed.barrier()  # whoever ended first would look lost to the others
