"""The leaderboard's page in a real Chromium: sort, filter, compare, charts, keyboard; strangers' words."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import boards
import pytest

from factory.compare import Side, compare
from factory.hub import board_page, documents
from factory.hub.board_row import Row

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\"'&"


def test_a_button_sorts_both_ways_and_says_so(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        averages = [float(text) for text in looked.column("Average")]
        assert averages == sorted(averages, reverse=True) and len(averages) == 6
        button = looked.page.get_by_role("button", name="gsm8k")
        button.click()
        scores = [float(text) for text in looked.column("gsm8k")]
        assert scores == sorted(scores, reverse=True)
        button.press("Enter")  # the focus stayed on it
        assert [float(text) for text in looked.column("gsm8k")] == scores[::-1]
        head = looked.page.locator("th", has=button)
        assert head.get_attribute("aria-sort") == "ascending"
        assert looked.page.locator("th[aria-sort]").count() == 1
        looked.page.get_by_role("button", name="Model").click()
        assert looked.names() == sorted(looked.names())


def test_filters_leave_what_they_say_and_are_in_the_address(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        looked.page.get_by_label("Method").select_option("self-distilled")
        assert sorted(looked.names()) == ["llama-drop3/math-self", "llama-drop3/text-self"]
        looked.page.get_by_label("Search").fill("MATH self")
        assert looked.names() == ["llama-drop3/math-self"]
        assert looked.page.get_by_role("status").first.inner_text() == "1 of 6 models"
        address = looked.page.url
        looked.page.get_by_role("button", name="Clear").click()
        assert len(looked.names()) == 6
        looked.page.goto("about:blank")
        looked.page.goto(address)
        looked.page.wait_for_selector("html[data-ready=yes]")
        assert looked.names() == ["llama-drop3/math-self"]
        looked.page.get_by_label("Search").fill("no such model")
        assert looked.names() == [] and not looked.complaints


def test_columns_out_of_sight_are_counted_and_gone_to(page: Path, browser: Any) -> None:
    with boards.opened(browser, page, width=900) as looked:
        button, scroll = looked.page.locator("#further"), looked.page.locator("#table .scroll")
        right = scroll.evaluate("box => box.getBoundingClientRect().right")
        ends = [head.bounding_box() for head in looked.page.locator("#models thead th").all()]
        hidden = sum(box["x"] + box["width"] > right for box in ends)
        assert hidden > 1 and button.inner_text() == f"{hidden} more columns \u2192"
        for _ in ends:
            if "more" in button.inner_text():
                before = scroll.evaluate("box => box.scrollLeft")
                button.click()
                looked.page.wait_for_function(
                    "before => document.querySelector('#table .scroll').scrollLeft > before", arg=before
                )
        looked.page.get_by_text("\u2190 first columns").wait_for()
        last = looked.page.locator("#models thead th").last.bounding_box()
        assert last["x"] + last["width"] <= right + 1
        button.click()
        looked.page.get_by_text(f"{hidden} more columns \u2192").wait_for()
        looked.page.set_viewport_size({"width": 3000, "height": 900})
        looked.page.add_style_tag(content=".inner { max-width: none !important; }")
        button.wait_for(state="hidden")
        assert not looked.complaints


def test_two_ticked_models_are_compared(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        for name in ("llama-drop3/math-self", "llama-drop3/math-sft"):
            looked.page.get_by_label(f"Compare {name}").check()
        table = looked.page.locator("#comparison table")
        table.wait_for()
        assert "A is better beyond chance on 3 of 3 tasks" in looked.page.locator("#verdict").inner_text()
        assert table.locator("tbody th").all_inner_texts() == ["arc", "mmlu", "gsm8k", "average"]
        assert looked.page.locator("#comparison svg [aria-label=dot] > *").count() == 4
        looked.page.get_by_role("button", name="Swap A and B").click()
        looked.page.get_by_text("B is better beyond chance on 3 of 3").wait_for()


def test_a_name_that_no_model_has_is_answered(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        second, verdict = looked.page.get_by_label("Second model"), looked.page.locator("#verdict")
        looked.page.get_by_label("Compare llama-drop3/math-sft").check()
        second.fill("lama-drop/math-slef")
        second.press("Tab")
        assert "There is no model \u201clama-drop/math-slef\u201d here; near it:" in verdict.inner_text()
        assert (
            second.get_attribute("aria-invalid") == "true" and second.input_value() == "lama-drop/math-slef"
        )
        looked.page.get_by_role("button", name="llama-drop3/math-self", exact=True).press("Enter")
        assert second.get_attribute("aria-invalid") == "false"
        looked.page.get_by_text("B is better beyond chance on 3 of 3").wait_for()
        second.fill("qqqq")
        second.press("Tab")
        assert verdict.inner_text().strip() == "There is no model \u201cqqqq\u201d here."
        assert looked.page.locator("#comparison table").count() == 0 and not looked.complaints
        second.fill("llama-drop3/math-sft")
        second.press("Tab")
        looked.page.get_by_text("These are one and the same model.").wait_for()


def test_the_page_and_the_command_compare_alike(runs: Path, page: Path, browser: Any) -> None:
    """Every pair of models: the browser's figures against factory/compare.py's."""
    folders = {
        json.loads(path.read_text())["name"].removeprefix("evaluate/"): path.parent
        for path in sorted((runs / "store" / "evaluate").glob("*/record.json"))
    }
    sides = {name: Side(name, "s", documents.read_samples(place)) for name, place in folders.items()}
    script = """async ([x, y]) => {
        const row = (name) => FACTORY_BOARD.models.find((one) => one.name.split("/").pop() === name);
        const both = await Promise.all([row(x), row(y)].map(Board.compare.answers));
        return Board.compare.compared(...both);
    }"""
    with boards.opened(browser, page) as looked:
        for x, y in itertools.permutations(folders, 2):
            ours, theirs = compare(sides[x], sides[y]), looked.page.evaluate(script, [x, y])
            told = {one["name"]: one for one in [*theirs["tasks"], theirs["average"]]}
            assert set(told) == {*ours.tasks, "average"}
            for name, line in {**ours.tasks, "average": ours.average}.items():
                here = [line.a, line.b, line.difference.value, line.difference.low, line.difference.high]
                there = [told[name][part] for part in ("a", "b", "difference", "low", "high")]
                assert there == pytest.approx(here, abs=3e-5)
                counts = (line.counts.won, line.counts.lost, line.difference.n, line.beyond_chance)
                assert counts == tuple(told[name][part] for part in ("won", "lost", "n", "beyond"))


def test_charts_are_there_with_intervals_and_can_be_walked_by_keyboard(page: Path, browser: Any) -> None:
    with boards.opened(browser, page) as looked:
        for chart, points in {"recovery": 6, "rows": 4, "speed": 6}.items():
            figure = looked.page.locator(f"#{chart}")
            figure.scroll_into_view_if_needed()
            figure.locator("svg .point").first.wait_for()
            assert figure.locator("svg .point").count() == points
            assert figure.locator("svg [aria-label=rule] line").count() >= points
        shown = looked.page.locator("#cost")
        for what in shown.locator("option").all_inner_texts():
            shown.select_option(what)
            title = looked.page.locator("#speed h3").inner_text()
            assert title == f"{what[0].upper()}{what[1:].split(',')[0]} against average"
        points = looked.page.locator("#recovery .point")
        assert points.and_(looked.page.locator("[tabindex='0']")).count() == 1
        shown.focus()
        for chart in ("recovery", "rows", "speed"):  # a stop each, at a point
            looked.page.keyboard.press("Tab")
            assert looked.page.locator(f"#{chart} .point:focus").count() == 1
            assert looked.page.locator(f"#{chart} .readout").inner_text()
        looked.page.keyboard.press("Shift+Tab")
        looked.page.keyboard.press("Shift+Tab")
        looked.page.keyboard.press("ArrowRight")
        assert points.and_(looked.page.locator("[tabindex='0']")).count() == 1
        said = looked.page.locator("#recovery .readout").inner_text()
        assert said and said.split(" (")[0] in points.nth(1).get_attribute("aria-label")
        looked.page.keyboard.press("Enter")
        assert looked.page.get_by_label("First model").input_value() == said.split(" (")[0]


def test_small_figures_have_three_significant_digits(tmp_path: Path, browser: Any) -> None:
    figures = [0.0326, 0.0412, 1.5, 123.4]
    models = []
    for i, kl in enumerate(figures):
        score = {"value": 0.5, "low": 0.4, "high": 0.6}
        row = Row(
            key=f"{i:016x}", name=f"run/m{i}", run="run", variant=f"m{i}", base="base", revision="0" * 40,
            method="SFT", blocks=4, removed=1, parameters=10**6, parameters_removed=0.25, suite="s",
            scores={"a": score}, average=score, more={"kl": {"value": kl, "low": kl / 2, "high": 2 * kl}},
        )  # fmt: skip
        models.append((row, None))
    board_page.write(models, tmp_path / "page")
    with boards.opened(browser, tmp_path / "page") as looked:
        assert sorted(looked.column("KL")) == ["0.0326", "0.0412", "1.50", "123"]
        assert "0.0163\u20130.0652" in looked.page.locator("#models").inner_text()


def test_models_of_one_size_do_not_cover_each_other(tmp_path: Path, browser: Any) -> None:
    page = boards.alike(tmp_path / "few", [0.5, 0.5, 0.51, 0.52])
    for size in ({}, {"width": 390, "height": 844}):
        with boards.opened(browser, page, **size) as looked:
            for chart in ("rows", "speed"):
                places = middles(looked, f"#{chart} .point")
                apart = [math.dist(one, other) for one, other in itertools.combinations(places, 2)]
                assert len(places) == 4 and min(apart) > 8


def middles(looked: boards.Looked, marks: str) -> list[tuple[float, float]]:
    """Of a chart's marks, in pixels of the screen."""
    looked.page.locator(marks.split(" ")[0]).scroll_into_view_if_needed()
    looked.page.locator(marks).first.wait_for(state="attached")  # a line that is upright has no width
    script = """(all) => all.map((one) => one.getBoundingClientRect())
        .map((box) => [box.x + box.width / 2, box.y + box.height / 2])"""
    return [(x, y) for x, y in looked.page.locator(marks).evaluate_all(script)]


