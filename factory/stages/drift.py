"""Drift: how far a model moved from the base, on prompts that no training saw; after evaluate, before report.

Planned where the recipe has `drift`: `drift/base` once, then `drift/<model>` for the pruned model and every
variant, each by itself, so that a further variant measures only itself.

`drift/base` draws the prompts (`factory/drift/heldout.py`), has the base answer them greedily, and measures
the base's own part. `drift/<model>` reads those answers and

- has both models read each (teacher forcing): KL(base || model) at every token of the response, over the
  whole vocabulary, in nats; whether both find the same token likeliest; both models' perplexity;
- has the model answer the same prompts greedily, and compares its answers with the base's as vectors
  (`factory/drift/embed.py`): the cosine, and how many are the same to the letter;
- has the model read general text, for its perplexity.

The base reads its responses again beside every model: its distributions over a dataset are too large to keep,
and reading costs little where writing costs much. Its responses, their vectors and its own perplexities are
computed once, and the draft's prompts that are the same take its responses over (respond.py). Regenerated
responses cannot stand in for them: those answer training rows, which held-out prompts are not; and a
benchmark's prompts are no chats. A response is read in the tokens in which it was generated.

Facts of `drift/base`:
    prompts       by dataset: split, skipped, asked, rows, held_out, overlapping, repeated (`heldout.Drawn`)
    responses     how many prompts were answered; truncated: of these, how many ran into max_new_tokens
    tokens        judged tokens, the end of a response included
    perplexity    of its own responses
    text          of general text: dataset, texts, tokens, calibrated (whether blocks were chosen over texts
                  of these), perplexity; or None, with text_why
    embedding     name; kind, `sentence` or `hidden state`; pooling; unrelated, the cosine of each response
                  with the next one's, a figure as below

Facts of `drift/<model>`; every figure is {value, stderr, low, high, n}, n the prompts behind it (of text: the
texts), low and high the 95 % interval over prompts: of shares see `factory/tasks/shares.py` (stderr is None
where nothing is seen to vary), of all others the bootstrap's:
    responses, truncated, tokens
                  as above; tokens are those of the base's responses
    kl            KL(base || model), nats a token, mean over the tokens
    agreement     share of tokens at which both find the same one likeliest
    perplexity, perplexity_base
                  of the base's responses under the model, and under the base
    similarity    mean cosine of the two models' responses to a prompt
    identical     share of prompts to which both give the same response
    text          dataset, texts, tokens, perplexity, perplexity_base; or None, with text_why
    datasets      by dataset, those six figures of its prompts alone
    embedding     as above
A figure that nothing stands behind (no token was judged) is None.

Files: `greedy/` (`factory/texts/text.py`), `responses.parquet` (the same in words, with the prompts) and
`embeddings.npy` of the base, `drift.parquet` (a row a prompt, sums over its tokens) of the others,
`text.parquet` where there is general text. Responses and judged rows are kept
as they come: whoever is killed loses the responses and the batch in hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from factory.data.rows import TextSpec
from factory.drift.heldout import Drawn, HeldOut, Prompt, draw
from factory.stages import Frozen, Progress
from factory.wording import counted

VERSION = 3
KEYLESS = {"batch_size"}
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")

FIGURES = ("kl", "agreement", "perplexity", "perplexity_base", "similarity", "identical")


class GeneralText(Frozen):
    """Text that is read for its perplexity.

    Attributes:
        data: the dataset.
        max_tokens: a text is cut behind so many.
        called: what the report calls it.
        calibrated: whether blocks were chosen over the first rows of the same texts.
    """

    data: TextSpec
    max_tokens: int = Field(ge=2)
    called: str
    calibrated: bool = False


class Settings(Frozen):
    """What is measured.

    Attributes:
        held_out: where the prompts come from, for `drift/base`; the others ask what that asked.
        max_new_tokens: of a response.
        batch_size: rows in work at once while responses are generated; None leaves it to the engine.
        engine: who generates.
        embedding: what the report calls the embedding model; None for the base's own hidden states.
        text: general text, if any.
        text_why: else why there is none.
        bootstrap: replicates behind each interval.
        seed: of the bootstrap; the same for all, so that models are compared on the same draws.
    """

    held_out: tuple[HeldOut, ...] = ()
    max_new_tokens: int = Field(ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    engine: Literal["transformers", "vllm"] = "transformers"
    embedding: str | None = None
    text: GeneralText | None = None
    text_why: str | None = None
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0


def ready(settings: Settings) -> None:
    """Refuses an engine that cannot work here, before the steps in front of this one have begun."""
    from factory import engines

    engines.refuse_missing(settings.engine)


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Measures the base alone, or a model against it.

    Args:
        settings: see `Settings`.
        inputs: `base`, a model folder; `text` and `embedding` where there are such; for `drift/base` for each
            dataset `held_out.<name>` and `trained.<name>`, dataset folders; for all others `model`, a model
            folder, and `drift`, the artifact of `drift/base`.
        out: may hold what an interrupted run of the same step has measured; it is kept.
        progress: told the responses generated, then the texts read.

    Returns:
        See the top of this file.

    Raises:
        FactoryError: no held-out row is left, models have other tokens than the base, or something cannot be
            loaded or read.
    """
    make = _of_model if "model" in inputs else _of_base
    facts = make(settings, inputs, out, progress)
    for journal in out.glob("*.jsonl"):  # all that was in them stands in parquet files now
        journal.unlink()
    return facts


