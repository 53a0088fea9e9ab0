"""The commands on a single model, which need no recipe: sizes, measure, importance, prune, evaluate.

Joined to the others in cli.py, and as thin: alone/stage.py and models/ do the work. Nothing heavy is imported
before a command runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from factory.commands.options import AsJson, Model
from factory.errors import FactoryError
from factory.run.ending import orderly

commands = typer.Typer()

Other = Annotated[
    Path | None, typer.Argument(metavar="OTHER", help="A model to compare with: MODEL after pruning, say.")
]


@commands.command()
def sizes(
    model: Model,
    other: Other = None,
    drop: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCKS", help="Compare with MODEL without these blocks: 22:28, or 4,7,9; from 0."
        ),
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens, for cache and attention; by default 4,096 at most.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "float8"], typer.Option(help="Of weights and cache.")
    ] = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Say what a model weighs and what a token costs.

    Arithmetic from config.json alone: no weights are needed.
    """
    from factory import figures
    from factory.alone.stage import model_folder
    from factory.commands import display
    from factory.models import anatomy, blocks

    if drop is not None and other is not None:
        raise FactoryError("OTHER and --drop are two ways to name the second model", mend="Give one of them")
    paths = [path for path in (model, other) if path is not None]
    configs = [
        path if path.name == "config.json" and path.is_file() else model_folder(path) for path in paths
    ]
    models = {str(path): anatomy.of(config) for path, config in zip(paths, configs, strict=True)}
    if drop is not None:
        gone = blocks.parse(drop)
        models[f"without {len(gone)} block{'s' * (len(gone) != 1)}"] = models[str(model)].without(gone)
    context = context or min(4096, *(it.positions or 4096 for it in models.values()))
    if as_json:
        told = [{"model": name, **figures.size_facts(it, context, dtype)} for name, it in models.items()]
        print(json.dumps({"models": told}))
        return
    found = list(models.values())
    display.table(figures.headings(list(models), "change"), figures.size_rows(found, context, dtype))
    print(*figures.size_notes(found), sep="\n")


@commands.command()
def measure(
    model: Model,
    other: Other = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 1,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 256,
    new: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each model that count.")] = 5,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="By default float32 on a CPU, the model's own on a GPU."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="By default one a core.")] = None,
    as_json: AsJson = False,
) -> None:
    """Time models on this machine, in turns.

    A folder without weights is measured with random ones.
    """
    from factory import figures, machine
    from factory.alone.stage import model_folder
    from factory.commands import display
    from factory.models.measure import Workload
    from factory.models.measure import measure as take

    work = Workload(batch, prompt, new, rounds, dtype)
    folders = [model_folder(path) for path in (model, other) if path is not None]
    load = machine.load_per_core()
    if said := figures.busy(load):
        now = f"{load:.1f} processes a core run or wait"
        print(f"warning: {said} {now}; measure later, or with more --rounds.", file=sys.stderr)
    with orderly(), display.task("measure", as_json) as progress:
        taken = take(folders, work, threads=threads, progress=progress)
    if as_json:
        print(json.dumps({"kind": "result", **figures.measured_facts(taken, work, load)}))
        return
    print(figures.measured_title(taken, work))
    display.table(figures.headings([m.model for m in taken], "ratio"), figures.measured_rows(taken, work))
    print(*figures.measured_notes(taken, work, load), sep="\n")


