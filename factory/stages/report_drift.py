"""What the report says of drift: the steps' figures, paired differences, forgetting, what goes with what.

Under report.py. The figures of a model stand in its step's record; here models are compared on the same
prompts, and recovery is laid beside drift. Forgetting is told from the scored documents outside of what a
variant was trained for: those that the base answers rightly and the variant does not, which pruning and
training lost together, and the same documents against the pruned model, which tell what training did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.wording import counted

if TYPE_CHECKING:
    from factory.drift.figures import Rows
    from factory.paired import Paired
    from factory.stages.report import Settings

COMPARED = ("kl", "agreement", "similarity")
FEW = 10  # models up to which a rank correlation is said to stand on few


def assemble(
    settings: Settings,
    inputs: Mapping[str, Path],
    records: Mapping[str, Mapping[str, Any]],
    paired: Paired,
    models: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """report.json's `drift`; None where the recipe measures none.

    Args:
        settings: of the report.
        inputs: artifact folders by role; of drift `drift.base` and `drift.<model>`.
        records: their records.
        paired: all scored documents.
        models: entries of report.json's `models`.
        comparisons: entries of its `comparisons`.
    """
    if "drift.base" not in records:
        return None
    base = records["drift.base"]
    rows = {m["name"]: _rows(inputs[f"drift.{m['name']}"]) for m in models if m["kind"] != "base"}
    pruned = next((model["name"] for model in models if model["kind"] == "pruned"), None)
    told = [
        {
            **{key: model[key] for key in ("name", "kind", "targets", "blocks", "recovery")},
            **records[f"drift.{model['name']}"]["facts"],
            "similarities": list(rows[model["name"]].columns["similarity"]),
        }
        for model in models
        if model["name"] in rows
    ]
    return {
        "max_new_tokens": base["settings"]["max_new_tokens"],
        "base": base["facts"],
        "models": told,
        "comparisons": [
            {
                **{key: row[key] for key in ("kind", "model", "against", "same")},
                **_apart(rows[row["model"]], rows[row["against"]], base["settings"]),
            }
            for row in comparisons
        ],
        "forgetting": [
            _forgotten(settings, paired, model["name"], models[0]["name"], pruned)
            for model in models
            if model["name"] in rows
        ],
        "correlations": correlations(told),
    }


def _rows(folder: Path) -> Rows:
    """The measured prompts of a model."""
    from factory import parquet
    from factory.drift.figures import COLUMNS, Rows
    from factory.stages.drift_work import ROWS

    found = parquet.read(folder / ROWS)
    return Rows([row["dataset"] for row in found], {name: [row[name] for row in found] for name in COLUMNS})


def _apart(ours: Rows, theirs: Rows, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One model's figures less another's, on the same prompts and draws."""
    from factory.drift.figures import difference

    return {
        name: difference(ours, theirs, name, settings["bootstrap"], settings["seed"]) for name in COMPARED
    }


def _forgotten(
    settings: Settings, paired: Paired, model: str, base: str, pruned: str | None
) -> dict[str, Any]:
    """What a model lost of what it was not trained for.

    `against_pruned`, None of the pruned model itself, has the documents won and lost to the pruned model and
    the difference of the mean scores; `before`, how many of those that the base answers rightly were lost to
    pruning, before any training.
    """
    from dataclasses import asdict

    from factory.drift.figures import share

    taught = settings.taught.get(model, ())
    outside = [task for task in paired.tasks if task not in taught]
    told: dict[str, Any] = {"name": model, "taught": list(taught), "outside": outside}
    if not outside:
        return told
    among = paired.among(outside)
    right, kept, groups = [], [], list[str]()
    for task in outside:
        theirs, ours = (paired.samples(one, task) for one in (base, model))
        right += _right(theirs)
        kept += _right(ours)
        groups += [f"{task}/{group}" for group in theirs.group]
    lost = [float(before and not now) for before, now in zip(right, kept, strict=True)]
    won = [float(now and not before) for before, now in zip(right, kept, strict=True)]
    wrong = [float(not before) for before in right]
    shares = {
        "lost_share": share(lost, [float(one) for one in right], groups),
        "won_share": share(won, wrong, groups),
    }
    return {
        **told,
        "documents": len(right),
        "right": sum(right),
        "lost": int(sum(lost)),
        "won": int(sum(won)),
        **{name: found.estimate if found else None for name, found in shares.items()},
        "difference": asdict(among.difference(model, base)),
        "tasks": {task: asdict(paired.difference(model, base, task)) for task in outside},
        "against_pruned": _since(among, model, base, pruned) if pruned and pruned != model else None,
    }


def _since(among: Paired, model: str, base: str, pruned: str) -> dict[str, Any]:
    """What became of the documents since the blocks went: the model beside the pruned one."""
    from dataclasses import asdict

    return {
        "before": among.counts(pruned, base).lost,
        **asdict(among.counts(model, pruned)),
        "difference": asdict(among.difference(model, pruned)),
    }


def _right(samples: Any) -> list[bool]:
    """Which documents were answered rightly; where that is not told, which score more than a half."""
    return [bool(one) for one in samples.correct] or [score > 0.5 for score in samples.score]