def _of_base(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """`drift/base`."""
    from factory import parquet
    from factory.engines.chats import Chats
    from factory.stages.drift_work import RESPONSES, Work
    from factory.texts import text as files

    prompts: list[Prompt] = []
    drawn: dict[str, Drawn] = {}
    for asked in settings.held_out:
        name = asked.data.name
        drawn[name] = draw(asked, inputs[f"held_out.{name}"], inputs[f"trained.{name}"], len(prompts))
        prompts += drawn[name].prompts
    rows = [{**vars(prompt), "messages": json.dumps(prompt.messages)} for prompt in prompts]
    work, chats = Work(settings, inputs, out, rows, progress), Chats(inputs["base"])
    answers = work.answers("base", [chats.prompt(prompt.messages) for prompt in prompts])
    texts = [text for _, text in answers]
    files.write(out, "greedy", 0, texts)
    parquet.write(
        out / RESPONSES, [{**row, "response": words} for row, (words, _) in zip(rows, answers, strict=True)]
    )
    vectors, embedding = work.vectors(answers)
    work.save_vectors(vectors)
    measured = work.rows(work.read(texts))
    return {
        "prompts": {asked.data.name: drawn[asked.data.name].facts(asked) for asked in settings.held_out},
        **work.counts(answers, measured),
        "perplexity": work.figure(measured, "perplexity"),
        **work.text(),
        "embedding": {**embedding, "unrelated": work.unrelated(vectors)},
        "said": [line for asked in settings.held_out for line in _said(asked, drawn[asked.data.name])],
    }


def _of_model(
    settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress
) -> dict[str, Any]:
    """`drift/<model>`."""
    from factory import parquet
    from factory.stages.drift_work import RESPONSES, Work
    from factory.texts import text as files

    prompts = parquet.read(inputs["drift"] / RESPONSES)
    (texts,) = files.read(inputs["drift"], "greedy")
    work = Work(settings, inputs, out, prompts, progress)
    judged = work.read(texts)  # first: a model that does not compare is refused before it generates
    answers = work.answers("model", [text.prompt for text in texts])
    vectors, embedding = work.vectors(answers)
    similar, same = work.alike([row["response"] for row in prompts], vectors, answers)
    rows = work.rows(judged, similar, same)
    work.save_rows(rows, answers)
    names = dict.fromkeys(rows.dataset)
    return {
        **work.counts(answers, rows),
        **{name: work.figure(rows, name) for name in FIGURES},
        **work.text(),
        "datasets": {
            name: {figure: work.figure(rows.of(name), figure) for figure in FIGURES} for name in names
        },
        "embedding": embedding,
    }


def _said(asked: HeldOut, drawn: Drawn) -> list[str]:
    """What a person should know of the prompts."""
    name, said = asked.data.name, []
    if drawn.overlapping:
        what = counted(drawn.overlapping, "held-out row")
        said.append(f"{name}: {what} left out, which training reads too")
    if len(drawn.prompts) < asked.rows:
        said.append(
            f"{name}: only {counted(len(drawn.prompts), 'held-out prompt')} of {asked.rows:,} asked for"
        )
    return said
