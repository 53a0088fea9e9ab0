"""The table in the terminal: every figure whole on any screen, and no more certain than it is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from reported import SKILL, artifacts, report_on

from factory import table


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """report.json; read only."""
    root = tmp_path_factory.mktemp("table")
    return report_on(artifacts(root), root / "out")[0]


def printed(content: dict[str, Any], width: int = 160) -> str:
    from rich.console import Console

    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None).print(table.render(content, width))
    return screen.getvalue()


def copy(content: dict[str, Any]) -> Any:
    return json.loads(json.dumps(content))


def test_the_table_shows_every_model_with_intervals(content: dict[str, Any]) -> None:
    shown = printed(content)
    recovery = next(model["recovery"] for model in content["models"] if model["name"] == "merged")
    line = next(line for line in shown.splitlines() if "merged" in line)
    assert (
        f"{100 * recovery['value']:.1f} [{100 * recovery['low']:.1f}, {100 * recovery['high']:.1f}]" in line
    )
    assert "1.01M" in line
    assert all(name in shown for name in SKILL)
    assert "blocks 6..8, 0-based, of 12" in shown


def test_no_figure_is_cut_on_a_narrow_screen(content: dict[str, Any]) -> None:
    content = copy(content)
    for model in content["models"]:
        names = ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
        model["scores"] = {name: {**model["scores"]["arc"], "value": 1.0} for name in names}
        for estimate in (model["average"], model["recovery"]):
            estimate.update(value=1.0, low=1.0, high=1.0)
    shown = printed(content, width=80)
    assert "…" not in shown
    for model in content["models"]:
        assert shown.count(f"{100 * model['scores']['arc']['value']:.1f}") >= 6
        assert shown.count("[100.0,100.0]") == 2 * len(content["models"]) - 1  # the base's recovery has none


def test_what_was_won_and_lost_fits_a_narrow_screen(content: dict[str, Any]) -> None:
    from rich.console import Console

    content, names = copy(content), ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
    for model in content["models"]:
        model["minus_base"]["scores"] = {name: {"won": 1049, "lost": 1234} for name in names}
        model["scores"] = dict.fromkeys(names)
    screen = io.StringIO()
    Console(file=screen, width=80, color_system=None).print(table.won_lost(content))
    shown = screen.getvalue()
    assert shown.count("1049/1234") == 6 * (len(content["models"]) - 1)
    assert "…" not in shown and max(len(line.rstrip()) for line in shown.splitlines()) <= 80


def test_what_counts_as_won_is_said_where_a_score_is_a_share(content: dict[str, Any]) -> None:
    content = copy(content)
    assert "mass" not in table.won_lost_title(content)
    content["tasks"] = {"arc": {"metric": "acc_norm"}, "truthfulqa": {"metric": "mc2"}}
    said = table.won_lost_title(content)
    assert "Of truthfulqa (mc2) a document is right where more than half of the mass" in " ".join(
        said.split()
    )
    assert max(map(len, said.splitlines())) <= 80


def test_the_base_has_a_recovery_without_an_interval(content: dict[str, Any]) -> None:
    line = next(line for line in printed(content).splitlines() if line.startswith("base"))
    assert line.split()[-1] == "100.0"
    assert "the base's own has no interval" in printed(content)


def test_no_recovery_is_said_so(content: dict[str, Any]) -> None:
    undefined = copy(content)
    for model in undefined["models"]:
        model["recovery"] = None
    assert printed(undefined).count("not defined") == len(undefined["models"])


@pytest.mark.parametrize("width", [80, 160])
def test_what_a_limit_left_out_is_told(content: dict[str, Any], width: int) -> None:
    assert "Only the first" not in printed(content, width)
    shown = printed({**content, "limit": 60}, width)
    said = "Only the first 60 documents of each task or subject are scored: not comparable with the whole"
    assert said in " ".join(shown.split())


@pytest.mark.parametrize("width", [80, 160])
def test_an_interval_without_width_is_explained(content: dict[str, Any], width: int) -> None:
    assert "without width" not in printed(content, width), "the base's own recovery has none to explain"
    perfect = copy(content)
    perfect["models"][0]["average"].update(value=1.0, low=1.0, high=1.0)
    shown = " ".join(printed(perfect, width).split())
    assert "its 370 documents agree; by the rule of three (Hanley & Lippman-Hand 1983)" in shown
    assert "up to 3/370 = 0.8 % of all may still score otherwise" in shown


@pytest.mark.parametrize(
    ("number", "said"), [(987, "987"), (65_500, "65.5k"), (1_310_000, "1.31M"), (8_030_000_000, "8.03B")]
)
def test_counts_have_three_digits(number: int, said: str) -> None:
    assert table.count(number) == said
