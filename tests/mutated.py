"""Real recipes, damaged: at the level of text and bytes, and at the level of keys and values.

For the property test of tests/test_recipe_fuzz.py and for tests/benchmarks/fuzz_recipes.py, which takes many.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

from written import SANDBOX_RECIPE

from factory.errors import FactoryError
from factory.recipe.file import read
from factory.recipe.sweep import load

ROOT = Path(__file__).parents[1]
SWEPT = SANDBOX_RECIPE + (
    "sweep: {prune.drop: [2, 4], train.lora.r: [4, 8]}\n"
    "publish: {namespace: acme, push: [own, both], license: mit}\n"
)

# What means something to YAML, to Python, to a terminal or to a shell.
TOKENS = (
    "&a ", "*a", "<<: *a\n", "!!python/object/apply:os.system [id]", "!!binary aGk=", "!!set {a, b}",
    "!local x", "{", "}", "[", "]", "? ", ": ", ":", "- ", "|\n", ">-\n", "# ", "'", '"', "---\n", "...\n",
    "%YAML 9.9\n", "%TAG ! tag:x,2000:\n", "\t", "\r", "\n", "\n  ", "\x00", "\x07", "\x1b[31m", "\x7f",
    "\x85", "\ufeff", "\u2028", "\u202e", "\ufffe", "\U0001f600", '"\\e[2J"', '"\\ud800"', '"\\0"',
    '"\\x07"', '"\\u202e"', "~", "null", "true", "no", ".nan", "-.inf", "1e999", "-1e-999", "0x",
    "0xffffffffffffffffffff", "0o17", "0b2", "1_000", "1__0", "12:30:45", "190:20:30.15", "2001-01-01",
    "2001-99-99T99:99:99Z", "9" * 400, "9" * 5000, "-0", "+1", "1.", ".5", "1e5", "../../etc", "~root",
    "$(id)", "`id`", "; rm -rf /", "${{ github.token }}", "{{ 7*7 }}", "{% raw %}", "%s%n", "sandbox/",
    "sandbox/base", "a" * 300, "é" * 70, "/", "//", "..", ".",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.5, -0.0, 1e308, 1e-320, 1.5, "",
    " ", "a", "base", "pruned", "store", "own", "both", "sandbox/base", "sandbox/math", "../..", "a/b",
    "a b", "\x1b[31m", "\x00", "\u202e", "\n", "a\nb", "${{ x }}", "{{ x }}", "{wrong}", "%s", "x" * 5000,
    "22:28", "4,7,9", "0:0", "9" * 30, "regex:(", "regex:(a+)+$", "http://[", "http://a:99999999/", [], {},
    [[]], [{}], {"a": {}}, [1, 2, 3], [2, 2], ["own", "own"], {"math": 0.5}, {"math": -1}, {"": ""},
    {"a.b": 1}, [None], [True], [1.0, 0.0],
)  # fmt: skip


def seeds() -> list[str]:
    """The recipes that stand in the repository, and one that has a sweep."""
    shipped = sorted(ROOT.glob("recipes/**/*.yaml"))
    return [SANDBOX_RECIPE, SWEPT, *(path.read_text(encoding="utf-8") for path in shipped)]


def trees(texts: list[str], folder: Path) -> list[dict[str, Any]]:
    """The same as plain values."""
    found = []
    for i, text in enumerate(texts):
        path = folder / f"seed-{i}.yaml"
        path.write_text(text, encoding="utf-8")
        found.append(read(path).data)
    return found


def damaged(random: Random, texts: list[str], values: list[dict[str, Any]]) -> bytes:
    """A recipe with one to four things done to it."""
    if random.random() < 0.5:
        return _damaged_text(random, random.choice(texts))
    tree = copy.deepcopy(random.choice(values))
    for _ in range(random.randint(1, 4)):
        _damage(random, tree)
    return json.dumps(tree, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _damaged_text(random: Random, text: str) -> bytes:
    for _ in range(random.randint(1, 4)):
        lines = text.splitlines(keepends=True) or [""]
        at, line = random.randint(0, len(text)), random.randrange(len(lines))
        to = min(len(text), at + random.randint(1, 40))
        kind = random.randrange(8)
        if kind == 0:
            text = text[:at] + random.choice(TOKENS) + text[at:]
        elif kind == 1:
            text = text[:at] + random.choice(TOKENS) + text[to:]
        elif kind == 2:
            text = text[:at] + text[to:]
        elif kind == 3:
            text = "".join([*lines[:line], lines[line], *lines[line:]])
        elif kind == 4:
            other = random.randrange(len(lines))
            lines[line], lines[other] = lines[other], lines[line]
            text = "".join(lines)
        elif kind == 5:
            text = "".join([*lines[:line], " " * random.randint(1, 5), *lines[line:]])
        elif kind == 6:
            text = text[:at] + text[at:to] * random.choice((2, 3, 40)) + text[to:]
        else:
            text = (
                text[:at] + chr(random.choice((random.randrange(128), random.randrange(0x3000)))) + text[at:]
            )
    raw = text.encode("utf-8", "surrogatepass")
    rare = random.random()
    if rare < 0.02:
        raw = text.encode(random.choice(("utf-16", "utf-32", "utf-16-le", "utf-8-sig")), "surrogatepass")
    elif rare < 0.06:
        at = random.randint(0, len(raw))
        raw = raw[:at] + bytes(random.randrange(256) for _ in range(random.randint(1, 4))) + raw[at:]
    return raw


def _damage(random: Random, tree: Any) -> None:
    """Changes something at a place drawn among all, in place."""
    places = list(_places(tree))
    holder, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0 and isinstance(holder, dict):
        holder[_key(random)] = holder.pop(key)
    elif kind == 1 and len(holder) > 0:
        del holder[key]
    elif kind == 2:
        other, its = random.choice(places)
        if not (isinstance(other, list) and its >= len(other)) and (isinstance(other, list) or its in other):
            holder[key] = copy.deepcopy(other[its])
    elif kind == 3:
        holder[key] = random.choice(([holder[key]], {_key(random): holder[key]}, [holder[key]] * 3))
    elif kind == 4 and isinstance(holder, dict):
        holder[_key(random)] = random.choice(VALUES)
    else:
        holder[key] = copy.deepcopy(random.choice(VALUES))


def _key(random: Random) -> str:
    return random.choice(
        (
            "name", "base", "model", "drop", "data", "merge", "of", "train", "sft", "lora", "rows", "sweep",
            "id", "prune.drop", "datasets.math.rows", "a", "", "\x1b[1m", "0", "x" * 200, "{key}",
            "__class__", "lambda", "weights", "t", "publish", "push", "suite", "tasks", "shots",
            "regenerate", "server", "url", "check",
        )
    )  # fmt: skip


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        found += [(tree, key) for key in tree]
        for value in tree.values():
            found += _places(value)
    elif isinstance(tree, list):
        found += [(tree, i) for i in range(len(tree))]
        for value in tree:
            found += _places(value)
    return found or [({"a": 1}, "a")]


LONGEST = 1_500  # characters of a message


def answer(path: Path, content: bytes) -> str | None:
    """What reading such a file is refused with, None where it is a recipe.

    Raises:
        AssertionError: the refusal is no line for a person.
        Exception: whatever else went wrong: a finding.
    """
    path.write_bytes(content)
    try:
        load(path)
    except FactoryError as error:
        message = str(error)
        assert error.exit_code == 2 and message.isprintable() and len(message) <= LONGEST, message[:300]
        return message
    return None
