"""Regenerate: the unpruned base rewrites every training response in its own words; train reads the result.

The teacher sees the instruction and, with `sees: reference`, the original response (self-data
distillation, arXiv 2410.09982, section 3; SDFT). What becomes of a row is chosen by a policy
(`factory/data/selection.py`), by default: a rewritten response that fails its check gives way to the
original, with the reason. No row is dropped. The training prompt never holds the reference.

Generations are appended to pieces on disk as they finish (`generations.py`); when all are there, responses
are chosen and written as parquet shards in file order (`shards.py`). A run that was killed goes on where
it was. Rows stream through: memory depends on the batch and the piece, not on the dataset.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory import engines, prompts
from factory.data import checks, selection
from factory.data.rows import DataSpec, iterate_rows
from factory.engines import Answered, Engine, Request, Sampling
from factory.errors import FactoryError
from factory.seeds import stream
from factory.stages import Frozen, Progress, generations, shards
from factory.stages.generations import Journal, Row, Wanted, Work
from factory.wording import counted

VERSION = 4
LIBRARIES = ("torch", "transformers", "tokenizers")
KEYLESS = {"batch_size": True, "server": {"url", "api_key_env", "timeout"}}


class Server(Frozen):
    """An OpenAI-compatible server; see `factory.engines.Server`."""

    url: str
    model: str
    api_key_env: str | None = None
    timeout: float = Field(default=600.0, gt=0)


class Settings(Frozen):
    """What a person chose.

    Attributes:
        data: the dataset, its prompt kind and its check.
        sees: whether the teacher is shown the original response.
        select: how a row's response is chosen, see `factory.selection`.
        samples: the most responses a row gets, for `best_of` and `likeliest`.
        temperature: 0 takes the likeliest token; above, rows are sampled, each from its own seed.
        max_new_tokens: a response that is longer counts as truncated.
        batch_size: rows in work at once; None leaves it to the engine. Not in the artifact's key.
        seed: of the sampling.
        engine: who generates.
        server: of the engine `openai`. Of it only the model's name is in the artifact's key.
    """

    data: DataSpec
    sees: Literal["reference", "question"] = "reference"
    select: selection.Policy = "verify"
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    max_new_tokens: int = Field(default=512, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    seed: int = 0
    engine: engines.Name = "transformers"
    server: Server | None = None


def ready(settings: Settings) -> None:
    """Refuses an engine that cannot work here, before the steps in front of this one have begun."""
    engines.refuse_missing(settings.engine, _server(settings))


def _server(settings: Settings) -> engines.Server | None:
    return engines.Server(**settings.server.model_dump()) if settings.server else None


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes data/train-*.parquet and a README that `datasets.load_dataset` understands.

    Args:
        settings: see `Settings`.
        inputs: `base`, the teacher's model folder with a chat template; `data`, a dataset folder.
        out: may hold generations and shards of an interrupted run of the same step; they are kept.
        progress: told the rows done, with the tokens a second.

    Returns:
        Rows, how many kept the regenerated response, counts by reason, examples; of all samples the new
        tokens, their mean log-probability in nats (None where a server does not tell) and tokens a second
        (over all sessions of the step, loading excluded); `said`: in how many rows it came to something.

    Raises:
        FactoryError: the dataset, the model or the engine cannot be used.
    """
    wanted = Wanted(settings.select, settings.data.check, settings.samples)
    journal = Journal(out / "generations")

    def rows() -> Iterator[Row]:
        return journal.walk(iterate_rows(inputs["data"], settings.data))

    # Reads it all: a broken row is told before hours of work.
    done, total = generations.finished(rows(), wanted)
    journal.tally()
    progress(done, total, "rows")
    engine: Engine | None = None
    if done < total or settings.select == "likeliest":
        engine = engines.load(settings.engine, inputs["base"], settings.batch_size, _server(settings))
    if engine and done < total:
        work = Work(rows(), wanted, journal, lambda row, sample: _request(settings, row, sample))
        sampling = Sampling(settings.max_new_tokens, settings.temperature)
        journal.start()
        while work.left:
            for generated in engine.generate(work.requests(), sampling):
                done += work.take(generated)
                progress(done, total, "rows", f"{journal.speed():.0f} tokens/s")
    _select(settings, rows(), engine, out)
    facts = shards.facts(out)
    shards.readme(out, settings.data.name, _made(settings), facts["reasons"])
    shutil.rmtree(journal.folder, ignore_errors=True)
    return {
        **facts,
        "new_tokens": journal.tokens,
        "mean_logprob": _written(journal.mean_logprob()),
        "tokens_per_second": round(journal.speed(), 1),
        "said": _said(facts),
    }


