"""Named streams: the same everywhere and for ever, and apart from each other."""

from __future__ import annotations

from factory.seeds import stream


def test_a_stream_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Another number here would change every published result of every recipe."""
    assert stream(0, "train", "math-sft") == 1958624168


def test_streams_are_told_apart_by_seed_name_and_where_names_end() -> None:
    names = [(), ("a", "bc"), ("ab", "c"), ("abc",), ("1:a",)]
    seeds = [stream(seed, *several) for seed in (0, 1) for several in names]
    assert len(set(seeds)) == len(seeds)


def test_every_library_takes_them() -> None:
    assert all(0 <= stream(seed, "x") < 2**31 for seed in (0, 1, -1, 2**40) for _ in range(3))
    assert max(stream(i, "x") for i in range(200)) > 2**30, "and all their bits are used"
