"""Words of the report: the sentences that sum a run up, report.md and examples.md from report.json.

Under report.py, beside pictures.py. A sentence claims no more than its interval does. Every figure is in
percent here, and in fractions in report.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.figures import recorded_notes, recorded_rows
from factory.metrics.choice import ranking_cells
from factory.stages import draft_words, report_drift
from factory.wording import counted, duration, has_no_width, limited, rule_of_three

if TYPE_CHECKING:
    import jinja2

TEMPLATE, EXAMPLES = "report.md.jinja", "examples.md.jinja"
LONGEST_TEXT = 600  # characters of an example that are shown

Estimate = Mapping[str, float]
# Marks that Markdown, HTML or GitHub's formulas would act on inside a model's text.
_MARKS = {ord(mark): f"&#{ord(mark)};" for mark in "&<>|*_`[]$~#\\"}


def summary(report: Mapping[str, Any]) -> list[str]:
    """The run in sentences: what was removed, what is left, what training and merging gave back.

    Args:
        report: report.json's content, `summary` itself not needed.
    """
    prune, models = report["prune"], {model["name"]: model for model in report["models"]}
    before, after = prune["parameters"]["base"], prune["parameters"]["pruned"]
    said = prune["sentence"][0].upper() + prune["sentence"][1:]
    lines = [
        f"{said}, {'is' if len(prune['blocks']) == 1 else 'are'} removed: {before:,} "
        f"parameters become {after:,} ({percent(1 - after / before)} % fewer)."
    ]
    lines += [f"{line}." for line in report["deviations"]]
    pruned = next((model for model in models.values() if model["kind"] == "pruned"), None)
    if pruned and pruned["recovery"]:
        recovered = interval(pruned["recovery"])
        lines.append(f"Without any training, the pruned model keeps {recovered} % of the base's average.")
    for comparison in report["comparisons"]:
        ours, theirs = models[comparison["model"]], models[comparison["against"]]
        if not comparison["recovery"]:
            continue
        what = "same data" if comparison["kind"] == "self minus SFT" else "its best part"
        lines.append(
            f"{ours['name']} recovers {percent(ours['recovery']['value'])} %, {theirs['name']} ({what}) "
            f"{percent(theirs['recovery']['value'])} %: {points(comparison['recovery'])} points "
            f"({verdict(comparison['recovery'])})."
        )
    lines += [
        f"{made['name']}: none of {counted(made['facts']['rows'], 'regenerated response')} was kept, so "
        "training on them is training on the originals."
        for made in report["regenerate"]
        if not made["facts"]["kept_regenerated"]
    ]
    candidates = [m for m in models.values() if m["kind"] in ("trained", "merged") and m["recovery"]]
    if candidates:
        best = max(candidates, key=lambda model: model["recovery"]["value"])
        if pruned and pruned["recovery"] and best["recovery"]["value"] <= pruned["recovery"]["value"]:
            lines.append("No variant recovers more than the pruned model does without training.")
        else:
            lines.append(f"Highest recovery: {_highest(best, candidates)} %.")
    return lines


def _highest(best: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """The best with its interval, or all that are printed with its figure."""
    figure = percent(best["recovery"]["value"])
    same = [model["name"] for model in models if percent(model["recovery"]["value"]) == figure]
    if len(same) == 1:
        return f"{best['name']}, {interval(best['recovery'])}"
    return f"{', '.join(same[:-1])} and {same[-1]}, {figure}"


def verdict(difference: Estimate) -> str:
    """What an interval allows to say about a difference; an end that is printed as zero counts as zero."""
    if round(difference["low"], 3) > 0:
        return "more: the interval lies above zero"
    if round(difference["high"], 3) < 0:
        return "less: the interval lies below zero"
    return "not told apart: the interval reaches zero"


def markdown(report: Mapping[str, Any]) -> str:
    """report.md.

    Args:
        report: report.json's content.
    """
    return render(TEMPLATE, {**report, "without_width": without_width(report)})


def examples(report: Mapping[str, Any]) -> str:
    """examples.md: original and regenerated responses side by side, some of each outcome.

    Args:
        report: report.json's content.
    """
    return render(EXAMPLES, {**report, "longest": LONGEST_TEXT})


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page from a template beside this file, with the filters below; a name it lacks is an error."""
    environment = templates(Path(__file__).parent)
    environment.filters |= {
        "percent": percent, "interval": interval, "points": points, "cell": cell,
        "duration": duration, "made": made_how, "verdict": verdict, "won_lost": won_lost,
        "curated": curated, "taken": taken, "trained": trained_how, "likelihood": likelihood,
        "measured": recorded_rows, "measured_notes": recorded_notes, **report_drift.FILTERS,
        "draft_acceptance": draft_words.acceptance, "draft_speed": draft_words.speed,
        "draft_disturbed": draft_words.disturbed, "draft_taken": draft_words.taken_over,
        "draft_pays": draft_words.pays, "draft_points": draft_words.over_points, "times": draft_words.times,
        "draft_measured": draft_words.measured, "draft_by_set": draft_words.by_set,
    }  # fmt: skip
    environment.globals |= {"counted": counted, "limited": limited, "ranking_cells": ranking_cells}
    return environment.get_template(template).render(values)


