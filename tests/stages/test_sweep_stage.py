"""The report of a sweep: points by models, as JSON, as a page, as a picture, as a table in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reported import SETTINGS, artifacts, edit_record
from rich.console import Console

from factory import sweep_table
from factory.stages import report, sweep
from factory.stages.sweep_picture import _places, draw


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of three points by name, as the report stage writes them; the second has a limit."""
    found = {}
    for drop in (1, 2, 4):
        root = tmp_path_factory.mktemp(f"drop{drop}")
        inputs = artifacts(root / "artifacts")
        if drop == 2:
            edit_record(inputs["evaluate.base"], "settings", limit=7)
        found[f"drop={drop}"] = root / "report"
        found[f"drop={drop}"].mkdir()
        report.run(SETTINGS, inputs, root / "report", lambda *a, **k: None)
    return found


def settings(*points: tuple[str, dict[str, Any]]) -> sweep.Settings:
    rows = tuple(sweep.Point(name=name, values=values) for name, values in points)
    return sweep.Settings(recipe="swept", keys=tuple(points[0][1]), points=rows)


DROPS = settings(*((f"drop={drop}", {"prune.drop": drop}) for drop in (1, 2, 4)))


@pytest.fixture(scope="module")
def made(reports: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    facts = sweep.run(DROPS, reports, out, lambda *a, **k: None)
    assert facts["recovery"]["drop=4"]["merged"] > facts["recovery"]["drop=4"]["pruned"]
    return out


def test_every_figure_is_that_of_the_points_own_report(made: Path, reports: dict[str, Path]) -> None:
    told = json.loads((made / "report.json").read_text())
    for point in told["points"]:
        theirs = json.loads((reports[point["name"]] / "report.json").read_text())
        for mine, their in zip(point["models"], theirs["models"], strict=True):
            assert mine == {key: their[key] for key in sweep.TOLD}


def test_the_page_has_a_line_a_point_and_model_and_names_the_best(made: Path) -> None:
    page = (made / "report.md").read_text()
    assert "drop=1: blocks 6..8, 0-based, of 12, are removed; highest recovery: m" in page
    rows = [line for line in page.splitlines() if line.startswith("| drop=")]
    assert len(rows) == 1 + 3 * 5  # the base, which all share, once
    assert "| [drop=4](drop=4/report.md) | 4 | blocks 6..8, 0-based, of 12 |" in page
    assert page.count("Only the first 7 documents") == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(made: Path, width: int) -> None:
    told = json.loads((made / "report.json").read_text())
    console = Console(width=width)
    with console.capture() as captured:
        console.print(sweep_table.render(told, width))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "swept: a sweep over prune.drop"
    assert sum("math-self" in line for line in lines) == 3
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "…" not in captured.get()


def test_a_recovery_that_is_not_defined_is_told_and_not_drawn(made: Path) -> None:
    told = json.loads((made / "report.json").read_text())
    for point in told["points"]:
        for model in point["models"]:
            model["recovery"] = None
    draw(told)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(sweep_table.render(told))
    assert captured.get().count("not defined") == 1 + 3 * 5


def test_the_picture_has_every_interval_where_its_value_stands(made: Path) -> None:
    told = json.loads((made / "report.json").read_text())
    (axes,) = draw(told).axes
    lines = {bars.get_label(): bars for bars in axes.containers}
    assert list(lines) == [model["name"] for model in told["points"][0]["models"][1:]]
    for name, bars in lines.items():
        found = [
            next(m for m in point["models"] if m["name"] == name)["recovery"] for point in told["points"]
        ]
        assert list(bars[0].get_ydata()) == [one["value"] for one in found]
        assert [round(x) for x in bars[0].get_xdata()] == [0, 1, 3]
        ends = [segment[:, 1] for segment in bars[2][0].get_segments()]
        for (low, high), one in zip(ends, found, strict=True):
            assert (low, high) == pytest.approx((one["low"], one["high"]))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]


def test_a_second_key_makes_a_panel_a_value(reports: dict[str, Path]) -> None:
    chosen = settings(
        *((f"drop={drop}", {"prune.drop": drop, "seed": seed}) for drop, seed in ((1, 0), (2, 0), (4, 1)))
    )
    told = {name: json.loads((folder / "report.json").read_text()) for name, folder in reports.items()}
    axes = draw(sweep.assemble(chosen, told)).axes
    assert [one.get_title() for one in axes] == ["seed = 0", "seed = 1"]
    assert [len(one.containers[0][0].get_xdata()) for one in axes] == [2, 1]


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([2, 4, 8], [0, 1, 3]),
        ([8, 2], [1, 0]),
        ([1000, 4000, 16000], [0, 1, 2]),  # by powers
        ([1e-5, 1e-4, 1e-2], [0, 1, 3]),
        ([1, 4, 5, 6, 7, 11], [0, 3, 4, 5, 6, 10]),  # not by powers: 6 and 7 would be nearer than now
        ([1, 1.001, 100], [0, 1, 2]),  # too far apart to stand where they are
        ([6, "22:28", [4, 7]], [0, 1, 2]),
        ([True, False], [0, 1]),
        ([3], [0]),
    ],
)
def test_numbers_stand_where_they_are_and_all_else_side_by_side(values: list[Any], places: list[int]) -> None:
    found, ticks, _ = _places(values)
    assert [found[str(value)] for value in values] == pytest.approx(places)
    assert {tick.replace(",", "") for tick in ticks.values()} == {str(v).replace(",", "") for v in values}
