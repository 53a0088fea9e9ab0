"""The leaderboard's page where there is nothing to show or to tell apart; in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boards
import pytest

from factory.paired import TaskSamples


@pytest.fixture
def emptied(page: Path, browser: Any) -> Iterator[boards.Looked]:
    """A page whose filters leave nothing, after its table was scrolled sideways; narrow enough for that."""
    with boards.opened(browser, page, width=700) as looked:
        looked.page.locator("#table .scroll").evaluate("box => box.scrollTo(200, 0)")
        looked.page.get_by_label("Search").fill("no such model")
        yield looked
        assert not looked.complaints


def test_filters_that_leave_nothing_say_so_and_are_cleared(emptied: boards.Looked) -> None:
    said = emptied.page.locator("#models tbody").get_by_text("No model matches.")
    box, scroll = said.bounding_box(), emptied.page.locator("#table .scroll").bounding_box()
    assert scroll["x"] <= box["x"] <= scroll["x"] + 20
    emptied.page.get_by_role("button", name="Clear the filters").press("Enter")
    assert len(emptied.names()) == 6 and emptied.page.get_by_label("Search").input_value() == ""
    assert emptied.page.evaluate("document.activeElement.closest('#table') != null")


def test_charts_of_no_model_say_why(emptied: boards.Looked) -> None:
    for chart in ("recovery", "rows", "speed"):
        emptied.page.locator(f"#{chart}").scroll_into_view_if_needed()
        said = emptied.page.locator(f"#{chart} .readout")
        said.get_by_text("The filters leave no model.").wait_for()
        assert emptied.page.locator(f"#{chart} svg").count() == 0


def test_what_the_third_chart_shows_can_be_chosen_without_a_model(emptied: boards.Looked) -> None:
    assert emptied.page.locator("#cost").input_value() == "FLOPs a token, computed"
    emptied.page.reload()
    emptied.page.wait_for_selector("html[data-ready=yes]")
    assert emptied.page.locator("#cost").input_value() == "FLOPs a token, computed"


@pytest.mark.parametrize(("tasks", "said"), [(1, "the one task"), (3, "any of 3 tasks")])
def test_of_models_alike_one_sentence_says_so(tmp_path: Path, browser: Any, tasks: int, said: str) -> None:
    right = [True, False] * 20
    answers = TaskSamples(range(40), ["t"] * 40, [float(one) for one in right], ["p"] * 40, right)
    place = boards.alike(tmp_path / "page", [0.5, 0.5], {f"task{i}": answers for i in range(tasks)})
    address = (place / "index.html").absolute().as_uri()
    with boards.opened(browser, f"{address}#a=run/m0&b=run/m1") as looked:
        looked.page.locator("#comparison table").wait_for()
        told = looked.page.locator("#verdict").inner_text()
        assert told.startswith(f"Neither is better beyond chance on {said}. On average they differ by no ")
