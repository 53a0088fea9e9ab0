"""A model in a process of its own that generates whenever it is asked to. The child of measure.py.

Orders come as lines on standard input, answers go as one JSON object a line to a descriptor of their own;
whatever a library prints goes elsewhere. The stock forward pass with its stock cache is timed, step by
step and without `generate`, whose own work would be the larger part of a small model's time.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models import load
from factory.models.anatomy import stock_config
from factory.models.checkpoint import INDEX, SINGLE, read_config, stored_tensors


def main() -> None:
    """Entry of the child: arguments are the descriptor for answers and the order as JSON."""
    order = json.loads(sys.argv[2])
    with os.fdopen(int(sys.argv[1]), "w") as answers:

        def tell(answer: dict[str, Any]) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        try:
            _serve(Path(order["model"]), order["work"], tell)
        except FactoryError as error:
            tell({"user": {"what": error.what, "where": error.where, "mend": error.mend}})
        except BrokenPipeError:  # nobody is left who asked
            pass
        except Exception as error:
            tell(_explain(error, order["model"]))


def _serve(folder: Path, work: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    import torch
    from transformers import AutoModelForCausalLM  # noqa: F401 - importing is no part of loading

    memory: _Memory = _GpuMemory() if load.device() == "cuda" else _Memory()
    before, began = memory.now(), time.perf_counter()
    config = read_config(folder)
    _check_length(config, folder, work)
    model, weights = _load(folder, config, work["dtype"])
    memory.wait()
    seconds = time.perf_counter() - began
    tell(
        {
            "weights": weights,
            "device": torch.cuda.get_device_name() if load.device() == "cuda" else "cpu",
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "load_seconds": seconds,
            "weight_bytes": sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())),
            "before_bytes": before,
            "load_peak": memory.peak(),
        }
    )
    draw = torch.Generator().manual_seed(0)
    shape = (work["batch"], work["prompt"])
    prompt = torch.randint(model.config.vocab_size, shape, generator=draw).to(model.device)
    for _ in sys.stdin:
        memory.forget()
        prefill, decode = generate(model, prompt, work["new"], memory.wait)
        tell({"prefill": prefill, "decode": decode, "peak": memory.peak()})


def generate(model: Any, prompt: Any, new: int, wait: Callable[[], None]) -> tuple[float, float]:
    """Greedy generation with a KV cache, timed.

    Args:
        model: a causal language model in evaluation mode.
        prompt: token ids, [batch, tokens], on the model's device.
        new: tokens to generate for each row.
        wait: returns once the device has done all it was given.

    Returns:
        Seconds up to the first new token, and seconds for the `new` - 1 others.
    """
    import torch

    # As in stock generation, logits are computed for the last position alone.
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    with torch.inference_mode():
        wait()
        start = time.perf_counter()
        out = model(input_ids=prompt, use_cache=True, **last)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        wait()
        first = time.perf_counter()
        for _ in range(new - 1):
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, **last)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        wait()
        return first - start, time.perf_counter() - first


def _load(folder: Path, config: dict[str, Any], dtype: str | None) -> tuple[Any, str]:
    """The model on its device, and where its weights come from."""
    import torch
    from transformers import AutoModelForCausalLM

    stock = stock_config(config, folder)
    chosen = dtype or load.dtype()
    if (folder / SINGLE).exists() or (folder / INDEX).exists() or any(folder.glob("*.bin")):
        stored_tensors(folder)  # says what is missing or cut short
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=chosen, use_safetensors=True)
        return model.to(load.device()).eval(), "checkpoint"
    name = (stock.dtype or "float32") if chosen == "auto" else chosen
    kind = getattr(torch, str(name).removeprefix("torch."))
    with torch.device(load.device()):
        return AutoModelForCausalLM.from_config(stock, dtype=kind).eval(), "random"


def _check_length(config: dict[str, Any], folder: Path, work: dict[str, Any]) -> None:
    longest = getattr(stock_config(config, folder), "max_position_embeddings", None)
    wanted = work["prompt"] + work["new"]
    if isinstance(longest, int) and wanted > longest:
        raise FactoryError(
            f"prompt and new tokens are {wanted}, the model has {longest} positions",
            where=str(folder),
            mend="Lower --prompt or --new",
        )


def _explain(error: Exception, model: str) -> dict[str, Any]:
    import torch

    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    starved = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in text
    if starved:
        mend = "Lower --batch or --prompt, or measure one model at a time"
        return {"user": {"what": "there is too little memory", "where": model, "mend": mend}}
    return {"error": text}


class _Memory:
    """Resident memory of this process, in bytes. Where it is not Linux a peak is never forgotten."""

    def now(self) -> int:
        """At this moment."""
        return self._status("VmRSS")

    def forget(self) -> None:
        """Begin a new peak."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; see proc_pid_clear_refs(5)

    def peak(self) -> int:
        """The highest since `forget`, or since the process began."""
        return self._status("VmHWM")

    def wait(self) -> None:
        """A CPU does what it is given at once."""

    def _status(self, name: str) -> int:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class _GpuMemory(_Memory):
    """What torch allocated on the GPU: without its context and what its allocator keeps in reserve."""

    def now(self) -> int:
        import torch

        return torch.cuda.memory_allocated()

    def forget(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated()

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()
