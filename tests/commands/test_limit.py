"""A limit on what a plan may cost is kept and told, or refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from written import SANDBOX_RECIPE, write

from factory.cli import call


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return ["plan", str(write(tmp_path, SANDBOX_RECIPE)), "--runs-dir", str(tmp_path / "runs")]


def test_a_gpu_that_nobody_knows_is_refused_without_a_limit_too(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*command, "--gpu", "H10"]) == 2
    assert capsys.readouterr().err.startswith("error: --gpu: there is no price of a GPU 'H10'. Write 'H100'")


def test_a_limit_that_is_kept_is_told(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    limited = [*command, "--max-cost", "50"]
    assert call([*limited, "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)["limit"]
    assert (kept["max_cost"], kept["gpu"]) == (50, "A100 80GB") and 0 < kept["at_most"] < 50
    said = f"at most {kept['at_most']:,.2f} of 50 dollars on one A100 80GB"
    assert call(limited) == 0
    assert said in capsys.readouterr().out.splitlines()
    assert call([*limited, "--markdown"]) == 0
    assert said in capsys.readouterr().out.splitlines()


def test_without_a_limit_none_is_told(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command) == 0
    assert "at most" not in capsys.readouterr().out


def test_a_small_limit_is_not_printed_as_nothing(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*command, "--max-cost", "0.00001"]) == 2
    assert capsys.readouterr().err.partition(". ")[0].endswith(", more than 0.00001")


@pytest.mark.parametrize("amount", ["nan", "inf", "-5.0"])
def test_what_is_no_amount_is_refused(
    amount: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*command, "--max-cost", amount]) == 2
    assert capsys.readouterr().err == (
        f"error: --max-cost: '{amount}' is no amount of dollars. "
        "Write a plain number, such as 50, or leave the limit out.\n"
    )
