"""Leaderboards for tests: of a run made in a moment, and a browser that looks at the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from factory.hub import board_page, leaderboard
from factory.hub.board_row import Row
from factory.hub.board_sources import Samples
from factory.hub.session import Patience

PATIENCE = Patience(seconds=5, tries=2, pause=0.01)


def build(out: Path, *sources: Path | str) -> leaderboard.Built:
    return leaderboard.build([str(source) for source in sources], out, PATIENCE)


def change(path: Path, *keys: Any, to: Any) -> None:
    """Sets a value in a JSON file, by the keys that lead to it."""
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(content))


def data(out: Path) -> dict[str, Any]:
    """What models.js says."""
    text = (out / "page" / "models.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.FACTORY_BOARD = ").removesuffix(";\n"))


def alike(place: Path, averages: list[float], samples: Samples | None = None, **more: Any) -> Path:
    """A page of models of one size, trained on ten rows, with these averages and wide intervals.

    All of them answered as `samples` say; `more` are fields of their rows.
    """
    models = []
    for i, value in enumerate(averages):
        interval = {"value": value, "low": value - 0.05, "high": value + 0.05}
        said = {
            "key": f"{i:016x}", "name": f"run/m{i}", "run": "run", "variant": f"m{i}", "base": "base",
            "revision": "0" * 40, "method": "SFT", "blocks": 4, "removed": 1, "parameters": 10**6,
            "parameters_removed": 0.25, "rows": 10, "suite": "s", "scores": {"a": interval},
            "average": interval,
        }  # fmt: skip
        models.append((Row.model_validate({**said, **more}), samples))
    board_page.write(models, place)
    return place


def browser_path() -> str:
    found = next(
        (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium here: the page is not looked at")
    return found


@dataclass
class Looked:
    """A page that is open, what it asked for and what it complained of."""

    page: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Of the models, in the order of the table."""
        return self.page.locator("#models tbody .called").all_inner_texts()

    def column(self, label: str) -> list[str]:
        """A column's values, without their intervals."""
        heads = [
            head.strip(" \u25bc\u25b2") for head in self.page.locator("#models thead th").all_inner_texts()
        ]
        cells = self.page.locator(
            f"#models tbody tr > :nth-child({heads.index(label) + 1})"
        ).all_inner_texts()
        return [cell.split("\n")[0] for cell in cells]


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright; the test is skipped where one of them is missing."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        # Without its sandbox, which wants rights that a container may not give; the pages are our own.
        one = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield one
        one.close()


@contextmanager
def opened(
    browser: Any, place: Path | str, width: int = 1280, height: int = 900, **more: Any
) -> Iterator[Looked]:
    """A folder of a page, or an address, in a window of its own."""
    address = place if isinstance(place, str) else (place / "index.html").absolute().as_uri()
    page = browser.new_page(viewport={"width": width, "height": height}, **more)
    looked = Looked(page)
    page.on("request", lambda request: looked.asked.append(request.url))
    page.on("console", lambda message: looked.complaints.append(message.text))
    page.on("pageerror", lambda error: looked.complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    yield looked
    page.close()
