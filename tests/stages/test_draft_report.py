"""Drafts in the report: the section, its picture, and words that claim no more than was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported import SETTINGS, artifacts, record

from factory.drafts import speculative
from factory.stages import draft_words, report


def facts(rate: float, speed: tuple[float, float, float], removed: int | None = 8) -> dict[str, Any]:
    """What the stage draft tells of a model that is accepted so often."""
    random = np.random.default_rng(1)
    chances = [(random.random(20) < rate).astype(float) for _ in range(30)]
    tokens, rates = np.full(30, 20.0), np.array([one.sum() for one in chances])
    found = speculative.Accepted(tokens, rates, speculative.expected_steps(chances)).summary()
    latency = speculative.Latency(0.008, 0.01, (0.011,) * 8)
    best = speculative.best(latency.by_k(found))
    ends = dict(zip(("value", "low", "high"), speed, strict=True))
    row = {
        "k": best["k"], "assisted": 80.0, "step": 0.02, "written": 2.0, "expected": 0.9, "speed_up": ends,
        "same_text": 6, "same_steps": 6,
    }  # fmt: skip
    return {
        "target": "base",
        "blocks": {"draft": 9, "target": 12},
        "parameters": {"draft": 1_010_000, "target": 1_310_000},
        "sets": {
            "asked": {
                "kind": "math", "trained": False, "texts": 30, "tokens": 600, "regenerated": 4, "held_out": 1
            }
        },
        "precision": "float32",
        "temperature": 0.7,
        "greedy": {"asked": found, "all": found},
        "sampled": {"asked": found, "all": found},
        "ties": {"share": 0.0, "below": 0.001},
        "latency": {"draft": 0.008, "target": 0.01, "verify": [0.011] * 8, "behind": 40, "rounds": 9},
        "forward": dict.fromkeys(("greedy", "sampled"), latency.by_k(found)),
        "expected": dict.fromkeys(("greedy", "sampled"), latency.by_k(found)),
        "best": {"greedy": best, "sampled": best},
        "measured": {
            **row, "prompts": 6, "rounds": 3, "tokens": 120, "plain": 100.0, "token": 0.01, "by_k": [row],
            "by_set": {"asked": {"k": best["k"], "speed_up": ends, "prompts": 6}},
        },
        "pays": {
            "removed": removed, "k": 2, "forward": 2, "per_block": 0.0007, "besides": 0.002, "a_token": 0.003,
            "a_step": 0.001, "of": 12, "why": "as measured",
        },
        "others": 0.9,
    }  # fmt: skip


SLOW, FAST = (0.81, 0.78, 0.84), (1.3, 1.2, 1.4)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("draft")
    inputs = artifacts(root / "in")
    for name, found in {"pruned": facts(0.4, SLOW), "merged": facts(0.8, FAST)}.items():
        inputs[f"draft.{name}"] = record(root / "in" / f"draft-{name}", f"draft/{name}", found)
    (root / "out").mkdir()
    report.run(SETTINGS, inputs, root / "out", lambda *told: None)
    return root / "out"


def test_the_section_has_every_draft_with_its_figures(page: Path) -> None:
    text = (page / "report.md").read_text()
    section = text[text.index("## As drafts") : text.index("## Time and machine")]
    assert "**pruned** (9 of 12 blocks)" in section and "**merged** (9 of 12 blocks)" in section
    rows = [line for line in section.splitlines() if line.startswith("| merged | all | greedy")]
    told = json.loads((page / "report.json").read_text())["draft"][1]["facts"]["greedy"]["all"]
    assert rows and f"{told['k'][7]['accepted']['value']:.2f} |" in rows[0]
    said = "4 greedy texts were regenerated to train variants on and 1 greedy text was"
    assert f"Of asked {said} the base's answers for the drift." in section
    assert (page / "draft.png").stat().st_size > 10_000


def test_every_table_row_has_as_many_cells_as_its_head(page: Path) -> None:
    section = (page / "report.md").read_text().split("## As drafts")[1].split("## Time and machine")[0]
    for table in section.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_the_summary_names_the_fastest(page: Path) -> None:
    summary = json.loads((page / "report.json").read_text())["summary"]
    assert summary[-1].startswith("The fastest draft of the base is merged")
    assert "makes decoding faster" in summary[-1]


@pytest.mark.parametrize(
    ("speed", "said"),
    [(SLOW, "slower"), (FAST, "faster"), ((1.1, 0.9, 1.2), "neither faster nor slower")],
)
def test_faster_or_slower_is_what_all_rounds_say(speed: tuple[float, float, float], said: str) -> None:
    assert f"it makes decoding {said}: " in draft_words.speed(facts(0.5, speed))


def test_one_round_has_no_range_and_gives_no_rule() -> None:
    found = facts(0.5, (0.81, 0.81, 0.81))
    found["measured"]["rounds"] = 1
    said = draft_words.speed(found)
    assert (
        "it made decoding slower in the one round that was timed: \N{MULTIPLICATION SIGN} 0.81 with" in said
    )
    rows = [{"name": "often", "facts": facts(0.9, (0.5, 0.5, 0.5))}, {"name": "less", "facts": found}]
    assert (
        "timed too seldom to be told apart in speed, often is accepted most" in draft_words.summary(rows)[0]
    )


def test_the_speed_up_of_each_set_is_told_where_there_are_several() -> None:
    found = facts(0.5, SLOW)
    assert draft_words.by_set(found) == ""
    fast = {"k": 8, "speed_up": dict(zip(("value", "low", "high"), FAST, strict=True)), "prompts": 3}
    found["measured"]["by_set"]["other"] = fast
    assert "; other \N{MULTIPLICATION SIGN} 1.30 [1.20, 1.40] (K = 8)." in draft_words.by_set(found)


def test_acceptance_of_trained_prompts_alone_is_said_to_be_that() -> None:
    found = facts(0.5, SLOW)
    assert "training read" not in draft_words.acceptance(found)
    found["sets"]["asked"]["trained"] = True
    assert draft_words.acceptance(found).endswith("on prompts that training read")


def test_from_where_it_pays_is_said_against_what_is_removed() -> None:
    assert draft_words.pays(facts(0.5, SLOW, 8)).startswith(
        "It would pay from 8 removed blocks on (of 12; here 3 are gone); if forward"
    )
    assert draft_words.pays(facts(0.5, FAST, 2)).startswith("It pays from 2 removed blocks on")
    assert "if forward passes were all that it takes, from 2 on." in draft_words.pays(facts(0.5, SLOW, 8))
    assert "if forward passes" not in draft_words.pays(facts(0.5, FAST, 2))
    assert "no number of removed blocks" in draft_words.pays(facts(0.1, SLOW, None))


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ([8, 9, 11], "from 8 to 11 on"),
        ([8, 8], "from 8 on"),
        ([9, None], "from 9 on, or that no number would"),
        ([None, None], "that no number would"),
    ],
)
def test_how_far_timings_of_one_shape_lie_apart_is_said(each: list[int | None], said: str) -> None:
    found = facts(0.5, SLOW)
    found["pays"]["each"] = each
    shape = f"These are the timings of {len(each)} drafts of this shape together; one by one they say {said}."
    assert shape in draft_words.pays(found)


def test_the_report_takes_the_timings_of_one_shape_together(page: Path) -> None:
    told = json.loads((page / "report.json").read_text())["draft"]
    assert [len(row["facts"]["pays"]["each"]) for row in told] == [2, 2]
    assert "These are the timings of 2 drafts of this shape together" in (page / "report.md").read_text()


@pytest.mark.parametrize("speed", [SLOW, (1.1, 0.9, 1.2)])
def test_what_was_not_measured_to_be_faster_is_not_said_to_pay(speed: tuple[float, float, float]) -> None:
    said = draft_words.pays(facts(0.5, speed, 2))
    assert "It pays" not in said and "should pay from 2 removed blocks on" in said
    assert "which the measurement does not show" in said


def test_a_busy_machine_is_said_beside_the_times(page: Path) -> None:
    said = "Other processes kept 0.9 processors busy meanwhile: times are too long, ratios uncertain."
    assert said in (page / "report.md").read_text()
    assert draft_words.disturbed([{"facts": {"others": None}}, {"facts": {"others": 0.0}}]) is None


def test_the_summary_goes_by_what_was_measured() -> None:
    # The one that is accepted more often has more to expect; measured, it was the slower of two slow ones.
    rows = [
        {"name": "often", "facts": facts(0.9, (0.7, 0.6, 0.8))},
        {"name": "less", "facts": facts(0.5, SLOW)},
    ]
    rows[0]["facts"] = facts(0.9, (0.7, 0.6, 0.75))
    assert draft_words.summary(rows)[0].startswith("The least slow draft of the base is less: ")
    rows[0]["facts"] = facts(0.9, (1.1, 0.9, 1.2))
    assert draft_words.summary(rows)[0].startswith("The best draft of the base is often: ")


def test_of_drafts_that_are_not_told_apart_the_summary_names_the_one_accepted_most() -> None:
    rows = [
        {"name": "often", "facts": facts(0.9, (0.8, 0.77, 0.82))},
        {"name": "less", "facts": facts(0.5, SLOW)},
    ]
    said = "of the base, whose measured speeds overlap, often is accepted most: "
    assert draft_words.summary(rows)[0].startswith(f"Of 2 drafts {said}")
    rows.append({"name": "far", "facts": facts(0.99, (0.5, 0.4, 0.6))})
    assert draft_words.summary(rows)[0].startswith(f"Of the 2 least slow drafts {said}")


def test_a_report_without_drafts_has_no_section(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    report.run(SETTINGS, artifacts(tmp_path / "in"), tmp_path / "out", lambda *told: None)
    assert "As drafts" not in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "draft.png").exists()


def test_a_sweep_tells_from_where_drafts_were_faster() -> None:
    def point(name: str, kept: int, speed: tuple[float, float, float]) -> dict[str, Any]:
        found = {**facts(0.5, speed), "blocks": {"draft": kept, "target": 12}}
        return {"name": name, "draft": [{"name": "own", "facts": found}]}

    points = [point("drop=3", 9, SLOW), point("drop=6", 6, FAST), point("drop=9", 3, FAST)]
    assert "faster from 6 removed blocks on (own at drop=6)" in draft_words.over_points(points)
    assert "the deepest lack 3 blocks" in draft_words.over_points(points[:1])
