"""Several processes that run one stage together, under child.py: torchrun starts them, these rules hold them.

    run_stage -> the child, which is torchrun -> a process for each rank, which runs the stage

torchrun gives each rank a session of its own and no descriptors but the standard three. So the child's
standard input is a socket in which a bundle of descriptors waits for each rank: the control pipe, the pipe
for events and the locks of the artifact. With them a rank is a child like any other: it dies when the factory
dies, it keeps the artifact's lock while it lives, and what it tells arrives as one line.

- All talk is on this machine alone: loopback, and a port that is free.
- The first rank tells progress and result. Any rank tells its error; the first to do so is believed, for the
  others then only say that somebody left.
- A rank that ends ends all (torchrun's doing). Of one that was killed the launcher tells, over all else.
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

from factory.child import ChildFailed, Killed, Teller, Work, die_with_parent, finish, perform

FOLDER = "torchrun"  # in the artifact's unfinished folder, for the time of the work
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from factory.ranks import main; main()"
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_DESCRIPTORS = 32  # of a bundle, at most


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
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    desk, theirs = socket.socketpair()
    for _ in range(work.processes):
        socket.send_fds(desk, [b"."], [control, events, *work.hold])
    os.dup2(theirs.fileno(), 0)  # the one descriptor of ours that torchrun hands on
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", _LOOPBACK)
    folder = Path(work.out) / FOLDER
    own = ["--log-dir", str(folder), "--local-addr", "127.0.0.1", "--max-restarts", "0", "--no-python"]
    told = json.dumps(asdict(work))
    command = [sys.executable, "-P", "-c", _BOOT, told, json.dumps(sys.path)]
    try:
        run(parse_args(["--standalone", "--nproc-per-node", str(work.processes), *own, *command]))
    except ChildFailedError as error:
        raise _loss({rank: failure.exitcode for rank, failure in error.failures.items()}, work) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _loss(codes: Mapping[int, int], work: Work) -> ChildFailed:
    """What to tell of ranks that ended with these exit codes (negative: by a signal)."""
    for rank, code in sorted(codes.items()):
        if code < 0 and -code != signal.SIGTERM:  # by which torchrun ends the others
            reason = " (out of memory?)" if -code == signal.SIGKILL else ""
            name = signal.Signals(-code).name
            return Killed(f"rank {rank} of {work.processes} was killed by {name}{reason}")
    rank, code = max(codes.items(), key=lambda each: each[1])
    return ChildFailed(f"rank {rank} of {work.processes} ended with exit code {code}")


def main() -> NoReturn:
    """Entry of a rank: the arguments are torchrun's environment, the work and the bundle in the socket."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    work = Work(**{**told, "inputs": dict(told["inputs"]), "hold": tuple(told["hold"])})
    with socket.socket(fileno=0) as desk:
        _, descriptors, _, _ = socket.recv_fds(desk, 1, _DESCRIPTORS)
    os.open(os.devnull, os.O_RDONLY)  # takes the lowest number: standard input
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    control, events = descriptors[:2]
    die_with_parent(control, events)
    rank = int(os.environ["RANK"])
    finish(Teller(events), lambda teller: perform(work, teller, rank))