def _said(facts: Mapping[str, Any]) -> list[str]:
    """How it came out, in a line: hours of work for nothing should be seen at once."""
    against = [
        f"{outcome['reason']} {outcome['rows']:,}"
        for outcome in facts["outcomes"]
        if outcome["kept"] == "original"
    ]
    said = f"regenerated responses kept for {facts['kept_regenerated']:,} of {counted(facts['rows'], 'row')}"
    return [said + (f" (originals for: {', '.join(against)})" if against else "")]


def _request(settings: Settings, row: Row, sample: int) -> Request:
    reference = row.fields["response"] if settings.sees == "reference" else None
    # Sample 0 is drawn as it would be alone: raising `samples` leaves it as it was.
    names = ("row", str(row.index), *(("sample", str(sample)) if sample else ()))
    id = row.index * settings.samples + sample
    return Request(id, _messages(settings, row, reference), stream(settings.seed, *names))


def _messages(settings: Settings, row: Row, reference: str | None) -> tuple[dict[str, str], ...]:
    kind, fields = settings.data.prompt, row.fields
    try:
        said = prompts.messages(kind, fields["instruction"], fields["context"], reference=reference)
    except ValueError as error:
        raise FactoryError(
            f"row {row.index} (from 0) of dataset '{settings.data.name}' is no chat: {error}",
            mend="Correct it, or take the prompt instruct",
        ) from error
    return tuple(said)


def _select(settings: Settings, rows: Iterator[Row], engine: Engine | None, out: Path) -> None:
    """Chooses the responses and writes them, a shard at a time; shards that are there stay."""
    number = 0
    while piece := list(islice(rows, generations.PIECE)):
        if not shards.path(out, number).exists():
            found: dict[int, selection.Likelihoods] = {}
            if settings.select == "likeliest" and engine:
                found = _likelihoods(settings, piece, engine)
            shards.write(out, number, [_chosen(settings, row, found.get(row.index)) for row in piece])
        number += 1


def _likelihoods(settings: Settings, rows: Sequence[Row], engine: Engine) -> dict[int, selection.Likelihoods]:
    """How likely the base finds each row's original and the samples that check out, as training asks."""
    places: list[tuple[int, int]] = []  # row, and sample or -1 for the original

    def chats() -> Iterator[Answered]:
        for row in rows:
            texts = {
                sample: generated.text
                for sample, generated in sorted(row.samples.items())
                if checks.judge(row.fields, generated, settings.data.check) == checks.OK
            }
            if texts:
                messages = _messages(settings, row, None)
                for sample, text in {-1: row.fields["response"], **texts}.items():
                    places.append((row.index, sample))
                    yield Answered(len(places) - 1, messages, text)

    found: dict[int, dict[int, float]] = {}
    for id, mean in engine.likelihoods(chats()):
        row, sample = places[id]
        found.setdefault(row, {})[sample] = mean
    return {row: selection.Likelihoods(means.pop(-1), means) for row, means in found.items()}


def _chosen(settings: Settings, row: Row, found: selection.Likelihoods | None) -> dict[str, Any]:
    """A row of the shard."""
    candidates = [row.samples[sample] for sample in sorted(row.samples)]
    chosen = selection.choose(row.fields, candidates, settings.data.check, settings.select, found)
    shown = candidates[chosen.sample]
    return {
        "instruction": row.fields["instruction"],
        "context": row.fields["context"],
        "original": row.fields["response"],
        "regenerated": shown.text,
        "response": chosen.response,
        "kept": chosen.kept,
        "reason": chosen.reason,
        "new_tokens": shown.new_tokens,
        "samples": len(candidates),
        "likelihood_original": _written(found.original) if found else None,
        "likelihood_regenerated": _written(found.samples[chosen.sample]) if found else None,
    }


def _written(mean: float | None) -> float | None:
    """A log-probability as it is written down: what stands behind changes with the batches.

    None also for -inf, of a text that the model has no room for: JSON has no such number.
    """
    return None if mean is None or not math.isfinite(mean) else round(mean, selection.DECIMALS) + 0.0


def _made(settings: Settings) -> str:
    several = f", up to {settings.samples} samples a row" if settings.samples > 1 else ""
    return (
        f"Responses that a base model wrote itself, seeing the {settings.sees} (temperature "
        f"{settings.temperature:g}{several}, at most {settings.max_new_tokens} tokens, check "
        f"`{settings.data.check}`), with the originals beside them.\n"
        f"Selection `{settings.select}`: {selection.MEANING[settings.select]}."
    )