@commands.command()
def importance(
    model: Model,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Texts to measure over: a dataset folder, or sandbox/corpus."),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Of the dataset; by default its only or default one.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the dataset.")] = "train",
    column: Annotated[
        str | None, typer.Option(help="With the texts; by default text, page, content, or what trains.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Texts to read at most.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=2, help="Texts are cut behind this many tokens.")] = 1024,
    metric: Annotated[
        Literal[
            "angular", "angular_tokens", "block_influence", "perplexity", "perplexity_iterative", "taylor"
        ],
        typer.Option(help="The measure."),
    ] = "angular",
    drop: Annotated[
        int | None, typer.Option(min=1, help="How many blocks would go; by default 3 in 16.")
    ] = None,
    exclude_first: Annotated[int, typer.Option(min=0, help="Blocks at the beginning that must stay.")] = 0,
    exclude_last: Annotated[int, typer.Option(min=0, help="Blocks at the end that must stay.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all figures to this new JSON file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which blocks of a model matter least. Needs no recipe."""
    from factory.alone import importance as alone_importance
    from factory.commands import display
    from factory.metrics.choice import ranking_cells

    exclude = (exclude_first, exclude_last)
    asked = alone_importance.Asked(
        model, data, config, split, column, rows, max_tokens, metric, drop, exclude
    )
    with orderly(), display.task("importance", as_json) as progress:
        found = alone_importance.importance(asked, out, progress)
    if as_json:
        print(json.dumps({"kind": "result", **found}))
        return
    heads, *lines = ranking_cells(found["ranking"])
    display.table(heads, lines)
    print(f"{found['sentence']}, over {found['over']}; {found['tokens_per_second']:,.0f} tokens a second")
    if out is not None:
        print(f"all figures are in {out}")


@commands.command()
def prune(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the pruned model.")],
    drop: Annotated[
        str,
        typer.Option(metavar="BLOCKS", help="22:28 for blocks 22 to 27, 4,7,9 for single ones; from 0."),
    ],
    proof: Annotated[
        bool, typer.Option("--proof/--no-proof", help="Load the result and compare it with the model.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Remove blocks from a model, with a proof.

    Needs no recipe. The proof loads the result and compares it with the model without those blocks.
    """
    from factory.alone import stage as alone
    from factory.commands import display

    for path in alone.left_behind(out):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(
            f"warning: {path}: a killed command left this ({size / 1e6:,.0f} MB). Remove it.", file=sys.stderr
        )
    with orderly(), display.task("prune", as_json) as progress:
        facts = alone.prune(model, drop, out, proof, progress)
    if as_json:
        print(json.dumps({"kind": "result", **facts}))
        return
    base, pruned = facts["parameters"]["base"], facts["parameters"]["pruned"]
    gone = "is" if len(facts["blocks"]) == 1 else "are"
    print(f"{facts['sentence']}, {gone} gone; {base:,} parameters become {pruned:,} ({pruned / base:.0%})")
    print(facts["proof"]["sentence"])
    if facts["left_out"]:
        print(f"left out of config.json: {', '.join(facts['left_out'])}, which transformers does without")
    print(f"the model is in {out} ({facts['bytes'] / 1e6:,.0f} MB)")


@commands.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, sandbox/base or a Hub id.")],
    suite: Annotated[
        str, typer.Option(help="openllm_v1, or sandbox_v1 on the sandbox's rows.")
    ] = "openllm_v1",
    tasks: Annotated[
        str | None, typer.Option(metavar="arc,gsm8k", help="Only these tasks of the suite.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Documents of each task or subject: marked as not comparable.")
    ] = None,
    shots: Annotated[
        str | None, typer.Option(metavar="arc=5,gsm8k=0", help="Other solved examples than the suite's.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Rows as <org>__<name>/<config>/<split>.parquet; by default from the Hub."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep scores, samples and lighteval's results here; resumes."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Documents at a time.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Score a model on a suite of benchmarks.

    Needs no recipe. With --out, the same command goes on where it was interrupted.
    """
    from factory.alone import evaluate as alone_evaluate
    from factory.commands import display, score_lines
    from factory.recipe.parts import Evaluate

    written = Evaluate(
        suite=suite,
        tasks=score_lines.names(tasks),
        limit=limit,
        shots=score_lines.counts(shots),
        batch_size=batch_size,
    )
    asked = alone_evaluate.Asked(model, written, revision, data)
    with display.task("evaluate", as_json) as progress:
        found = alone_evaluate.evaluate(asked, out, progress)
    if as_json:
        print(json.dumps({"kind": "result", **found}))
        return
    print(*score_lines.title(found), sep="\n")
    display.table(score_lines.HEADINGS, score_lines.rows(found), left=2)
    print(*score_lines.notes(found), sep="\n")
    if out is not None:
        print(f"record, scores and samples are in {out}")
