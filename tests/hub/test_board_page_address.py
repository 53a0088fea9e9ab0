"""What the address of the leaderboard's page says is what is looked at, and stays so; in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boards
import pytest

PAIR = "a=llama-drop3%2Fmath-self&b=llama-drop3%2Fmath-sft"


def test_an_address_taken_into_an_open_page_is_shown(page: Path, browser: Any) -> None:
    """Also what it does not say: nothing of what was looked at before stays."""
    with boards.opened(browser, page) as looked:
        looked.page.get_by_label("Method").select_option("merged")
        looked.page.get_by_label("Search").fill("slerp")
        looked.page.evaluate("address => { location.hash = address }", f"{PAIR}&base=sandbox/base&sort=name")
        looked.page.get_by_text("A is better beyond chance on 3 of 3 tasks").wait_for()
        assert looked.page.get_by_label("First model").input_value() == "llama-drop3/math-self"
        assert looked.names() == sorted(looked.names()) and len(looked.names()) == 6
        assert looked.page.get_by_label("Search").input_value() == ""
        assert looked.page.get_by_label("Method").input_value() == ""
        assert looked.page.get_by_label("Base model").input_value() == "sandbox/base"
        assert PAIR in looked.page.url and not looked.complaints


# Whether the page scrolls no more, asked for half a second.
STILL = """() => new Promise((done) => { const before = scrollY;
    setTimeout(() => done(scrollY === before), 500); })"""
LINKS = {"Table": "table", "Compare two": "compare", "Charts": "charts", "Notes": "notes"}


@pytest.mark.parametrize(("link", "part"), LINKS.items())
def test_the_pages_own_links_leave_the_state_in_the_address(
    page: Path, browser: Any, link: str, part: str
) -> None:
    with boards.opened(browser, page) as looked:
        looked.page.get_by_label("Search").fill("math")
        for box in looked.page.locator("#models tbody input").all()[:2]:
            box.check()
        before, shown = looked.page.url, looked.names()
        looked.page.get_by_role("link", name=link, exact=True).click()
        looked.page.wait_for_function("() => document.querySelectorAll('#charts svg .point').length > 0")
        looked.page.wait_for_function(STILL)
        box = looked.page.locator(f"#{part}").bounding_box()
        assert box["y"] >= 0 and (box["y"] < 40 or box["y"] + box["height"] <= 900)
        assert looked.page.url == before and "text=math" in before
        looked.page.reload()
        looked.page.wait_for_selector("html[data-ready=yes]")
        assert looked.names() == shown and looked.page.url == before


def test_the_skip_link_takes_the_keyboard_to_the_table(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        before = looked.page.url
        looked.page.keyboard.press("Tab")
        looked.page.keyboard.press("Enter")
        assert looked.page.evaluate("document.activeElement.id") == "table"
        looked.page.keyboard.press("Tab")
        inside = "document.activeElement.closest('#table') && document.activeElement.id !== 'table'"
        assert looked.page.evaluate(inside)
        assert looked.page.locator("#table[tabindex]").count() == 0  # a click in it does not focus it
        assert looked.page.url == before and not looked.complaints


def test_an_address_that_names_a_part_goes_there(page: Path, browser: Any) -> None:
    """At the start, and typed into an open page: what it shows stays, and so does its address."""
    address = (page / "index.html").absolute().as_uri()
    with boards.opened(browser, f"{address}#compare", height=500) as looked:
        assert looked.page.evaluate("document.activeElement.id") == "compare"
        looked.page.get_by_label("Search").fill("math")
        before = looked.page.evaluate("location.href")
        looked.page.evaluate("location.hash = '#table'")
        looked.page.wait_for_function("document.activeElement.id === 'table'")
        assert len(looked.names()) < 6 and looked.page.evaluate("location.href") == before


def test_an_address_of_scores_that_are_not_here_shows_those_that_are(page: Path, browser: Any) -> None:
    address = (page / "index.html").absolute().as_uri()
    with boards.opened(browser, f"{address}#group=gone&method=SFT") as looked:
        assert looked.page.get_by_label("Method").input_value() == "SFT"
        assert looked.names() == ["llama-drop3/math-sft"]