def templates(*folders: Path) -> jinja2.Environment:
    """Markdown templates of these folders: nothing is escaped, a name that is missing is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def without_width(report: Mapping[str, Any]) -> list[str]:
    """Of what the page prints an interval without width, and what may hide there: `3/60 = 5.0 % (arc)`."""
    printed: list[Mapping[str, Any]] = [*report["models"], *report["comparisons"]]
    printed += [model["minus_base"] for model in report["models"] if model["kind"] != "base"]
    names: dict[int, list[str]] = {}
    for name in [*report["tasks"], "average"]:
        estimates = [row["average"] if name == "average" else row["scores"][name] for row in printed]
        if any(map(has_no_width, estimates)):
            names.setdefault(estimates[0]["n"], []).append(name)
    return [f"{rule_of_three(n)} ({', '.join(several)})" for n, several in names.items()]


def percent(fraction: float) -> str:
    """`0.1234` as `12.3`."""
    return f"{100 * fraction:.1f}"


def interval(estimate: Estimate) -> str:
    """`66.0 [59.5, 72.5]`, in percent."""
    return f"{percent(estimate['value'])} [{percent(estimate['low'])}, {percent(estimate['high'])}]"


def points(difference: Estimate) -> str:
    """`+12.3 [+4.5, +19.8]`, in percentage points, with a true minus sign."""
    # Rounded before it is printed, and without the sign that a rounded zero may keep.
    value, low, high = (round(100 * difference[key], 1) + 0.0 for key in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "\N{MINUS SIGN}")


def likelihood(mean: float | None) -> str:
    """A mean log-probability; of a text that the model has no room for there is none."""
    return "has no room" if mean is None else f"{mean:.3f}"


def won_lost(counts: Mapping[str, int]) -> str:
    """`12 / 30`: documents won and lost."""
    return f"{counts['won']:,} / {counts['lost']:,}"


def cell(text: object) -> str:
    """Any text inside one cell of a Markdown table, shown as it is; cut behind `LONGEST_TEXT`."""
    said = str(text).strip()
    if len(said) > LONGEST_TEXT:
        said = said[:LONGEST_TEXT].rstrip() + " …"
    return said.translate(_MARKS).replace("\r\n", "\n").replace("\n", "<br>")


def trained_how(row: Mapping[str, Any]) -> str:
    """By what method a variant was trained, in a few words."""
    settings = row["settings"]
    names = {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}
    said = "half of the weights" if settings["freeze"] == "half" else names[settings["method"]]
    return f"{said}, distilled (β = {settings['beta']:g})" if settings["loss"] == "distill" else said


def made_how(model: Mapping[str, Any]) -> str:
    """How a model came to be, in a few words."""
    if model["kind"] == "base":
        return "the unpruned model"
    if model["kind"] == "pruned":
        return "blocks removed, no training"
    if model["kind"] == "merged":
        return f"{model['method']} of {' and '.join(model['of'])}"
    targets = "regenerated" if model["targets"] == "self" else "original"
    return f"{targets} responses of {', '.join(model['data'])}"


def curated(of: Mapping[str, Any]) -> str:
    """What became of a dataset's rows before anybody read them, as sentences.

    Args:
        of: an entry of report.json's `curate`.
    """
    settings, facts = of["settings"], of["facts"]
    said = [f"Of {counted(facts['rows_read'], 'row')} {facts['rows']:,} are left to be taken from."]
    if settings["overlap"]:
        met = [
            f"{rows:,} with {counted(facts['documents_met'][task], 'document')} of {task}"
            for task, rows in facts["overlaps_by_task"].items()
            if rows
        ]
        documents = sum(facts["documents"].values())
        why = f"{settings['overlap']} words in a row, or the whole of a shorter question, with "
        said.append(
            f"Removed because they share {why}a scored benchmark: {', '.join(met)}."
            if met
            else f"None shares {why}one of {counted(documents, 'scored document')}."
        )
    if settings["deduplicate"]:
        whose = "question" if settings["deduplicate"] == "questions" else "question and response"
        removed = counted(facts["duplicates"], "row") if facts["duplicates"] else "none"
        said.append(f"Removed because an earlier row has the same {whose}: {removed}.")
    if settings["order"] == "random":
        said.append(f"They are in an order drawn under the seed {settings['seed']}.")
    return " ".join(said)


def taken(facts: Mapping[str, Any]) -> str:
    """`2,000 of math, 700 of chat`: the rows a variant took of each dataset."""
    return ", ".join(f"{rows:,} of {name}" for name, rows in facts["taken"].items())
