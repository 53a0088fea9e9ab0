"""What models weigh and take, as tables for the terminal: `factory sizes` and `factory measure`.

Rows of text; commands/display.py prints them. models/sizes.py and models/measure.py say what every
figure means.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory import machine
from factory.wording import counted

if TYPE_CHECKING:
    from factory.models.measure import Measured, Workload
    from factory.models.sizes import Sizes

_BUSY = 0.5  # processes a core that run or wait, beside which timings mean little
_OTHERS = 0.2  # processors that others kept busy, beside which timings mean little
_NAME = 18  # characters a line of a model's name; two of them and a ratio fit 80 columns
_PARTS = ("embeddings", "head", "attention", "mlp", "experts", "norms", "other")


def headings(models: Sequence[str], comparison: str) -> list[str]:
    """The columns: what a row is, one a model, and with two models how they compare.

    A model is called by its folder's name, or by the end of its path where two folders are named alike.
    """
    paths = [Path(model.removesuffix("/config.json")) for model in models]
    alike = len({path.name for path in paths}) < len(paths)
    names = [str(Path(*path.parts[-2:])) if alike else path.name for path in paths]
    folded = ["\n".join(textwrap.wrap(name, _NAME)) for name in names]
    return ["", *folded, *([comparison] if len(models) == 2 else [])]


def size_rows(models: Sequence[Sizes], context: int, dtype: str) -> list[list[str]]:
    """One row a figure, one column a model; with two models also the change, in percent.

    Args:
        models: one, or the base and another.
        context: tokens, for all that grows with them.
        dtype: of weights and cache.
    """
    rows: list[list[str]] = []

    def row(
        name: str, value: Callable[[Sizes], int], say: Callable[[float], str] = lambda v: f"{v:,.0f}"
    ) -> None:
        values = [value(model) for model in models]
        if any(values):
            rows.append([name, *map(say, values), *_change(values)])

    row("blocks", lambda m: len(m.blocks))
    row("parameters", lambda m: m.parameters)
    for part in _PARTS:
        row(f"  {part}", lambda m, part=part: m.part(part))  # type: ignore[misc]
    if any(model.active != model.parameters for model in models):
        row("  active for a token", lambda m: m.active)
    row(f"weights, {dtype}", lambda m: m.checkpoint_bytes(dtype), _bytes)
    if not any(model.unknown for model in models):
        at = f"at {context:,}"
        row("FLOPs a token", lambda m: m.flops(), _scaled)
        row("  without the head", lambda m: m.flops(counted="blocks"), _scaled)
        row("  2 x parameters", lambda m: m.flops(counted="parameters"), _scaled)
        row(f"  attending, {at}", lambda m: m.flops(context) - m.flops(), _scaled)
        row(f"FLOPs, {context:,} tokens", lambda m: m.prefill_flops(context), _scaled)
        row("KV cache, a token", lambda m: m.cache_bytes(1, dtype), _bytes)
        row(f"KV cache, {at}", lambda m: m.cache_bytes(context, dtype), _bytes)
    return rows


def size_notes(models: Sequence[Sizes]) -> list[str]:
    """What has to be known to read `size_rows`, one sentence a line."""
    each = sorted({block.parameters for model in models for block in model.blocks})
    said = " or ".join(f"{size:,}" for size in each) if len(each) < 4 else f"{each[0]:,} to {each[-1]:,}"
    lines = [f"A block has {said} parameters."]
    if unknown := next((model.unknown for model in models if model.unknown), None):
        return [*lines, f"FLOPs and KV cache are not told: {unknown}."]
    lines += [
        "FLOPs are those of the blocks' and the head's matrices, 2 a multiply-accumulate;",
        "attending comes on top, and looking up the embeddings is none.",
    ]
    if without := sum(block.attends is None for block in models[0].blocks):
        lines.append(f"{without} blocks have no attention; what their recurrence does is not counted.")
    return lines


def size_facts(model: Sizes, context: int, dtype: str) -> dict[str, Any]:
    """One model as plain values, for JSON: elements, FLOPs and bytes; every block by itself."""
    facts: dict[str, Any] = {
        "parameters": model.parameters,
        "active": model.active,
        "parts": {part: model.part(part) for part in _PARTS},
        "checkpoint_bytes": {kind: model.checkpoint_bytes(kind) for kind in ("float32", "bfloat16")},
        "blocks": [{"parameters": block.parameters, **asdict(block)} for block in model.blocks],
        "context": context,
    }
    if model.unknown:
        return {**facts, "unknown": model.unknown}
    counted = ("blocks", "head", "parameters")
    return {
        **facts,
        "flops_per_token": {kind: model.flops(0, kind) for kind in counted},  # type: ignore[arg-type]
        "flops_per_token_at_context": {kind: model.flops(context, kind) for kind in counted},  # type: ignore[arg-type]
        "prefill_flops": {kind: model.prefill_flops(context, kind) for kind in counted},  # type: ignore[arg-type]
        "cache_bytes": {
            "dtype": dtype,
            "token": model.cache_bytes(1, dtype),
            "context": model.cache_bytes(context, dtype),
        },
    }


def measured_rows(models: Sequence[Measured], work: Workload) -> list[list[str]]:
    """One row a figure, each with a row below for its lowest and highest round; ratios within rounds."""
    from factory.models.measure import Spread, ratios

    says: dict[str, tuple[str, Callable[[float], str]]] = {
        "prefill_seconds": ("first token after", _seconds),
        "decode_seconds": ("each further token", _seconds),
        "decode_tokens_per_second": ("tokens/s, decoding", _three_digits),
        "tokens_per_second": ("tokens/s, prompt and all", _three_digits),
    }
    compared = ratios(models[0], models[1], work) if len(models) == 2 else {}
    rows = []
    for name, (label, say) in says.items():
        spreads = [Spread.of(model.series(work)[name]) for model in models]
        ratio = compared.get(name)
        rows.append([label, *(say(s.median) for s in spreads), *([f"{ratio.median:.3f}"] if ratio else [])])
        span = [f"{say(s.low)} .. {say(s.high)}" for s in spreads]
        rows.append(
            ["  lowest .. highest", *span, *([f"{ratio.low:.3f} .. {ratio.high:.3f}"] if ratio else [])]
        )
    for label, value in (
        ("peak memory", [m.peak for m in models]),
        ("  before loading", [m.before_bytes for m in models]),
        ("  weights", [m.weight_bytes for m in models]),
        ("  peak while loading", [m.load_peak for m in models]),
    ):
        ratio_cell = [f"{value[1] / value[0]:.3f}"] if len(models) == 2 and value[0] else []
        rows.append([label, *map(_bytes, value), *ratio_cell])
    rows.append(["loaded in", *(_seconds(m.load_seconds) for m in models)])
    return rows


def measured_facts(models: Sequence[Measured], work: Workload, load: float | None) -> dict[str, Any]:
    """Everything measured as plain values, for JSON; seconds and bytes.

    Args:
        models: one, or the base and another.
        work: what they generated.
        load: of the machine before, a core (see `machine.load_per_core`).
    """
    from factory.models.measure import ratios

    facts = {
        "workload": asdict(work),
        "machine": machine.facts(),
        "load_per_core": load,
        "models": [m.facts(work) for m in models],
    }
    if len(models) == 2:
        facts["ratios"] = {name: asdict(s) for name, s in ratios(models[0], models[1], work).items()}
    return facts


def recorded_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """A record's measurement of base and pruned model for a page: what, the two, pruned / base.

    Args:
        facts: of the stage `measure`.
    """
    base, pruned = facts["models"]["base"], facts["models"]["pruned"]
    rows = []
    for name, label, say in (
        ("prefill_seconds", "first token after", _seconds),
        ("decode_seconds", "each further token", _seconds),
        ("tokens_per_second", "tokens a second, prompt and all", _three_digits),
    ):
        ratio = facts["ratios"][name]
        within = f"{ratio['median']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})"
        rows.append([label, say(base[name]["median"]), say(pruned[name]["median"]), within])
    for name, label in (
        ("peak", "memory at the peak"),
        ("before_bytes", "of it before loading"),
        ("weight_bytes", "of it weights"),
    ):
        ratio = f"{pruned[name] / base[name]:.2f}" if base[name] else ""
        rows.append([label, _bytes(base[name]), _bytes(pruned[name]), ratio])
    return rows


def recorded_notes(facts: Mapping[str, Any]) -> list[str]:
    """What has to be known to read `recorded_rows`, a sentence each.

    Args:
        facts: of the stage `measure`.
    """
    work, one, others = facts["workload"], facts["models"]["base"], facts["others"]
    cpu = one["device"] == "cpu"
    on = f"the CPU with {counted(one['threads'], 'thread')}" if cpu else one["device"]
    lines = [
        f"Batch {work['batch']}, {work['prompt']:,} + {work['new']:,} tokens, {one['dtype']}, on {on}.",
        f"Medians of {counted(work['rounds'], 'round')}, the models in turns; ratios are within a round, in "
        "brackets the lowest and highest.",
        "Memory is what each process had resident, Python and its libraries included."
        if cpu
        else "Memory is what torch allocated on the GPU.",
    ]
    if said := disturbed(others):
        lines.append(said)
    return lines


def disturbed(others: float | None) -> str | None:
    """What processors that others kept busy meanwhile do to timings; None where they were hardly any."""
    if others is None or others <= _OTHERS:
        return None
    return (
        f"Other processes kept {others:.1f} processors busy meanwhile: times are too long, ratios uncertain."
    )


def busy(load: float | None) -> str | None:
    """What a machine that works for others does to timings, as a sentence; None where it is idle enough."""
    if load is None or load <= _BUSY:
        return None
    return "The machine was busy before: times are too long, ratios uncertain."


def measured_title(models: Sequence[Measured], work: Workload) -> str:
    """What was run, in one line."""
    first = models[0]
    on = first.device if first.device != "cpu" else f"cpu, {first.threads} thread{'s' * (first.threads != 1)}"
    random = ", random weights" if any(model.weights == "random" for model in models) else ""
    return f"batch {work.batch}, {work.prompt:,} + {work.new:,} tokens, {first.dtype}{random}, {on}"


def measured_notes(models: Sequence[Measured], work: Workload, load: float | None = None) -> list[str]:
    """What has to be known to read `measured_rows`, one sentence a line."""
    of = "A single round" if work.rounds == 1 else f"Medians of {work.rounds} rounds"
    lines = [f"{of}."]
    if len(models) == 2:
        lines = [f"{of}, in turns; ratios, second to first, are within a round."]
    if load is not None:
        lines.append(f"In the minute before, {load:.2f} processes a core ran or waited.")
    if said := busy(load):
        lines.append(said)
    if models[0].device == "cpu":
        return [*lines, "Memory is what each process had resident, Python and its libraries included."]
    return [*lines, "Memory is what torch allocated on the GPU."]


def _change(values: Sequence[float]) -> list[str]:
    if len(values) != 2:
        return []
    return ["" if values[0] == values[1] or not values[0] else f"{100 * (values[1] / values[0] - 1):+.2f} %"]


def _three_digits(value: float) -> str:
    return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _scaled(value: float) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {letter}"
    return f"{value:.0f} "


def _bytes(value: float) -> str:
    return _scaled(value) + "B"


def _seconds(value: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{_three_digits(value * 1e6)} µs"
