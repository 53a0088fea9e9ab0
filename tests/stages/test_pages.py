"""What report.md says: every figure in its place, no table broken, nothing claimed that is not known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from reported import TASKS, artifacts, edit_record, record, report_on, score_all

from factory.models import blocks
from factory.stages import pages

NONE = "\N{EN DASH}"  # in a cell that has no figure
Made = tuple[dict[str, Any], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """report.json and report.md."""
    root = tmp_path_factory.mktemp("pages")
    return report_on(artifacts(root), root / "out")


def rows_of(page: str, head: str) -> list[list[str]]:
    """The cells of the first table whose head begins so."""
    table = re.search(rf"(?:^{re.escape(head)}.*\n)(?:^\|.*\n)+", page, flags=re.MULTILINE)
    assert table is not None, head
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()]
    return [lines[0], *lines[2:]]


def test_the_page_says_what_happened(made: Made) -> None:
    content, page = made
    for said in (
        "Blocks 6..8, 0-based, of 12, are removed: 1,310,000 parameters become 1,010,000 (22.9 % fewer)",
        "Removed: **blocks 6..8, 0-based, of 12**",
        "![Recovery by variant](recovery.png)",
        "![How much blocks matter](importance.png)",
        "of 10 runs of 3 blocks, blocks 6..8, 0-based, of 12, have the least mean angular distance",
        "|  | runs of 2 blocks | figure | runs of 3 blocks | figure | runs of 4 blocks | figure |",
        "| 6..8 (chosen) |",
        "| math | answer differs | 9 |",
        "| slerp | math-self, text-self | t = 0.5 | 12.5 % of tensors |",
        "1 min 12 s",
        "Test CPU, 2 cores, 8 GB memory",
        "| torch | 2.13.0 |",
        "| train/math-sft | 3 |",
        "Recipe seed 7",
    ):
        assert said in page, said
    assert page.count(" (chosen)") == 1
    recovery = next(model["recovery"] for model in content["models"] if model["name"] == "math-self")
    assert (
        f"{100 * recovery['value']:.1f} [{100 * recovery['low']:.1f}, {100 * recovery['high']:.1f}]" in page
    )


def test_tables_have_as_many_cells_in_each_row_as_in_the_head(made: Made) -> None:
    """Whatever a model wrote cannot break a table."""
    tables = re.findall(r"(?:^\|.*\n)+", made[1], flags=re.MULTILINE)
    assert len(tables) > 10
    for rows in tables:
        assert len({line.count("|") for line in rows.splitlines()}) == 1, rows


def test_no_line_ends_in_blanks(made: Made) -> None:
    assert [line for line in made[1].splitlines() if line != line.rstrip()] == []


def test_examples_stand_side_by_side_under_their_outcome(tmp_path: Path, made: Made) -> None:
    assert "[examples.md](examples.md)" in made[1]
    report_on(artifacts(tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "examples.md").read_text()
    taken, kept = page.split("## math")[1].split("## text")[0].split("### ")[1:3]
    assert taken.splitlines()[0] == "Trained on the regenerated response: ok, 90 rows"
    assert "| question | 2 &#124; 3?<br>Say. |\n| context | A. two<br>B. three |" in taken
    assert (
        "| original | It is &#42;5&#42;. |\n| **regenerated** | &#60;5&#62; &#35;&#35;&#35;&#35; 5 |" in taken
    )
    assert "| mean log-probability | original -2.250, regenerated -0.500 |" in taken
    assert kept.splitlines()[0] == "Trained on the original: answer differs, 9 rows"
    assert "| **original** | Because. |" in kept and "y" * 600 + " …" in kept
    assert "context" not in kept and "log-prob" not in kept
    assert "\n\n\n" not in page
    assert [line for line in page.splitlines() if line != line.rstrip()] == []
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {3}


def test_regeneration_that_came_to_nothing_is_among_the_first_things_said(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    edit_record(inputs["regenerate.math"], "facts", kept_regenerated=0)
    content, _ = report_on(inputs, tmp_path / "out")
    said = [line for line in content["summary"] if "none of" in line]
    assert said == [
        "math: none of 100 regenerated responses was kept, so training on them is training on the originals."
    ]


def test_a_likelihood_that_is_not_to_be_had_is_told_in_words(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    facts = json.loads((inputs["regenerate.math"] / "record.json").read_text())["facts"]
    first = {**facts["examples"][0], "likelihood_original": None}
    edit_record(inputs["regenerate.math"], "facts", examples=[first, *facts["examples"][1:]])
    report_on(inputs, tmp_path / "out")
    assert "| original has no room, regenerated -0.500 |" in (tmp_path / "out" / "examples.md").read_text()


def test_training_tells_the_values_behind_it(tmp_path: Path, made: Made) -> None:
    head, *rows = rows_of(made[1], "| variant | learning rate |")
    assert [row[0] for row in rows] == ["math-sft", "math-self", "text-self"]
    assert dict(zip(head[1:], rows[0][1:], strict=True)) == {
        "learning rate": "0.0002", "schedule": "cosine", "LoRA rank": "8", "LoRA alpha": "16",
        "rows a step": "4", "max length, tokens": "1024", "precision": "fp32", "tokens/s": "24,000",
        "GPU memory": NONE,
    }  # fmt: skip
    head, row = rows_of(made[1], "| variant | method | rows |")[:2]
    assert dict(zip(head, row, strict=True))["epochs"] == "12"
    assert "![Learning curves](learning_curves.png)" in made[1]
    assert "- math-sft: 7 rows left out: longer than 1,024 tokens.\n" in made[1]
    assert made[1].count("\n\n- math-") == 1  # one list
    inputs = artifacts(tmp_path)
    used = json.loads((inputs["train.math-sft"] / "record.json").read_text())["facts"]["used"]
    edit_record(inputs["train.math-sft"], "facts", used={**used, "packing": True, "max_length": None})
    row = rows_of(report_on(inputs, tmp_path / "out")[1], "| variant | learning rate |")[1]
    assert row[5:7] == ["4 (packs of rows)", "no bound"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "LoRA"),
        ({"method": "qlora"}, "QLoRA"),
        ({"method": "full"}, "all weights"),
        ({"method": "full", "freeze": "half"}, "half of the weights"),
        ({"loss": "distill", "beta": 0.5}, "LoRA, distilled (β = 0.5)"),
    ],
)
def test_the_method_is_said_in_words(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    inputs = artifacts(tmp_path)
    edit_record(inputs["train.math-sft"], "settings", **settings)
    frozen = {"matrices": 42, "frozen": 21} if "freeze" in settings else None
    used = json.loads((inputs["train.math-sft"] / "record.json").read_text())["facts"]["used"]
    if settings.get("method") == "full":
        used = {**used, "rank": None, "alpha": None}
    edit_record(inputs["train.math-sft"], "facts", half=frozen, used=used)
    content, page = report_on(inputs, tmp_path / "out")
    row = rows_of(page, "| variant | method | rows |")[1]
    assert row[:2] == ["math-sft", said]
    assert ("- math-sft: of the blocks' 42 matrices 21 stayed as they were" in page) == bool(frozen)
    ranks = rows_of(page, "| variant | learning rate |")[1][3:5]
    assert ranks == ([NONE, NONE] if settings.get("method") == "full" else ["8", "16"])
    # Whoever trains by another method compares more than the responses.
    compared = next(c for c in content["comparisons"] if c["against"] == "math-sft")
    assert compared["same"] == (not settings)


def test_an_interval_without_width_is_no_certainty(tmp_path: Path, made: Made) -> None:
    """All 120 documents of arc are right, of both models: its score and its difference have no width."""
    assert "without width" not in made[1]
    inputs = artifacts(tmp_path)
    for name in ("base", "pruned"):
        score_all(inputs[f"evaluate.{name}"], "arc", [1.0] * TASKS["arc"])
    page = report_on(inputs, tmp_path / "out")[1]
    assert "100.0 [100.0, 100.0]" in page
    assert "rule of three (Hanley & Lippman-Hand 1983)" in page
    assert "here 3/120 = 2.5 % (arc)." in page


def test_models_that_never_differ_are_not_the_same(tmp_path: Path) -> None:
    """Equal on every document of a task, with scores that vary: only their difference has no width."""
    inputs = artifacts(tmp_path)
    for name in ("base", "pruned"):
        score_all(inputs[f"evaluate.{name}"], "gsm8k", [float(i % 2) for i in range(TASKS["gsm8k"])])
    page = report_on(inputs, tmp_path / "out")[1]
    assert "here 3/100 = 3.0 % (gsm8k)." in page


def test_the_base_recovers_itself_by_definition(made: Made) -> None:
    head, base, pruned = rows_of(made[1], "| model | made from |")[:3]
    assert (head[-1], base[-1]) == ("recovery", "100.0")
    assert "[" in pruned[-1]
    assert "The base's own is 100 by" in made[1]


def test_the_best_is_named_where_something_is_better_than_no_training(made: Made) -> None:
    report = json.loads(json.dumps(made[0]))
    by_kind = {model["kind"]: model for model in report["models"]}
    by_kind["pruned"]["recovery"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    for model in report["models"]:
        if model["kind"] in ("trained", "merged"):
            model["recovery"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    none = "No variant recovers more than the pruned model does without training."
    assert pages.summary(report)[-1] == none
    by_kind["trained"]["recovery"]["value"] = 0.51
    assert pages.summary(report)[-1].startswith(f"Highest recovery: {by_kind['trained']['name']}, 51.0")


def test_models_with_one_printed_recovery_are_all_named(made: Made) -> None:
    report = json.loads(json.dumps(made[0]))
    made_here = [model for model in report["models"] if model["kind"] in ("trained", "merged")]
    for model in made_here:
        model["recovery"] = {"value": 0.9, "low": 0.8, "high": 0.95}
    names = [model["name"] for model in made_here]
    assert len(names) > 1
    assert pages.summary(report)[-1] == f"Highest recovery: {', '.join(names[:-1])} and {names[-1]}, 90.0 %."


def test_a_resumed_step_is_marked(tmp_path: Path, made: Made) -> None:
    assert "resumed" not in made[1]
    inputs = artifacts(tmp_path)
    path = inputs["train.math-sft"] / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "resumed": True}))
    page = report_on(inputs, tmp_path / "out")[1]
    assert page.count("1 min 12 s (resumed)") == 1
    assert "only the last session is counted" in page


def test_a_claim_is_no_wider_than_its_interval() -> None:
    def verdict(low: float, high: float) -> str:
        return pages.verdict({"value": (low + high) / 2, "low": low, "high": high})

    assert verdict(0.01, 0.2).startswith("more")
    assert verdict(-0.2, -0.01).startswith("less")
    assert verdict(-0.01, 0.2).startswith("not told apart")
    assert verdict(0.0004, 0.2).startswith("not told apart"), "printed as +0.0"
    assert pages.points({"value": -0.0004, "low": -0.0123, "high": 0.05}) == "+0.0 [−1.2, +5.0]"  # noqa: RUF001


def test_a_long_text_is_cut_and_says_so() -> None:
    assert pages.cell("x" * 600) == "x" * 600
    assert pages.cell("x" * 601) == "x" * 600 + " …"
    assert pages.cell(" <b>|[a](b)\r\n$`~ ") == "&#60;b&#62;&#124;&#91;a&#93;(b)<br>&#36;&#96;&#126;"


STEPS = {"order": [5, 2, 8], "scores": [0.5, 1.25, 4.0], "perplexity": 7.0}
SHAPES = {
    "block_influence": (
        {"scores": [0.1 + 0.01 * ((7 * block) % 12) for block in range(12)]},
        [0, 2, 7],
        "blocks 0, 2 and 7, 0-based, of 12, have the least Block Influence: 0.4 together, over 64 texts",
        "|  | block | figure |",
    ),
    "perplexity_iterative": (
        STEPS,
        [2, 5],
        "removed one by one, blocks 2 and 5, 0-based, of 12, have the least increase of perplexity",
        "|  | block, in order of removal | increase of perplexity so far |",
    ),
}


@pytest.mark.parametrize("metric", SHAPES)
def test_figures_of_blocks_have_their_own_words(tmp_path: Path, metric: str) -> None:
    figures, gone, why, head = SHAPES[metric]
    inputs = artifacts(tmp_path)
    table = {"metric": metric, "blocks": 12, **figures, "rows": 64, "tokens": 9000}
    (inputs["importance"] / "importance.json").write_text(json.dumps(table))
    said = blocks.in_words(gone, 12)
    edit_record(inputs["prune"], "facts", blocks=gone, metric=metric, score=0.4, sentence=said)
    page = report_on(inputs, tmp_path / "out")[1]
    assert why in page and head in page and f"Removed: **{said}**" in page
    assert page.count(" (chosen)") == len(gone)
    assert (tmp_path / "out" / "importance.png").stat().st_size > 10_000
    for rows in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        assert len({line.count("|") for line in rows.splitlines()}) == 1, rows


def test_named_blocks_are_said_to_be_named(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    said = blocks.in_words([1, 4, 5], 12)
    edit_record(inputs["prune"], "facts", blocks=[1, 4, 5], metric=None, score=None, sentence=said)
    page = report_on(inputs, tmp_path / "out")[1]
    assert "Removed: **blocks 1 and 4..5, 0-based, of 12**" in page
    assert "The recipe names these blocks." in page and "Why these" not in page


CURATED = {
    "rows_read": 2995, "rows": 2980, "duplicates": 12, "overlaps": 3,
    "overlaps_by_task": {"arc": 0, "mmlu": 3}, "documents_met": {"arc": 0, "mmlu": 1},
    "documents": {"arc": 1172, "mmlu": 1140},
    "examples": [
        {"row": 233, "why": "duplicate", "first": 200, "begins": "Name | a book." + " Please." * 20},
        {"row": 987, "why": "overlap", "task": "mmlu", "group": "astronomy", "document": 2,
         "words": "why is the sky blue", "begins": "Why is the sky blue?"},
    ],
}  # fmt: skip
CHOSEN = {"deduplicate": "questions", "overlap": 13, "order": "random", "seed": 77}


def test_what_became_of_the_rows_is_told_in_words(tmp_path: Path, made: Made) -> None:
    assert "## Which rows" not in made[1]
    inputs = artifacts(tmp_path)
    inputs["curate.text"] = record(tmp_path / "c", "curate/text", CURATED, **CHOSEN)
    content, page = report_on(inputs, tmp_path / "out")
    assert [row["name"] for row in content["curate"]] == ["text"]
    assert (
        "- **text**: Of 2,995 rows 2,980 are left to be taken from. Removed because they share 13 words "
        "in a row, or the whole of a shorter question, with a scored benchmark: 3 with 1 document of "
        "mmlu. Removed because an earlier row has the same question: 12 rows. They are in an order drawn "
        "under the seed 77.\n"
    ) in page
    _, twice, overlap = rows_of(page, "| dataset | removed row")
    assert twice[:2] == ["text", "233"] and twice[3:] == ["row 200", "–"]  # noqa: RUF001
    assert twice[2].startswith("Name &#124; a book. Please.") and len(twice[2]) < 90
    assert overlap == [
        "text", "987", "Why is the sky blue?", "mmlu, astronomy, document 2", "why is the sky blue",
    ]  # fmt: skip
    assert "| curate/text | 77 |" in page
    for rows in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        assert len({line.count("|") for line in rows.splitlines()}) == 1, rows


def test_where_nothing_was_removed_the_page_says_so(tmp_path: Path) -> None:
    none = {"duplicates": 0, "overlaps": 0, "overlaps_by_task": {"arc": 0}, "documents_met": {"arc": 0}}
    facts = {**CURATED, **none, "rows": 2995, "documents": {"arc": 1172}, "examples": []}
    said = pages.curated({"settings": {**CHOSEN, "order": "file", "deduplicate": "rows"}, "facts": facts})
    assert said == (
        "Of 2,995 rows 2,995 are left to be taken from. None shares 13 words in a row, or the whole of a "
        "shorter question, with one of 1,172 scored documents. Removed because an earlier row has the "
        "same question and response: none."
    )


def test_the_rows_taken_of_each_dataset_are_told(tmp_path: Path, made: Made) -> None:
    head, row = rows_of(made[1], "| variant | method |")[:2]
    assert dict(zip(head, row, strict=True))["rows taken"] == "107 of math"
    inputs = artifacts(tmp_path)
    edit_record(inputs["train.math-sft"], "facts", taken={"math": 2000, "text": 700})
    content, page = report_on(inputs, tmp_path / "out")
    assert rows_of(page, "| variant | method |")[1][-1] == "2,000 of math, 700 of text"
    # Trained on other rows of the same dataset, the two are no longer comparable.
    assert [row["kind"] for row in content["comparisons"]] == ["merged minus best part"]
