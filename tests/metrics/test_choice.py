"""The blocks that go are the least of all that may, whatever the shape of the figures."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.metrics.choice import choose, ranking, ranking_cells, sentence

FIGURE = st.integers(0, 20).map(float)


@st.composite
def cases(draw: Any) -> tuple[int, int, tuple[int, int]]:
    blocks = draw(st.integers(2, 9))
    first = draw(st.integers(0, blocks - 1))
    last = draw(st.integers(0, blocks - 1 - first))
    return blocks, draw(st.integers(1, min(blocks - 1, blocks - first - last))), (first, last)


@given(case=cases(), data=st.data())
def test_the_least_run_goes(case: Any, data: Any) -> None:
    blocks, drop, (first, last) = case
    distances = [
        data.draw(st.lists(FIGURE, min_size=blocks - n + 1, max_size=blocks - n + 1))
        for n in range(1, blocks)
    ]
    table = {"metric": "angular", "blocks": blocks, "distances": distances}
    chosen = choose(table, drop, (first, last))
    starts = range(first, blocks - last - drop + 1)
    assert chosen.score == min(distances[drop - 1][start] for start in starts)
    assert chosen.blocks == tuple(range(chosen.blocks[0], chosen.blocks[0] + drop))
    assert first <= chosen.blocks[0] and chosen.blocks[-1] < blocks - last
    columns = ranking(table, drop, (first, last), chosen.blocks)
    assert sum(row["removed"] for column in columns for row in column["rows"]) == 1
    assert len({len(line) for line in ranking_cells(columns)}) == 1


@given(case=cases(), data=st.data())
def test_the_least_set_of_blocks_goes(case: Any, data: Any) -> None:
    blocks, drop, (first, last) = case
    scores = data.draw(st.lists(FIGURE, min_size=blocks, max_size=blocks))
    table = {"metric": "block_influence", "blocks": blocks, "scores": scores}
    chosen = choose(table, drop, (first, last))
    sums = [sum(scores[b] for b in some) for some in combinations(range(first, blocks - last), drop)]
    assert chosen.score == sum(scores[b] for b in chosen.blocks) == min(sums)
    assert sorted(set(chosen.blocks)) == list(chosen.blocks) and len(chosen.blocks) == drop


STEPS = {"metric": "perplexity_iterative", "blocks": 8, "order": [5, 2, 6], "scores": [0.5, 1.25, 4.0]}


def test_an_order_is_followed() -> None:
    assert choose(STEPS, 1).blocks == (5,)
    assert choose(STEPS, 2) == choose(STEPS, 2, (2, 1))
    assert (choose(STEPS, 3).blocks, choose(STEPS, 3).score) == ((2, 5, 6), 4.0)
    said = sentence(STEPS, choose(STEPS, 2))
    assert said == (
        "removed one by one, blocks 2 and 5, 0-based, of 8, have the least increase of perplexity: "
        "1.25 together"
    )
    heads, *lines = ranking_cells(ranking(STEPS, 2, removed=(2, 5)))
    assert heads[1:] == ["block, in order of removal", "increase of perplexity so far"]
    assert lines == [
        ["1", "5 (chosen)", "0.5"], ["2", "2 (chosen)", "1.25"], ["3", "6", "4"],
    ]  # fmt: skip


@pytest.mark.parametrize(("drop", "exclude"), [(4, (0, 0)), (2, (3, 0)), (1, (0, 3))])
def test_an_order_that_does_not_fit_is_refused(drop: int, exclude: tuple[int, int]) -> None:
    with pytest.raises(FactoryError, match="order of 3 removals that does not fit"):
        choose(STEPS, drop, exclude)


@pytest.mark.parametrize(
    ("drop", "exclude", "said"),
    [
        (8, (0, 0), r"^8 blocks cannot be removed from 8\. Remove from 1 to 7\.$"),
        (6, (2, 1), r"2 at the beginning and 1 at the end stay\. Remove from 1 to 5\.$"),
        (1, (4, 4), r"Exclude fewer\.$"),
    ],
)
def test_more_than_may_go_is_refused(drop: int, exclude: tuple[int, int], said: str) -> None:
    with pytest.raises(FactoryError, match=said):
        choose({"metric": "taylor", "blocks": 8, "scores": [0.0] * 8}, drop, exclude)
