"""The fields of PEFT's LoraConfig and TRL's SFTConfig: their names, and the forms their values may have.

`library_fields.py` asks here. All is read from the installed sources (importing the libraries takes
seconds), so it is that of the version that will do the work.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

# (package, file, class), base classes first, as a dataclass inherits its fields.
_SOURCES = {
    "lora": (("peft", "tuners/lora/config.py", "LoraConfig"),),
    "sft": (
        ("transformers", "training_args.py", "TrainingArguments"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("trl", "trainer/sft_config.py", "SFTConfig"),
    ),
}
# Enums of names; a field of one of them also takes the plain name.
_ENUMS = {
    "OptimizerNames": ("transformers", "training_args.py"),
    "SchedulerType": ("transformers", "trainer_utils.py"),
    "SaveStrategy": ("transformers", "trainer_utils.py"),
}


@dataclass(frozen=True)
class Form:
    """One form that a value may have.

    Attributes:
        said: the form in a person's words.
        fits: whether a value has it.
        words: where only these values will do.
    """

    said: str
    fits: Callable[[Any], bool]
    words: tuple[Any, ...] = ()


def _instance(said: str, *types: type) -> Form:
    # A bool is an int to Python, not to a reader of recipes.
    return Form(said, lambda value: isinstance(value, types) and (isinstance(value, bool) == (bool in types)))


_PLAIN: Mapping[str, Form] = {
    "int": _instance("a whole number", int),
    "float": _instance("a number", int, float),
    "bool": _instance("true or false", bool),
    "str": _instance("text", str),
    "dict": _instance("a mapping of keys to values", dict),
    "None": _instance("null", type(None)),
}


@lru_cache
def fields(kind: str) -> Mapping[str, ast.expr]:
    """Field names of `lora` or `sft` with their annotations; empty if the library is not installed."""
    found: dict[str, ast.expr] = {}
    for package, file, name in _SOURCES[kind]:
        body = _class_body(package, file, name)
        if body is None:
            return {}
        for item in body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                found[item.target.id] = item.annotation
    return found


def forms(annotation: ast.expr) -> list[Form]:
    """The forms that an annotation allows; none where it names a type that is not plain."""
    parts = list(_alternatives(annotation))
    if any(ast.unparse(part) in _ENUMS for part in parts):
        parts = [part for part in parts if ast.unparse(part) != "str"]
    found = [_form(part) for part in parts]
    return [form for form in found if form] if all(found) else []


@lru_cache
def _class_body(package: str, file: str, name: str) -> list[ast.stmt] | None:
    tree = _tree(package, file)
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef)) if tree else ()
    return next((node.body for node in classes if node.name == name), None)


@lru_cache
def _tree(package: str, file: str) -> ast.Module | None:
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    if spec is None or spec.origin is None:
        return None
    return ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))


def _alternatives(annotation: ast.expr) -> Iterable[ast.expr]:
    """The members of `A | B`, Union[A, B] and Optional[A], each by itself."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            members = [left, right]
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            pass
        case ast.Subscript(value=ast.Name(id="Optional"), slice=member):
            members = [member, ast.Constant(None)]
        case _:
            return [annotation]
    return [part for member in members for part in _alternatives(member)]


def _form(part: ast.expr) -> Form | None:
    match part:
        case ast.Subscript(value=ast.Name(id="Literal"), slice=words):
            values = ast.literal_eval(words)
            return _one_of(values if isinstance(values, tuple) else (values,))
        case ast.Subscript(value=ast.Name(id="list"), slice=entry):
            return _list_of(forms(entry))
        case ast.Subscript(value=ast.Name(id="dict")):
            return _PLAIN["dict"]
        case ast.Name(id=name) if name in _ENUMS:
            values = _enum_values(name)
            return _one_of(values) if values else None  # another version keeps it elsewhere
    return _PLAIN.get(ast.unparse(part))


def _list_of(entries: list[Form]) -> Form:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(
            any(form.fits(entry) for form in entries) or not entries for entry in value
        )

    said = f"a list (each entry {' or '.join(form.said for form in entries)})" if entries else "a list"
    return Form(said, fits)


def _one_of(words: tuple[Any, ...]) -> Form:
    def fits(value: Any) -> bool:
        # PEFT writes a word with a free end as "pissa_niter_[number of iters]".
        free = (word.split("[")[0] for word in words if isinstance(word, str) and "[" in word)
        known = any(type(value) is type(word) and value == word for word in words)
        return known or any(isinstance(value, str) and value.startswith(start) for start in free)

    return Form(f"one of {', '.join(map(str, words))}", fits, words)


def _enum_values(name: str) -> tuple[str, ...]:
    body = _class_body(*_ENUMS[name], name) or []
    return tuple(
        item.value.value
        for item in body
        if isinstance(item, ast.Assign)
        and isinstance(item.value, ast.Constant)
        and isinstance(item.value.value, str)
    )
