"""Blocks as people write and read them."""

from __future__ import annotations

import pytest

from factory.errors import FactoryError
from factory.models.blocks import in_words, parse


@pytest.mark.parametrize(
    ("text", "blocks"),
    [("22:28", (22, 23, 24, 25, 26, 27)), ("4,7,9", (4, 7, 9)), ("9, 0:2,1", (0, 1, 9)), ("5", (5,))],
)
def test_written(text: str, blocks: tuple[int, ...]) -> None:
    assert parse(text) == blocks


@pytest.mark.parametrize("text", ["", "3:3", "5:2", "a", "-1", "1,,2", "1:2:3", "0:99999999999", "1.5", ":4"])
def test_nonsense_says_how_to_write_it(text: str) -> None:
    with pytest.raises(FactoryError, match="Write a half-open range such as 22:28"):
        parse(text)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([22, 23, 24, 25, 26, 27], "blocks 22..27, 0-based, of 32"),
        ([5], "block 5, 0-based, of 32"),
        ([9, 4, 7], "blocks 4, 7 and 9, 0-based, of 32"),
        ([0, 1, 5, 7, 8], "blocks 0..1, 5 and 7..8, 0-based, of 32"),
    ],
)
def test_printed(blocks: list[int], words: str) -> None:
    assert in_words(blocks, 32) == words
