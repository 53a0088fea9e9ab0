"""Cards: what a stranger is told about a published model or dataset, whole README.md and what it shows.

After a run, before publish.py; `factory card` prints one. Words stand in model_cards/*.md.jinja, metadata
in card_metadata.py, licences in card_licence.py. Every figure comes from the run's report and records, or
follows from a model's config; what was limited, or made on the sandbox, says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.hub import card_licence, card_metadata, card_words
from factory.hub.card_run import BASE, Finished, Origin, finished, known, of_this_version

PICTURES = ("recovery.png", "importance.png", "learning_curves.png")
LONGEST_QUESTION = 200  # characters of a row that the snippets ask
CONTEXT = 4096  # tokens, for figures that grow with them
_ROWS = ("blocks", "parameters", "weights", "FLOPs", "KV cache", "  2 x parameters")  # of `factory sizes`
_ROW_NAMES = {"  2 x parameters": "FLOPs a token, as 2 x parameters"}


@dataclass(frozen=True)
class Card:
    """A card.

    Attributes:
        text: README.md, metadata and all.
        files: what goes beside it, by its path in the repository: pictures, results, notices.
    """

    text: str
    files: Mapping[str, Path | bytes] = field(default_factory=dict)


def model_card(
    run: Path, variant: str, repo_id: str, siblings: Mapping[str, str], license: str | None = None
) -> Card:
    """The card of a variant, or of the pruned model.

    Args:
        run: the folder runs/<recipe> of a finished run.
        variant: its name in the recipe, or `pruned`.
        repo_id: where it is to be published.
        siblings: repositories of what is published beside it, by name in the recipe.
        license: the licence as the recipe names it; None takes the base's.

    Raises:
        FactoryError: the run is not finished or has no such variant, another version of the factory made it,
            or its licence is not known or not met.
    """
    with of_this_version(run):
        return _model_card(finished(run), variant, repo_id, siblings, license)


def _model_card(
    read: Finished, variant: str, repo_id: str, siblings: Mapping[str, str], license: str | None
) -> Card:
    if variant == BASE:
        mend = f"Name one of {', '.join(read.variants)}"
        raise FactoryError("the base is not this run's to publish", where=str(read.folder), mend=mend)
    known(variant, read.variants, "variant", read)
    base, folder = read.base, read.model_folder(variant)
    card = card_licence.card_of(base, needed=license is None)
    licence = card_licence.of_model(base, card, license, repo_id, folder)
    metadata = card_metadata.of_model(read, variant, repo_id, siblings, licence, card)
    pictures = _pictures(read)
    values = {
        **_common(read, repo_id, siblings, licence, metadata),
        **_told(read, variant, siblings),
        "sizes": _sizes(read, folder),
        "context": CONTEXT,
        "pictures": pictures,
        "snippet": _snippet(read, variant, repo_id, folder),
    }
    files: dict[str, Path | bytes] = {f"images/{name}": path for name, path in pictures.items()}
    files |= {**card_metadata.eval_results(read, variant, repo_id), **licence.files}
    return Card(card_words.render("model.md.jinja", values), files)


def dataset_card(
    run: Path, dataset: str, repo_id: str, siblings: Mapping[str, str], license: str | None = None
) -> Card:
    """The card of a regenerated dataset.

    Args:
        run: the folder runs/<recipe> of a finished run.
        dataset: its name in the recipe.
        repo_id: where it is to be published.
        siblings: repositories of what is published beside it, by name in the recipe.
        license: the licence as the recipe names it; taken where the source names none.

    Raises:
        FactoryError: the run is not finished or regenerated no such dataset, another version of the factory
            made it, or its licence is not known.
    """
    with of_this_version(run):
        return _dataset_card(finished(run), dataset, repo_id, siblings, license)


def _dataset_card(
    read: Finished, dataset: str, repo_id: str, siblings: Mapping[str, str], license: str | None
) -> Card:
    known(dataset, read.datasets, "regenerated dataset", read)
    source, record = read.sources[dataset], read.records[f"regenerate/{dataset}"]
    card = card_licence.card_of(source, needed=license is None)
    base_card = card_licence.card_of(read.base, needed=False)
    licence = card_licence.of_dataset(source, read.base, (card, base_card), license)
    metadata = card_metadata.of_dataset(read, dataset, licence, source, card)
    from factory import prompts
    from factory.stages.shards import COLUMNS

    settings = record["settings"]
    values = {
        **_common(read, repo_id, siblings, licence, metadata),
        "dataset": dataset,
        "record": record,
        "settings": settings,
        "facts": record["facts"],
        "source": source,
        "template": (prompts.FOLDER / f"{settings['data']['prompt']}.jinja").read_text("utf-8").strip(),
        "columns": {name: (kind, meaning) for name, (kind, meaning) in COLUMNS.items()},
        "trained": _trained_on(read, dataset),
    }
    return Card(card_words.render("dataset.md.jinja", values), dict(licence.files))


def _common(
    run: Finished, repo_id: str, siblings: Mapping[str, str], licence: card_licence.Licence, metadata: str
) -> dict[str, Any]:
    return {
        "metadata": metadata,
        "repo_id": repo_id,
        "name": repo_id.rpartition("/")[2],
        "run": run,
        "report": run.report,
        "base": run.base,
        "siblings": siblings,
        "licence": licence,
        "paper": card_metadata.PAPER,
        "recipe": _recipe(run),
    }


def _told(run: Finished, variant: str, siblings: Mapping[str, str]) -> dict[str, Any]:
    """What the words of a model card need."""
    report, found, sources = run.report, run.model(variant), run.sources
    trained = [run.model(name) for name in run.trained_into(variant)]
    used = {(name, row["targets"]) for row in trained for name in row["data"]}
    data = {name for name, _ in used}
    plain = [
        row for row in report["models"]
        if row["kind"] == "trained" and row["targets"] == "original" and row["name"] != variant
    ]  # fmt: skip
    same = [row for row in plain if set(row["data"]) <= data]
    beside = [
        BASE,
        *(["pruned"] if found["kind"] != "pruned" else []),
        *(row["name"] for row in same or plain),
    ]
    steps = _ancestors(run, f"evaluate/{variant}") | {"measure"}
    moved = [name for name in (variant, *beside) if f"drift/{name}" in run.records and name != BASE]
    steps |= _ancestors(run, f"drift/{variant}") if moved else set()
    return {
        "variant": variant,
        "model": found,
        "columns": [found, *(run.model(name) for name in beside)],
        "trained": [
            {**row, "record": run.records[f"train/{row['name']}"], "rows": _rows(run, row)} for row in trained
        ],
        "data": [
            {"name": name, "targets": targets, "origin": sources[name], "id": siblings.get(name)}
            for name, targets in sorted(used)
        ],
        "regenerated": [row for row in report["regenerate"] if (row["name"], "self") in used],
        "merged": run.records.get(f"merge/{variant}"),
        "draft": _drafted(run, variant),
        "measure": run.records.get("measure"),
        "drift": moved and {
            "base": run.records[f"drift/{BASE}"],
            "models": {name: run.records[f"drift/{name}"]["facts"] for name in moved},
            "forgotten": next(row for row in report["drift"]["forgetting"] if row["name"] == variant),
        },
        "wholes": {
            task: card_metadata.not_whole(run, task, variant) for task in report["tasks"]
        },
        "prune": run.records["prune"],
        "compared": [row for row in report["comparisons"] if row["model"] == variant],
        "steps": sorted(
            (step for step in report["steps"] if step["name"] in steps | {f"draft/{variant}"}),
            key=lambda step: list(run.records).index(step["name"]),
        ),
        "seeds": {
            name: run.records[name]["settings"]["seed"]
            for name in run.records if name in steps and "seed" in run.records[name]["settings"]
        },
        "scored": {row["name"]: run.records[f"evaluate/{row['name']}"] for row in (found, run.model(BASE))},
    }  # fmt: skip


def _rows(run: Finished, row: Mapping[str, Any]) -> int:
    count: int = run.records[f"train/{row['name']}"]["facts"]["rows"]
    return count


def _drafted(run: Finished, variant: str) -> dict[str, Any] | None:
    """Its record as a draft; from where it pays as the report has it, by the timings of all drafts."""
    record = run.records.get(f"draft/{variant}")
    told = {row["name"]: {"pays": row["facts"]["pays"]} for row in run.report.get("draft") or ()}
    return None if record is None else {**record, "facts": {**record["facts"], **told.get(variant, {})}}


def _ancestors(run: Finished, step: str) -> set[str]:
    """The steps that a step's artifact comes from, itself included, by the keys in the records."""
    by_key = {record["key"]: name for name, record in run.records.items()}
    found, waiting = set(), [step]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            inputs = run.records[name]["inputs"].values()
            waiting += [by_key[key.partition("/")[0]] for key in inputs if key.partition("/")[0] in by_key]
    return found