def test_a_point_that_stepped_aside_is_led_back_to_its_true_place(tmp_path: Path, browser: Any) -> None:
    """Of three alike one stays, and the dotted line runs through it; the others are led there."""
    with boards.opened(browser, boards.alike(tmp_path / "three", [0.5, 0.5, 0.5])) as looked:
        for chart, axis in (("rows", 0), ("speed", 1)):
            dots = [place[axis] for place in middles(looked, f"#{chart} .point")]
            lines = [place[axis] for place in middles(looked, f"#{chart} .true-place line")]
            assert lines == [pytest.approx(sorted(dots)[1], abs=1)]
            led = looked.page.locator(f"#{chart} .leads path").get_attribute("d")
            assert led.count("M") == 2
            assert "beside a dotted line" in looked.page.locator(f"#{chart} .legend").inner_text()


def test_where_points_lie_on_each_other_one_names_the_others(tmp_path: Path, browser: Any) -> None:
    with boards.opened(browser, boards.alike(tmp_path / "many", [0.5] * 60)) as looked:
        looked.page.locator("#speed").scroll_into_view_if_needed()
        looked.page.locator("#speed .point").first.focus()
        said = looked.page.locator("#speed .readout").inner_text()
        assert re.match(r"run/m\d+ \(SFT\): average 50\.0 %.*\. Here too: run/m", said), said
        assert not looked.complaints


