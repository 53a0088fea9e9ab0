"""The config of the pruned model: every field that depends on a block's index, rewritten for those kept.

Between architectures.py, which says what the fields mean, and surgery.py, which writes the result. Patterns
(every n-th, the first k, a window's rhythm) are unrolled into explicit lists, so that stock transformers
gives each kept block the kind it had; what cannot be said in the family's own fields is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.architectures import Architecture, block_count
from factory.models.fields import (
    EVERYWHERE,
    FIELDS,
    Behind,
    Between,
    EveryNth,
    Field,
    Keyed,
    Leading,
    Nested,
    Renumbered,
    Repeated,
    Rhythm,
    Sliced,
    Unmovable,
    partners,
    unread_beside,
)

# What families call blocks that see the whole context.
FULL = ("full_attention", "attention", "global", "hybrid")
# Names code of the base's own, written for its number and order of blocks. Transformers does without it.
LEFT_OUT = ("auto_map",)


def pruned_config(
    config: Mapping[str, Any], row: Architecture, where: Path, kept: Sequence[int]
) -> dict[str, Any]:
    """config.json of the model with only the blocks in `kept`, each of the kind it has in the base.

    A field that the family reads and config.json does not write is derived by transformers for the whole
    model first, because a default that follows the index or the count would be another one afterwards.

    Args:
        config: the parsed config.json of the base.
        row: its family.
        where: the model folder, for messages.
        kept: the indices of the kept blocks, in ascending order.

    Raises:
        FactoryError: a field that does not fit the number of blocks, a pattern that the kept blocks do not
            follow and that cannot be written out, or a hybrid model that would lose its last block with full
            attention.
    """
    pruned = {key: value for key, value in config.items() if key not in LEFT_OUT}
    derived: list[Any] = []

    def stock(key: str) -> Any:
        if not derived:
            from factory.models.beyond import resolved

            derived.append(resolved(config, where))
        return getattr(derived[0], key, None)

    def value_of(key: str) -> Any:
        written = config.get(key)
        if written is None and (key in row.per_block or key not in EVERYWHERE):
            return stock(key)
        # Llama 4 is published with an empty list, for which transformers puts one of its own.
        return stock(key) if written == [] and isinstance(FIELDS.get(key), Sliced) else written

    blocks = block_count(config, row, where)
    for key in (row.count, "num_hidden_layers"):
        if key in pruned:
            pruned[key] = len(kept)
    keys = [key for key in FIELDS if key in row.per_block or key in EVERYWHERE]
    values: dict[str, Any] = {key: value_of(key) for key in keys}
    for key in keys:
        field, value = FIELDS[key], values[key]
        if value is None and not isinstance(field, EveryNth):
            continue
        if not _fits(field, value):
            what = f"{key} is {value!r}, which says nothing about blocks"
            raise FactoryError(what, where=str(where / "config.json"), mend="Fetch the model again")
        if isinstance(field, EveryNth):
            values[field.exceptions] = _exceptions(value or 1, values.get(field.exceptions) or [], blocks)
            pruned[key] = 1
            continue
        if isinstance(field, Rhythm | Between):
            names = (key, *partners(field))
            numbers = [value, *map(value_of, names[1:])]
            found = _PATTERNS[type(field)](numbers, kept, blocks)
            if found is None:
                told = ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))
                raise FactoryError(
                    "the kept blocks would lose their kinds: the family can only say them by a pattern "
                    f"({told}), and none fits what would be left",
                    where=str(where),
                    mend="Drop other blocks; whole periods of the pattern fit it, for instance",
                )
            pruned.update(zip(names, found, strict=True))
            continue
        if isinstance(field, Sliced) and len(value) != blocks:
            raise FactoryError(
                f"{key} has {len(value)} entries for {blocks} blocks",
                where=str(where / "config.json"),
                mend="Fetch the model again",
            )
        for old in unread_beside(field):
            pruned.pop(old, None)
        pruned[key] = _REWRITE[type(field)](value, kept)
    kinds = values.get("layer_types") or values.get("attention_layers")
    if kinds is None and not row.listed:
        kinds = stock("layer_types")
    _keep_full_attention(kinds or [], kept, where)
    return pruned


def _fits(field: Field, value: Any) -> bool:
    return value is None or isinstance(value, _TYPES.get(type(field), object))


def _exceptions(step: int, listed: Sequence[int], blocks: int) -> list[int]:
    """The blocks, in the base's numbering, that are not of the kind which every `step`-th block has."""
    return [block for block in range(blocks) if block in listed or (block + 1) % step]