def _trained_on(run: Finished, dataset: str) -> list[str]:
    return [
        row["name"] for row in run.report["models"] if row["targets"] == "self" and dataset in row["data"]
    ]


def _pictures(run: Finished) -> dict[str, Path]:
    folder = run.artifacts["report"]
    return {name: folder / name for name in PICTURES if (folder / name).is_file()}


def _sizes(run: Finished, folder: Path) -> dict[str, Any]:
    """What the configs say the model weighs and takes, beside the base where its config is at hand."""

    from factory.figures import size_notes, size_rows
    from factory.models.anatomy import anatomy, of
    from factory.models.checkpoint import stored_dtype

    dtype = stored_dtype(folder)
    own = of(folder)
    try:
        text = run.base.text("config.json")
    except FactoryError:  # the Hub cannot be asked now: the model's own figures stand alone
        text = None
    models = [anatomy(json.loads(text), Path(run.base.name)), own] if text else [own]
    rows = [
        [_ROW_NAMES.get(row[0], row[0]), *(cell.replace("-", "\N{MINUS SIGN}") for cell in row[1:])]
        for row in size_rows(models, CONTEXT, dtype) if row[0].startswith(_ROWS)
    ]  # fmt: skip
    return {"rows": rows, "notes": size_notes(models), "dtype": dtype, "with_base": len(models) == 2}


