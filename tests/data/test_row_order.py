"""The drawn order: every row once, the same everywhere, and each beginning a sample of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.row_order import ByRank, drawn, rank


def test_ranks_are_the_same_everywhere() -> None:
    assert [rank(0, row) for row in range(3)] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip  # SplitMix64's published first outputs for the seed 0


@given(st.integers(0, 2**31 - 1))
def test_no_two_rows_have_one_rank(seed: int) -> None:
    assert len({rank(seed, row) for row in range(2_000)}) == 2_000


@pytest.mark.parametrize("held", [3, 1_000])
def test_rows_come_out_by_rank_whether_or_not_they_fit_into_memory(held: int, tmp_path: Path) -> None:
    ranks = [rank(7, row) for row in range(300)]
    rows = ByRank(tmp_path / "order", held)
    for row, place in enumerate(ranks):
        rows.add(place, {"text": f"ä {row}"})
    assert [row["text"] for row in rows.rows()] == [
        f"ä {row}" for row in sorted(range(300), key=ranks.__getitem__)
    ]
    assert (tmp_path / "order").exists() == (held == 3)


def test_an_order_is_a_fair_draw() -> None:
    """Of 10,000 rows the first 1,000 hold about as many of each tenth of the files; another seed, others."""
    first = sorted(range(10_000), key=lambda row: rank(3, row))[:1_000]
    tenths = [sum(row // 1_000 == tenth for row in first) for tenth in range(10)]
    assert min(tenths) > 70 and max(tenths) < 130
    other = sorted(range(10_000), key=lambda row: rank(4, row))[:1_000]
    assert 50 < len({*first} & {*other}) < 150


@given(rows=st.integers(0, 60), count=st.integers(1, 70), seed=st.integers(0, 9))
def test_drawn_rows_are_those_of_least_rank_in_file_order(rows: int, count: int, seed: int) -> None:
    found = drawn(((place, {"row": place}) for place in range(rows)), seed, count)
    wanted = sorted(sorted(range(rows), key=lambda place: rank(seed, place))[:count])
    assert found == [(place, {"row": place}) for place in wanted]