def _sliced(value: Sequence[Any], kept: Sequence[int]) -> list[Any]:
    return [value[block] for block in kept]


def _renumbered(value: Sequence[int], kept: Sequence[int]) -> list[int]:
    return [place for place, block in enumerate(kept) if block in value]


def _nested(value: Sequence[tuple[Sequence[Any], int]], kept: Sequence[int]) -> list[Any]:
    kinds = [kind for part, times in value for kind in [*part] * times]
    return [[_sliced(kinds, kept), 1]]


def _keyed(value: Mapping[Any, Any], kept: Sequence[int]) -> dict[str, Any]:
    by_block = {int(key): settings for key, settings in value.items() if str(key).isdigit()}
    return {str(place): by_block[block] for place, block in enumerate(kept) if block in by_block}


def _leading(value: int, kept: Sequence[int]) -> int:
    """How many of the leading blocks are kept: they stay in front, so a number still says it."""
    return sum(block < value for block in kept)


def _rhythm(numbers: Sequence[int], kept: Sequence[int], blocks: int) -> tuple[int, int] | None:
    """Period and offset by which the kept blocks have the kinds they have in the base."""
    period, offset = numbers
    kinds = [block % period == offset for block in kept]
    for other in (period, *range(1, len(kept) + 2)):
        for place in range(other):
            if all((i % other == place) == kind for i, kind in enumerate(kinds)):
                return other, place
    return None


def _between(numbers: Sequence[int], kept: Sequence[int], blocks: int) -> tuple[int, int, int] | None:
    """Interval, first and last block by which the kept blocks have the kinds they have in the base."""
    step, start, end = numbers
    last = blocks - 1 if end == -1 else end
    places = [i for i, block in enumerate(kept) if (block + 1) % step == 0 and start <= block <= last]
    if not places:
        return step, len(kept), len(kept)
    for other in (step, *range(1, len(kept) + 1)):
        if [i for i in range(places[0], places[-1] + 1) if (i + 1) % other == 0] == places:
            return other, places[0], places[-1]
    return None


_PATTERNS: Mapping[type[Field], Callable[[Sequence[int], Sequence[int], int], tuple[int, ...] | None]] = {
    Rhythm: _rhythm,
    Between: _between,
}
_TYPES: Mapping[type[Field], type] = {
    Sliced: list, Renumbered: list, Repeated: list, Nested: list, Keyed: dict, Leading: int, EveryNth: int,
    Behind: int, Rhythm: int, Between: int,
}  # fmt: skip
_REWRITE: Mapping[type[Field], Callable[[Any, Sequence[int]], Any]] = {
    Sliced: _sliced,
    Renumbered: _renumbered,
    Repeated: lambda value, kept: [value[block % len(value)] for block in kept],
    Nested: _nested,
    Keyed: _keyed,
    Leading: _leading,
    Behind: lambda value, kept: 0,
    Unmovable: lambda value, kept: value,  # refused before, unless it is off
}


def _keep_full_attention(kinds: Sequence[str], kept: Sequence[int], where: Path) -> None:
    """Refuses to leave a hybrid model with windows or states alone: nothing would see the whole context."""
    full = [block for block, kind in enumerate(kinds) if kind in FULL]
    if not full or len(full) == len(kinds) or any(block in kept for block in full):
        return
    names = ", ".join(map(str, full))
    raise FactoryError(
        f"no block with full attention would be left (of this model they are {names})",
        where=str(where),
        mend="Keep at least one of them",
    )
