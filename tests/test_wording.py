"""One way to say a range of blocks, a number of things, and an interval without width."""

from __future__ import annotations

import pytest

from factory.wording import block_range, blocks_of, counted


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
