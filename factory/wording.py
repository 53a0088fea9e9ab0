"""Words that several places print, so that one thing is said in one way everywhere.

Used by the stages' facts and errors, by the report's pages and pictures, and by the table in the
terminal. Plain functions; nothing is loaded.
"""

from __future__ import annotations


def block_range(start: int, stop: int) -> str:
    """The run of blocks [start, stop) with both ends included: `4..6`; `4` for a single block."""
    return str(start) if stop - start == 1 else f"{start}..{stop - 1}"


def blocks_of(start: int, stop: int, blocks: int) -> str:
    """The run [start, stop) of a model with that many blocks: `blocks 4..6, 0-based, of 12`."""
    word = "block" if stop - start == 1 else "blocks"
    return f"{word} {block_range(start, stop)}, 0-based, of {blocks}"


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`; for nouns that take an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
