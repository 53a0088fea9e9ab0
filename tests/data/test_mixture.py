"""Shares and numbers of rows: as near to the shares as whole rows allow, and never fewer for more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.data.mixture import apportion, are_shares, largest, rows_of

shares = st.dictionaries(
    st.sampled_from("abcdefg"), st.floats(0.01, 10) | st.sampled_from([0.5, 1.0, 2.0]), min_size=1
)


@given(shares, st.integers(0, 400))
def test_all_rows_are_handed_out_near_their_shares(of: dict[str, float], total: int) -> None:
    counts = apportion(of, total)
    assert sum(counts.values()) == total and list(counts) == list(of)
    for name, count in counts.items():
        assert abs(count - total * of[name] / sum(of.values())) < len(of)


@given(shares, st.integers(0, 200))
def test_a_larger_mix_holds_the_smaller(of: dict[str, float], total: int) -> None:
    smaller, larger = apportion(of, total), apportion(of, total + 1)
    assert all(smaller[name] <= larger[name] for name in of)


@given(shares, st.data())
def test_the_largest_mix_is_there_and_one_row_more_is_not(of: dict[str, float], data: st.DataObject) -> None:
    available = {name: data.draw(st.integers(1, 60)) for name in of}
    total = largest(of, available)
    assert all(count <= available[name] for name, count in apportion(of, total).items())
    assert any(count > available[name] for name, count in apportion(of, total + 1).items())


@pytest.mark.parametrize(
    ("data", "total", "limits", "expected"),
    [
        (("a", "b"), None, {"a": 5, "b": None}, {"a": 5, "b": None}),
        ({"a": 3, "b": 4}, None, {"a": None, "b": 9}, {"a": 3, "b": 4}),
        ({"a": 0.75, "b": 0.25}, 8, {"a": None, "b": None}, {"a": 6, "b": 2}),
        ({"a": 3.0, "b": 1.0}, None, {"a": 30, "b": 4}, {"a": 14, "b": 4}),
        ({"a": 3.0, "b": 1.0}, None, {"a": 30, "b": None}, None),
    ],
)
def test_how_many_rows_a_variant_takes(data, total, limits, expected) -> None:  # type: ignore[no-untyped-def]
    assert rows_of(data, total, limits) == expected


def test_shares_are_numbers_with_a_point() -> None:
    assert are_shares({"a": 1.0}) and not are_shares({"a": 1}) and not are_shares(("a",))
