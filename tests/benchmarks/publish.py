"""A large model published to the local Hub: speed against a plain copy, memory of the client and of the Hub.

    OMP_NUM_THREADS=1 python tests/benchmarks/publish.py --megabytes 1000

The Hub (`factory hub serve`) and the client are processes of their own on one machine and disk. The client is
the real transaction: look, create, hash, send, read everything back, compare, tag, make public. The copy is
shutil.copyfile and fsync of the same file, before and after; the faster counts. Memory is the highest
resident size above that after the imports (client) or the start (Hub). Random bytes, so that nothing can be
left out as known.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 500  # MB of memory that the issue allows
_CHUNK = 16 << 20


def random_model(path: Path, size: int) -> None:
    """A safetensors file of one tensor of random bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"weight": tensor}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, size, _CHUNK):
            file.write(os.urandom(min(_CHUNK, size - start)))


def highest(process: int | str = "self") -> int:
    """The highest resident size so far, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell the highest resident size")


def client(model: Path) -> None:
    """One publication; prints its figures as JSON."""
    import datasets  # noqa: F401  (what a process of `factory publish` has loaded)
    import huggingface_hub.hf_api  # noqa: F401

    from factory.hub.parcel import Parcel
    from factory.hub.session import Patience, connect
    from factory.hub.transaction import publish

    files = {"model.safetensors": model, "README.md": b"---\nlicense: mit\n---\n# Large\n"}
    patience = Patience()
    api = connect(patience)
    api.whoami()
    before, began, steps = highest(), time.perf_counter(), []
    parcel = Parcel("model", "bench/large", files, "Publish")
    done = publish(api, parcel, patience, told=lambda step: steps.append((step, time.perf_counter())))
    ended = time.perf_counter()
    assert done.changed and done.public
    times = {
        name: after - at for (name, at), (_, after) in zip(steps, [*steps[1:], ("", ended)], strict=True)
    }
    found = {"before": before, "peak": highest(), "seconds": ended - began, "steps": times}
    print("FOUND" + json.dumps(found))


def copy(model: Path) -> float:
    """Seconds to copy it, on the disk."""
    target = model.with_suffix(".copy")
    began = time.perf_counter()
    shutil.copyfile(model, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    taken = time.perf_counter() - began
    target.unlink()
    return taken


def main() -> None:
    """Prints a section for RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(options.client)
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = place / "model.safetensors"
        random_model(model, options.megabytes * 10**6)
        command = [sys.executable, "-m", "factory.cli", "hub", "serve", "--root", str(place / "hub")]
        command += ["--port", "0", "--namespace", "bench", "--json"]
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert hub.stdout is not None
            told = json.loads(hub.stdout.readline())["environment"]
            load = os.getloadavg()[0]
            copies = [copy(model)]
            environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
            environment |= {**told, "HF_HOME": str(place / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            # The Hub has answered before its memory is taken for that of an idle one.
            once = [sys.executable, "-c", "import huggingface_hub as h; h.HfApi().whoami()"]
            subprocess.run(once, env=environment, check=True)
            idle = highest(hub.pid)
            command = [sys.executable, __file__, "--client", str(model)]
            ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            served = highest(hub.pid) - idle
            copies.append(copy(model))
        finally:
            hub.terminate()
            hub.wait()
    found, size = json.loads(ran.stdout.rpartition("FOUND")[2]), options.megabytes
    one, used = min(copies), (found["peak"] - found["before"]) / 1e6
    steps = found["steps"]
    print(f"{size:,} MB of random bytes, load average {load:.1f} on {os.cpu_count()} cores.\n")
    print("| | seconds | MB/s | times a copy |\n|---|--:|--:|--:|")
    lines = {"plain copy, synced": one, "publish, whole": found["seconds"], **{
        f"publish: {step}": steps[step] for step in ("look", "send", "read back")
    }}  # fmt: skip
    for what, seconds in lines.items():
        print(f"| {what} | {seconds:.1f} | {size / seconds:,.0f} | {seconds / one:.1f} |")
    print(f"\n| memory above the start | MB | at most {LIMIT} |\n|---|--:|---|")
    for what, megabytes in (("client", used), ("Hub", served / 1e6)):
        print(f"| {what} | {megabytes:.0f} | {'yes' if megabytes <= LIMIT else 'no'} |")


if __name__ == "__main__":
    main()
