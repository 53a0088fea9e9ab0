"""The figures of drift on a card: those of the model and its neighbours, from the records alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import drifted
import pytest
from card_runs import build
from markdown_it import MarkdownIt

from factory.hub.card import model_card


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return build(tmp_path_factory.mktemp("runs"), tiny_model, drift=True)


def card(run: Path, variant: str) -> str:
    return model_card(run, variant, f"org/{variant}", {}, "apache-2.0").text


def forgetting(run: Path) -> list[dict[str, Any]]:
    """Of the run's report."""
    (report,) = run.parent.glob("store/report/*/report.json")
    return json.loads(report.read_text())["drift"]["forgetting"]


def section(text: str) -> str:
    found = re.search(r"\n## Drift from the base\n.*?(?=\n## )", text, re.DOTALL)
    assert found
    return found.group(0).replace("\N{NO-BREAK SPACE}", " ")


def test_a_card_has_its_models_drift_beside_the_others(run: Path) -> None:
    said = section(card(run, "math-self"))
    for name in ("math-self", "pruned", "math-sft"):
        rows = drifted.measured(name)
        kl = sum(row["kl"] for row in rows) / sum(row["tokens"] for row in rows)
        assert re.search(rf"\| KL\(base ‖ model\) \|.* {kl:.3f} \[", said), name
    assert "| **math-self** | pruned | math-sft |" in said
    assert "30 of math (split test)" in said and "the base's own mean hidden state" in said
    for table in re.findall(r"(?:^\|.*\n)+", said, re.MULTILINE):
        assert len({line.strip().count("|") for line in table.splitlines()}) == 1


def test_the_caveat_of_general_text_is_no_row_of_the_table(run: Path) -> None:
    caveat = "Blocks were chosen over texts of sandbox/corpus"
    page = MarkdownIt("commonmark").enable("table").render(section(card(run, "math-self")))
    assert f"<p>{caveat}" in page and f"<td>{caveat}" not in page


def test_the_card_of_the_pruned_model_has_its_own(run: Path) -> None:
    assert "| **pruned** |" in section(card(run, "pruned"))


def test_a_card_has_its_models_drift_by_dataset(run: Path) -> None:
    said = section(card(run, "math-self"))
    for dataset in drifted.DATASETS:
        for name in ("math-self", "pruned", "math-sft"):
            rows = [row for row in drifted.measured(name) if row["dataset"] == dataset]
            kl = sum(row["kl"] for row in rows) / sum(row["tokens"] for row in rows)
            assert re.search(rf"\| KL on {dataset} \|.* {kl:.3f} \[", said), (dataset, name)


def test_a_card_says_what_pruning_and_what_training_forgot(run: Path) -> None:
    told = {row["name"]: row for row in forgetting(run)}
    said, one = " ".join(section(card(run, "math-self")).split()), told["math-self"]
    since = one["against_pruned"]
    assert f"of {one['documents']} documents the base answers {one['right']} rightly" in said
    assert f"this model loses {one['lost']} (" in said and f"wins {one['won']} of the others" in said
    assert f"Pruning alone lost {since['before']}." in said
    assert f"it wins {since['won']} and loses {since['lost']} of {one['documents']}: +" in said
    pruned = " ".join(section(card(run, "pruned")).split())
    assert f"this model loses {told['pruned']['lost']} (" in pruned and "Pruning alone" not in pruned


def test_steps_of_drift_are_among_those_that_made_the_card(run: Path) -> None:
    text = card(run, "math-self")
    assert "| drift/base |" in text and "| drift/math-self |" in text and "| drift/merged |" not in text


def test_every_figure_is_in_a_record_or_the_report(run: Path) -> None:
    records = json.dumps(
        [json.loads(path.read_text()) for path in run.parent.rglob("store/drift/*/record.json")]
    )
    records += json.dumps(forgetting(run))
    known = {f"{scale * float(one):.{digits}f}" for one in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", records)
             for scale in (1, 100) for digits in (0, 1, 3)}  # fmt: skip
    known |= {"1,000"}
    printed = re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w.])", section(card(run, "math-self")))
    assert len(printed) > 50
    assert not [one for one in printed if one not in known]


def test_a_run_without_drift_says_nothing_of_it(tmp_path: Path, tiny_model: Path) -> None:
    assert "Drift" not in card(build(tmp_path, tiny_model), "math-self")
