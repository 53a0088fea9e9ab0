"""One way to say a range of blocks, a number of things, and an interval without width."""

from __future__ import annotations

import pytest

from factory.wording import block_range, blocks_of, counted, duration, has_no_width, limited, rule_of_three


@pytest.mark.parametrize(
    ("start", "stop", "said"),
    [
        (5, 7, "blocks 5..6, 0-based, of 12"),
        (0, 3, "blocks 0..2, 0-based, of 12"),
        (11, 12, "block 11, 0-based, of 12"),
    ],
)
def test_a_range_names_its_last_block(start: int, stop: int, said: str) -> None:
    assert blocks_of(start, stop, 12) == said
    assert f" {block_range(start, stop)}," in said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2000, "2,000 rows")]
)
def test_one_thing_is_no_plural(number: int, said: str) -> None:
    assert counted(number, "row") == said


def test_a_limit_is_said_in_the_singular_too() -> None:
    assert limited(1).startswith("Only the first document of each task or subject is scored")
    assert limited(2000).startswith("Only the first 2,000 documents of")


def test_an_interval_has_no_width_when_all_that_was_drawn_agrees() -> None:
    assert has_no_width({"low": 1.0, "high": 1.0})
    assert not has_no_width({"low": -0.0004, "high": 0.0004})
    assert not has_no_width({"low": 0.999, "high": 1.0})
    assert has_no_width({"value": 1.0, "low": 1.0, "high": 1.0})
    # One MMLU subject all right, another all wrong: documents do not agree.
    assert not has_no_width({"value": 0.5, "low": 0.5, "high": 0.5})


@pytest.mark.parametrize(
    ("n", "said"),
    [(60, "3/60 = 5.0 %"), (1172, "3/1,172 = 0.3 %"), (4, "3/4 = 75.0 %"), (2, "100 %")],
)
def test_the_rule_of_three(n: int, said: str) -> None:
    assert rule_of_three(n) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.97, "1 min 00 s"), (185, "3 min 05 s"), (7799, "2 h 09 min")],
)
def test_a_duration_has_no_sixty_seconds(seconds: float, said: str) -> None:
    assert duration(seconds) == said
