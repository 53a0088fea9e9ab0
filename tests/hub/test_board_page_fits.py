"""Nothing on the leaderboard's page is cut without a sign, on phones and on paper too; in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boards
import pytest

PHONE = {"width": 390, "height": 844}
SIZES = [pytest.param({}, id="desk"), pytest.param(PHONE, id="phone")]
RUN = "llama-drop3"
ARROW = 40  # pixels that a field of choices has beside its text


def compared(looked: boards.Looked, a: str, b: str) -> None:
    """Chooses two models and waits for their comparison."""
    for label, name in (("First model", a), ("Second model", b)):
        looked.page.get_by_label(label).fill(name)
        looked.page.get_by_label(label).press("Tab")
    looked.page.locator("#comparison table").wait_for()


@pytest.mark.parametrize("size", SIZES)
def test_words_on_either_side_of_zero_are_whole(page: Path, browser: Any, size: dict[str, int]) -> None:
    """A model worse on every task leaves no room on the right of zero, a better one none on the left."""
    for a, b, words in (
        (f"{RUN}/pruned", "sandbox/base", ["\u2190 B better, in points"]),
        ("sandbox/base", f"{RUN}/pruned", ["A better, in points \u2192"]),
        (f"{RUN}/merged", f"{RUN}/math-self", ["\u2190 B better", "A better, in points \u2192"]),
    ):
        with boards.opened(browser, page, **size) as looked:
            compared(looked, a, b)
            texts = looked.page.locator("#comparison .sides-of-zero text")
            chart = looked.page.locator("#comparison svg").bounding_box()
            for box in [text.bounding_box() for text in texts.all()]:
                assert chart["x"] <= box["x"]
                assert box["x"] + box["width"] <= chart["x"] + chart["width"]
            assert set(words) <= set(texts.all_text_contents())


def test_on_a_phone_the_comparison_says_who_is_better_before_it_is_scrolled(page: Path, browser: Any) -> None:
    with boards.opened(browser, page, **PHONE) as looked:
        compared(looked, f"{RUN}/pruned", "sandbox/base")
        scroll = looked.page.locator("#comparison .scroll").bounding_box()
        for cell in looked.page.locator("#comparison tr > :nth-child(5)").all():
            box = cell.bounding_box()
            assert box["x"] + box["width"] <= scroll["x"] + scroll["width"]


def test_the_edge_of_the_comparison_is_shaded_until_its_end_is_reached(page: Path, browser: Any) -> None:
    with boards.opened(browser, page, **PHONE) as looked:
        compared(looked, f"{RUN}/pruned", "sandbox/base")
        shaded = looked.page.locator("#comparison .sides.more")
        shaded.wait_for()
        looked.page.locator("#comparison .scroll").evaluate("box => box.scrollTo(box.scrollWidth, 0)")
        shaded.wait_for(state="detached")
    with boards.opened(browser, page) as looked:
        compared(looked, f"{RUN}/pruned", "sandbox/base")
        assert shaded_boxes(looked) == [False]


def shaded_boxes(looked: boards.Looked) -> list[bool]:
    """Of the comparison's boxes, whether their edge is shaded once a frame was drawn."""
    looked.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return looked.page.locator("#comparison .sides").evaluate_all(
        "all => all.map((one) => one.classList.contains('more'))"
    )


def test_paper_names_both_models_and_has_nothing_to_press(page: Path, browser: Any) -> None:
    with boards.opened(browser, page, width=700) as looked:
        compared(looked, f"{RUN}/pruned", "sandbox/base")
        named = looked.page.locator("#compare").get_by_text(f"A: {RUN}/pruned; B: sandbox/base")
        assert looked.page.locator("#further").is_visible() and not named.is_visible()
        looked.page.emulate_media(media="print")
        assert named.is_visible()
        assert looked.page.locator("button:visible:not(th button)").count() == 0
        edges = "all => all.map((one) => getComputedStyle(one, '::after').display)"
        assert looked.page.locator(".sides").evaluate_all(edges) == ["none", "none"]


def test_paper_has_charts_that_were_not_looked_at(page: Path, browser: Any) -> None:
    with boards.opened(browser, page, height=400) as looked:
        assert looked.page.locator("#speed .point").count() == 0
        looked.page.pdf()
        for chart in ("recovery", "rows", "speed"):
            assert looked.page.locator(f"#{chart} .point").count() > 0


def test_scores_that_their_field_cuts_are_told_whole(tmp_path: Path, browser: Any) -> None:
    """Where the window is wide enough they are not cut at all."""
    scores = {"arc": {"value": 0.5, "low": 0.4, "high": 0.6, "shots": 25}}
    limited = {"suite": "openllm_v1", "limit": 20, "apart": ("Limited",), "scores": scores}
    group = "Open LLM Leaderboard v1: 20 documents a task"
    with boards.opened(browser, boards.alike(tmp_path / "page", [0.5], **limited)) as looked:
        field = looked.page.get_by_label("Scores")
        assert field.get_attribute("title") == group
        script = """(field) => { const pen = document.createElement("canvas").getContext("2d");
            pen.font = getComputedStyle(field).font; return pen.measureText(field.value).width; }"""
        assert field.bounding_box()["width"] > field.evaluate(script) + ARROW
        looked.page.evaluate("location.hash = 'group=gone'")
        assert field.get_attribute("title") == group


def test_the_search_says_what_it_searches(page: Path, browser: Any) -> None:
    """What its words promise is found."""
    with boards.opened(browser, page) as looked:
        field = looked.page.get_by_label("Search")
        assert field.get_attribute("placeholder") == "a name, a method"
        assert "datasets by the names that recipes give them" in field.get_attribute("title")
        for typed in ("llama-drop3", "merged", "sandbox/base", "slerp", "math"):
            field.fill(typed)
            assert looked.names(), typed
        field.fill("sandbox/math")
        assert not looked.names()