def _snippet(run: Finished, variant: str, repo_id: str, folder: Path) -> dict[str, Any]:
    """What the snippets run: the repository, the base, and a short question of the run's data."""
    base = run.base
    asked = [
        row["instruction"]
        for record in run.report["regenerate"]
        for row in record["facts"]["examples"]
        if len(row["instruction"]) <= LONGEST_QUESTION
        and not row["context"]
        and row["instruction"].isprintable()
    ]
    question = min(asked, key=len, default="What is 12 times 7?")
    return {
        "question": card_words.quoted(question),
        "chats": _has_template(folder),
        "base": base.hub_id or base.name,
        "revision": base.fingerprint if base.hub_id else None,
    }


def _has_template(folder: Path) -> bool:
    from factory.sources import has_chat_template

    return has_chat_template(folder)


def _recipe(run: Finished) -> str:
    """The recipe as resolved, in YAML: revisions as they were, what is not set left out, folders by name."""
    import yaml

    def pinned(part: Any, origin: Origin) -> Any:
        return {**part, "revision": origin.fingerprint} if origin.hub_id else part

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            kept = {key: plain(one) for key, one in value.items()}
            return {key: one for key, one in kept.items() if one not in (None, {}, [], ())}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", "../")) else value

    sources = run.sources
    own = {key: value for key, value in run.recipe.items() if key != "publish"}
    own["base"] = pinned(own["base"], run.base)
    calibration = Origin.of(run.records["importance"]["inputs"]["calibration"], "dataset")
    own["prune"] = {**own["prune"], "calibration": pinned(own["prune"]["calibration"], calibration)}
    own["datasets"] = {
        name: pinned(part, sources[name]) if name in sources else part
        for name, part in own["datasets"].items()
    }
    text: str = yaml.safe_dump(plain(own), sort_keys=False, allow_unicode=True, width=100)
    return text.strip()
