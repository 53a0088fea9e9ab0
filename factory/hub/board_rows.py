"""A model's row on the leaderboard: what its run's report and records say. Between sources and page.

What is not in a record is not in a row. Scores that are not the whole benchmark's, or made on the sandbox,
say so in `apart`, and are shown apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from factory.errors import FactoryError
from factory.hub.board_row import MORE, Row, Score, one_line
from factory.hub.board_sources import Found, Samples, Skipped
from factory.hub.card_run import BASE, Origin
from factory.hub.documents import in_order
from factory.wording import MINIATURE, block_range, counted, limited

_LARGEST = 2000  # layers, heads or experts of a config that is taken apart
_TRAINED = {"original": "SFT", "self": "self-distilled"}


def rows(found: Found, lacking: Skipped) -> Iterator[tuple[Row, Samples | None]]:
    """Every model that a run brings, with its scored documents.

    Args:
        found: the run.
        lacking: told of documents that cannot be read; the models' rows stand without them.

    Raises:
        FactoryError: a record is damaged, holds a value that cannot be, or is of another version.
    """
    without: dict[str, list[str]] = {}
    for name in found.models:
        try:
            row = _row(found, name)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            at = ".".join(map(str, first["loc"])) or "the row"
            what = f"{one_line(name)}: {at}: {first['msg']}"
            raise FactoryError(what[:300], where=found.where) from None
        try:
            samples = found.samples(name)
        except FactoryError as error:
            without.setdefault(error.what, []).append(row.name)
            samples = None
        yield row, None if samples is None else in_order(samples, row.scores)
    for why, names in without.items():
        lacking(found.where, f"{counted(len(names), 'model')} cannot be compared by document: {why}")


def _row(found: Found, name: str) -> Row:
    run, report = found.run, found.run.report
    model, record = run.model(name), run.records[f"evaluate/{name}"]
    tasks = report["tasks"]
    whole = run.model(BASE)["parameters"]
    removed = report["prune"]["blocks"] if name != BASE else []
    trained = [] if name in (BASE, "pruned") else run.trained_into(name)
    repository = found.repositories.get(name)
    base = run.base
    called = repository.id if repository else base.name if name == BASE else f"{found.name}/{name}"
    speed: Any = _fact(found, name, "measure", ("models", "{shape}", "tokens_per_second"))
    return Row(
        key=record["key"],
        name=called,
        run=found.name,
        variant=name,
        base=base.name,
        revision=base.fingerprint,
        method=_TRAINED.get(model["targets"], model["kind"]),  # type: ignore[arg-type]
        how=_how(found, name),
        targets=model["targets"],
        data=tuple(dict.fromkeys(d for one in trained for d in run.model(one)["data"])),
        rows=sum(run.records[f"train/{one}"]["facts"]["rows"] for one in trained) if trained else None,
        blocks=model["blocks"],
        removed=len(removed),
        removed_blocks=_blocks(removed),
        parameters=model["parameters"],
        parameters_removed=1 - model["parameters"] / whole,
        flops=_flops(found, name),
        suite=report["suite"],
        limit=report["limit"],
        apart=apart(report, record, base),
        scores={
            task: Score(**{**score, "metric": tasks[task]["metric"], "shots": tasks[task]["shots"]})
            for task, score in model["scores"].items()
        },
        average=model["average"],
        recovery=model["recovery"],
        more=_more(found, name),
        tokens_per_second=speed,
        measured_on=_measured_on(found),
        repository=repository.id if repository else None,
        url=repository.url if repository else None,
        commit=repository.commit if repository else None,
        evaluated=record["started"],
        seed=report["seed"],
        factory=record["factory"],
    )


def apart(report: Mapping[str, Any], record: Mapping[str, Any], base: Origin) -> tuple[str, ...]:
    """Why scores are no benchmark's: made on the sandbox, limited, or what else the evaluation noted."""
    rows = (
        Origin.of(place, "dataset") for role, place in record["inputs"].items() if role.startswith("data.")
    )
    sandbox = base.kind == "sandbox" or any(one.kind == "sandbox" for one in rows)
    said = [MINIATURE] if report.get("miniature") else []
    said += ["Made on the sandbox: a made-up world, no benchmark"] if sandbox else []
    said += [limited(report["limit"])] if report["limit"] else []
    unknown = ["An earlier version made its records, which do not say whether the scores are whole"]
    why_not = record["facts"].get("why_not", report.get("deviations", unknown))
    notes = [note for note in why_not if not sandbox or note.startswith("Only the first")]
    return tuple(dict.fromkeys([*said, *notes]))


def _more(found: Found, name: str) -> dict[str, Any]:
    told = {}
    for column, more in MORE.items():
        value = _fact(found, name, more.step, more.path)
        if value is not None:
            told[column] = {end: _times(more.factor, x) for end, x in value.items()}
    return told


def _times(factor: float, value: Any) -> Any:
    """What is no number stays as it is, for the row to refuse."""
    return factor * value if isinstance(value, int | float) else value


def _fact(found: Found, name: str, step: str, path: tuple[str, ...]) -> dict[str, Any] | None:
    """A figure of a record; None where the recipe did not measure it."""
    value: Any = found.run.records.get(step.format(model=name), {}).get("facts", {})
    for key in path:
        value = value.get(key.format(shape=BASE if name == BASE else "pruned")) if value else None
    if value is None:
        return None
    return {
        "value": value.get("value", value.get("median")),
        "low": value.get("low"),
        "high": value.get("high"),
    }


def _measured_on(found: Found) -> str:
    record = found.run.records.get("measure")
    if record is None:
        return ""
    one, work = record["facts"]["models"][BASE], record["facts"]["workload"]
    device = record["machine"]["cpu"] if one["device"] == "cpu" else one["device"]
    tokens = f"{work['prompt']} tokens read, {work['new']} written"
    return f"{device}, {one['dtype']}, batch {work['batch']}, {tokens}"


def _how(found: Found, name: str) -> str:
    run, model = found.run, found.run.model(name)
    if model["kind"] == "merged":
        return f"{model['method']} of {', '.join(model['of'])}"
    if model["kind"] != "trained":
        return ""
    settings = run.records[f"train/{name}"]["settings"]
    loss = settings.get("loss", "sft")
    return str(settings.get("method", "lora")) + (f", {loss}" if loss != "sft" else "")


def _blocks(removed: list[int]) -> str:
    """`7..9`, or where they are not in one piece `4, 7..9`."""
    runs: list[list[int]] = []
    for block in sorted(removed):
        if runs and runs[-1][1] == block:
            runs[-1][1] = block + 1
        else:
            runs.append([block, block + 1])
    return ", ".join(block_range(*run) for run in runs)


def _flops(found: Found, name: str) -> int | None:
    """From the config beside the weights; None where it is not at hand, or the family is not understood."""
    folder = found.configs.get(name)
    try:
        if folder is None:
            text = found.run.base.text("config.json") if name == BASE else None
            return _of_config(json.loads(text)) if text else None
        return _of_config(json.loads((folder / "config.json").read_bytes()))
    except (FactoryError, OSError, ValueError):
        return None


def _of_config(config: Mapping[str, Any]) -> int | None:
    from factory.models.anatomy import anatomy

    # A stranger's config is built, without memory for its weights but with an object for each of its layers.
    if any(
        value > _LARGEST for name, value in config.items() if name.startswith("num_") and type(value) is int
    ):
        return None
    return anatomy(config, Path("config.json")).flops()