def correlations(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Spearman's rank correlation of KL and recovery: over all models, and over all but the pruned one.

    Where models have different depths these also inside each depth: a model with fewer blocks both drifts
    more and recovers less, whatever drift has to do with recovery. Where a sweep, over seeds say, has a
    variant several times, these also inside each variant: models of one recipe lie close together, so that
    a few heaps of them can look like many models.

    Args:
        models: with `name`, `kind`, `blocks`, `kl` and `recovery`; those without a figure are left out.
    """
    usable = [model for model in models if model["kl"] and model["recovery"]]
    trained = [model for model in usable if model["kind"] != "pruned"]
    over = "trained and merged models"
    tried = [_correlation("all models but the base", usable), _correlation(over, trained)]
    depths = [model["blocks"] for model in trained]
    if len(set(depths)) > 1:
        tried.append(_correlation(f"{over}, each among those of as many blocks", trained, depths))
    twins = [(model["name"], model["blocks"]) for model in trained]
    if len(set(twins)) < len(twins):
        tried.append(_correlation(f"{over}, each among those of one variant", trained, twins))
    return [found for found in tried if found]


def _correlation(
    over: str, models: Sequence[Mapping[str, Any]], groups: Sequence[object] = ()
) -> dict[str, Any] | None:
    """One of them; `alike` names what is the same of all, where that leaves none. None for too few models."""
    from factory.drift.figures import rank_correlation

    kl, recovery = ([model[key]["value"] for model in models] for key in ("kl", "recovery"))
    if told := rank_correlation(kl, recovery, groups):
        return {"over": over, **told, "alike": None}
    owners = list(groups) or [None] * len(models)
    several = [i for i, owner in enumerate(owners) if owners.count(owner) > 1]
    if len(several) < 3:
        return None
    same = len({(owners[i], recovery[i]) for i in several}) == len({owners[i] for i in several})
    alike = "recover" if same else "drift"
    return {"over": over, "rho": None, "n": len(several), "p": None, "alike": alike}


def swept(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The sweep's `drift`: every model of every point, and what goes with what over all of them.

    Args:
        reports: the points' report.json by their names.

    Returns:
        None unless some point measured drift. A model that several points share counts once.
    """
    models, seen = list[dict[str, Any]](), list[dict[str, Any]]()
    for point, report in reports.items():
        for model in (report["drift"] or {"models": ()})["models"]:
            told = {key: model[key] for key in ("name", "kind", "targets", "blocks", "recovery", *COMPARED)}
            # The bounds of one model's recovery differ between points, whose bootstraps have other seeds.
            figures = {key: one["value"] if isinstance(one, dict) else one for key, one in told.items()}
            if figures not in seen:
                seen.append(figures)
                models.append({"point": point, **told})
    return {"models": models, "correlations": correlations(models)} if models else None


def correlated(found: Mapping[str, Any]) -> str:
    """A rank correlation in a sentence that claims no more than it shows."""
    if found["rho"] is None:
        return f"over {found['over']} (n = {found['n']}) it cannot be told: they all {found['alike']} alike"
    rho, n = round(found["rho"], 2) + 0.0, found["n"]
    figures = f"{rho:+.2f}".replace("-", "\N{MINUS SIGN}")
    sure = found["p"] < 0.05
    if sure:
        said = "less drift goes with more recovery" if rho < 0 else "less drift goes with less recovery"
    else:
        said = "not told from chance"
    few = "; few models, so that little follows from it" if n <= FEW else ""
    return f"over {found['over']} {figures} (n = {n}, p = {found['p']:.2g}): {said}{few}"


def cut(models: Sequence[Mapping[str, Any]]) -> str:
    """Which models' own responses ran into the limit: `math-sft 3 of 80, merged 1 of 80`; empty for none.

    Args:
        models: with `name`, `truncated` and `responses`.
    """
    return ", ".join(
        f"{model['name']} {model['truncated']:,} of {model['responses']:,}"
        for model in models
        if model["truncated"]
    )


def asked(prompts: Mapping[str, Mapping[str, Any]]) -> str:
    """Where the prompts come from: `40 of math (split test)`."""
    said = []
    for name, one in prompts.items():
        behind = (
            f", behind the {counted(one['skipped'], 'row')} that training takes" if one["skipped"] else ""
        )
        said.append(f"{one['rows']:,} of {name} (split {one['split']}{behind})")
    return ", ".join(said)


def figured(estimate: Mapping[str, float] | None) -> str:
    """`0.123 [0.101, 0.150]`: three digits behind the point below ten, else less; a dash for none."""
    return "\N{EN DASH}" if estimate is None else _bracketed(estimate, "")


def signed(estimate: Mapping[str, float] | None) -> str:
    """`+0.123 [-0.010, +0.256]`, with true minus signs."""
    return "\N{EN DASH}" if estimate is None else _bracketed(estimate, "+").replace("-", "\N{MINUS SIGN}")


def shared(estimate: Mapping[str, float] | None) -> str:
    """A share in percent, with its interval."""
    if estimate is None:
        return "\N{EN DASH}"
    value, low, high = (f"{100 * estimate[key]:.1f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _bracketed(estimate: Mapping[str, float], sign: str) -> str:
    digits = 3 if abs(estimate["value"]) < 10 else 1
    numbers = (round(estimate[key], digits) + 0.0 for key in ("value", "low", "high"))
    value, low, high = (f"{number:{sign},.{digits}f}" for number in numbers)
    return f"{value} [{low}, {high}]"


FILTERS = {
    "figured": figured,
    "signed": signed,
    "shared": shared,
    "correlated": correlated,
    "asked": asked,
    "cut": cut,
}
