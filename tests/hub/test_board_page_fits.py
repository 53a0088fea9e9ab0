"""Nothing on the leaderboard's page is cut without a sign, on phones and on paper too; in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boards
import pytest

PHONE = {"width": 390, "height": 844}
SIZES = [pytest.param({}, id="desk"), pytest.param(PHONE, id="phone")]
RUN = "llama-drop3"


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
