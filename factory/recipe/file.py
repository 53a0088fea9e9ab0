"""A recipe's YAML as plain values that remember their lines; `recipe.py` turns it into a Recipe.

The file comes from strangers (a pull request), so only plain YAML values are built: no tags, no objects,
and a limit on size, depth and number of values, which also stops aliases that blow up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from factory.errors import FactoryError
from factory.nearest import suggest

MAX_BYTES = 64 * 1024
MAX_VALUES = 5_000
MAX_DEPTH = 20
SWEEP = "sweep"
NAMED = ("datasets", "variants")  # their entries have a person's names: a wrong one must not make a new entry
_PLAIN = "tag:yaml.org,2002:"
_BUILT = ("null", "bool", "int", "float")  # the other plain scalar, str, keeps its text

# What the parser says of common mistakes, what that is in our words (if its own will not do), and the mend.
_BROKEN: tuple[tuple[str, str | None, str], ...] = (
    ("found another document", "a second YAML document begins here", "Keep one recipe a file, without `---`"),
    ("mapping values are not allowed", None, "Indent it as its neighbours; quote a value that holds `: `"),
    ("found character '\\t'", "a tab stands where YAML takes only spaces", "Indent with spaces"),
    ("found character '@'", None, "Quote a value that begins with `@`"),
    ("found character '`'", None, "Quote a value that begins with a backtick"),
    ("found character '%'", None, "Quote a value that begins with `%`"),
    ("found undefined alias", None, "Quote a value that begins with `*`"),
)
_BRACKETS = "Check indentation, quotes and brackets there"
Path_ = tuple[str | int, ...]  # of keys and list positions, from the top


@dataclass(frozen=True)
class RecipeFile:
    """What stands in a recipe, and where.

    Attributes:
        data: plain dicts, lists and scalars.
        places: for each path of keys, `file:line`, or the `--set` that gave the value.
        name: the file as the user wrote it, for messages.
    """

    data: dict[str, Any]
    places: Mapping[Path_, str]
    name: str

    def where(self, path: Path_) -> str:
        """The place of `path`, or of what encloses it where it is not written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.places.get((), self.name)