def test_nothing_is_asked_of_anybody_else_and_nothing_complains(page: Path, browser: Any) -> None:
    """Also on a phone in the dark, where nothing is wider than the screen but what scrolls in itself."""
    for size in ({}, {"width": 390, "height": 844, "color_scheme": "dark"}):
        with boards.opened(browser, page, **size) as looked:
            for box in looked.page.locator("#models tbody input").all()[:2]:
                box.check()
            looked.page.locator("#comparison table").wait_for()
            looked.page.locator("#speed").scroll_into_view_if_needed()
            looked.page.locator("#speed .point").first.wait_for()
            assert all(address.startswith(("file:", "data:")) for address in looked.asked), looked.asked
            assert looked.complaints == []
            wide, screen = looked.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= screen


def test_strangers_words_are_text_wherever_they_stand(tmp_path: Path, browser: Any) -> None:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    models = []
    for i in range(3):
        words = dict.fromkeys(("run", "variant", "base", "revision", "how", "suite", "evaluated"), HOSTILE)
        row = Row(
            key=f"{i:016x}", name=f"{i}{HOSTILE}", method="SFT", blocks=4, removed=1,
            parameters=10**6 * (1 + i), parameters_removed=0.1 * i, rows=10 * (i + 1),
            scores={"a": interval, "b": interval},
            average=interval, recovery=interval, data=(HOSTILE,), apart=(HOSTILE,), **words,
        )  # fmt: skip
        models.append((row, None))
    board_page.write(models, tmp_path / "page")
    with boards.opened(browser, tmp_path / "page") as looked:
        looked.page.on("dialog", lambda dialog: looked.complaints.append("a dialog"))
        for box in looked.page.locator("#models tbody input").all()[:2]:
            box.check()
        for chart in ("recovery", "rows", "speed"):
            looked.page.locator(f"#{chart}").scroll_into_view_if_needed()
            looked.page.locator(f"#{chart} .point").first.focus()
        looked.page.get_by_role("button", name="</script>").first.click()
        assert looked.names()[0].startswith("0</script><img src=x onerror=alert(1)>")
        assert looked.page.locator("img").count() == 0 and looked.complaints == []


@pytest.mark.parametrize("file", ["d3.min.js", "plot.umd.min.js"])
def test_vendored_files_are_those_that_their_list_names(file: str) -> None:
    import hashlib

    place = Path(board_page.__file__).parent / "page" / "vendor"
    line = next(
        line for line in (place / "README.md").read_text().splitlines() if line.startswith(f"| {file}")
    )
    assert hashlib.sha256((place / file).read_bytes()).hexdigest() in line
    licence = next(word.strip("|, ") for word in line.split() if word.endswith("LICENSE.txt"))
    assert "ISC" in line and (place / licence).is_file()