def read(path: Path) -> RecipeFile:
    """Reads a recipe file.

    Raises:
        FactoryError: there is no such file, or it is not a plain YAML mapping of modest size.
    """
    name = str(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting for its other end
            raise OSError(0, "it is no file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FactoryError(
            "there is no such recipe", where=name, mend="Give the path of a .yaml file"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        mend = "Give the path of a .yaml file that can be read"
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise FactoryError(f"cannot be read: {said}", where=name, mend=mend) from None
    if len(raw) > MAX_BYTES:
        mend = f"A recipe is at most {MAX_BYTES // 1024} KiB; data belongs into a dataset folder"
        raise FactoryError("the file is too large for a recipe", where=name, mend=mend)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FactoryError("not UTF-8 text", where=f"{name}:{line}", mend="Save it as UTF-8") from None
    node = _compose(text, name)
    if not isinstance(node, MappingNode):
        mend = "Start it with lines such as `name: my-recipe`"
        raise FactoryError("a recipe is a mapping of keys to values", where=f"{name}:1", mend=mend)
    builder = _Builder(name)
    data = builder.build(node, ())
    return RecipeFile(data, builder.places, name)


def apply_overrides(file: RecipeFile, assignments: Iterable[str]) -> RecipeFile:
    """The recipe with `key.key=value` assignments laid over it; values are YAML.

    Args:
        file: the recipe as written; it is not changed.
        assignments: such as `prune.drop=3` or `variants.math-self.train.sft.learning_rate=1e-4`.

    Raises:
        FactoryError: an assignment is malformed, or leads through something that does not exist.
    """
    data, places = deepcopy(file.data), dict(file.places)
    for assignment in assignments:
        origin = f"--set {assignment}"
        key, equals, value_text = assignment.partition("=")
        path = path_of(key)
        if not equals or not all(path):
            raise FactoryError("not an assignment", where=origin, mend="Write --set key.key=value")
        builder = _Builder(origin, lines=False)
        value = builder.build(_compose(value_text, origin, lines=False), path)
        _put(data, places, path, value, origin)
        places |= builder.places | {path: origin}
    return RecipeFile(data, places, file.name)


def lay_over(file: RecipeFile, values: Mapping[str, tuple[Any, str]]) -> RecipeFile:
    """The recipe with values laid over it.

    Args:
        file: the recipe as written; it is not changed.
        values: by dotted key, the value and the place to blame for it.

    Raises:
        FactoryError: a key leads through something that does not exist.
    """
    data, places = deepcopy(file.data), dict(file.places)
    for key, (value, origin) in values.items():
        _put(data, places, path_of(key), deepcopy(value), origin)
    return RecipeFile(data, places, file.name)


def fold_rows(file: RecipeFile) -> RecipeFile:
    """The recipe with every `rows: [1000, 4000]` of a dataset moved into its sweep, lines and all.

    Raises:
        FactoryError: the sweep has those rows already, or is no mapping.
    """
    datasets, data, places = file.data.get("datasets"), deepcopy(file.data), dict(file.places)
    for name, written in datasets.items() if isinstance(datasets, dict) else ():
        if not isinstance(written, dict) or not isinstance(written.get("rows"), list):
            continue
        path, key = ("datasets", name, "rows"), f"datasets.{name}.rows"
        sweep = data.setdefault(SWEEP, {})
        if not isinstance(sweep, dict) or key in sweep:
            what = f"{key} is a list, which is a sweep, and the recipe's `sweep` "
            what += "sets it too" if isinstance(sweep, dict) else "is no mapping"
            raise FactoryError(what, where=file.where(path), mend="Write the values in one of the two")
        sweep[key] = data["datasets"][name].pop("rows")
        places.setdefault((SWEEP,), file.where(path))
        for old in [p for p in places if p[:3] == path]:
            places[(SWEEP, key, *old[3:])] = places.pop(old)
    return RecipeFile(data, places, file.name)


def path_of(key: str) -> tuple[str, ...]:
    """A dotted key as the path of its parts; behind `sweep.` stands one part, itself a key."""
    first, _, rest = key.strip().partition(".")
    return (first, rest) if first == SWEEP and rest else tuple(key.strip().split("."))


def _put(
    data: dict[str, Any], places: dict[Path_, str], path: tuple[str, ...], value: Any, origin: str
) -> None:
    """Puts a value at a path, making the mappings on the way, and forgets the lines of what stood there."""
    target: Any = data
    for depth, part in enumerate(path[:-1]):
        if depth == 1 and path[0] in NAMED and part not in target:
            raise FactoryError(f"there is no '{part}' in {path[0]}", where=origin, mend=suggest(part, target))
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            what = f"'{'.'.join(path[: depth + 1])}' is a value, not a mapping with keys"
            raise FactoryError(what, where=origin, mend="Set the whole value instead")
        places.setdefault(path[: depth + 1], origin)
    for old in [p for p in places if p[: len(path)] == path]:
        del places[old]
    target[path[-1]] = value
    places[path] = origin


def _compose(text: str, name: str, lines: bool = True) -> Node | None:
    try:
        _check_depth(text, name, lines)
        return YAML(typ="safe", pure=True).compose(StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if lines and mark else name
        what = f"broken YAML, {error.problem or error.context}"
        said, mend = next((told for sign, *told in _BROKEN if sign in what), (what, _BRACKETS))
        raise FactoryError(said or what, where=where, mend=mend) from None
    except (YAMLError, ValueError) as error:
        what = f"broken YAML, {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise FactoryError(what, where=name, mend="A recipe is plain YAML text") from None


def _check_depth(text: str, name: str, lines: bool) -> None:
    """Refuses deep nesting on the stream of events: composing nodes recurses, slowly, down to a crash."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(StringIO(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            where = f"{name}:{event.start_mark.line + 1}" if lines else name
            raise FactoryError("nested too deep for a recipe", where=where, mend="Check the brackets there")


class _Builder:
    """Turns YAML nodes into plain values and notes where each stands."""

    def __init__(self, name: str, lines: bool = True) -> None:
        self.places: dict[Path_, str] = {}
        self._name, self._lines, self._left = name, lines, MAX_VALUES
        self._constructor = YAML(typ="safe", pure=True).constructor

    def _place(self, node: Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}" if self._lines else self._name

    def build(self, node: Node | None, path: Path_) -> Any:
        if node is None:
            return None
        place = self._place(node)
        self.places.setdefault(path, place)
        self._left -= 1
        if self._left < 0 or len(path) > MAX_DEPTH:
            what = "too many values" if self._left < 0 else "nested too deep"
            raise FactoryError(f"{what} for a recipe", where=place, mend="Check the aliases (*name) there")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            self._refuse_tag(node, ("seq",))
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, place)

    def _refuse_tag(self, node: Node, allowed: tuple[str, ...]) -> None:
        tag = str(node.tag)
        if tag not in {_PLAIN + name for name in allowed}:
            what = f"the YAML tag {tag.replace(_PLAIN, '!!')} has no place in a recipe"
            raise FactoryError(what, where=self._place(node), mend="Write a plain value")

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        self._refuse_tag(node, ("map",))
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, ScalarNode):
                raise FactoryError("a key must be a plain word", where=place, mend="Name it in one word")
            key = key_node.value
            if key in values:
                inside = f" in {'.'.join(map(str, path))}" if path else ""
                what = f"'{key}' is there twice{inside}"
                raise FactoryError(what, where=place, mend="Rename or remove one of them")
            self.places[(*path, key)] = place
            values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: Node, place: str) -> Any:
        self._refuse_tag(node, (*_BUILT, "str", "timestamp"))
        if str(node.tag).removeprefix(_PLAIN) not in _BUILT:
            return node.value
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, YAMLError):
            mend = "Write a plain number, or quote it if it is text"
            raise FactoryError(f"'{node.value[:40]}' is not a number", where=place, mend=mend) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise FactoryError(f"'{node.value}' is not finite", where=place, mend="Write a plain number")
        return value
