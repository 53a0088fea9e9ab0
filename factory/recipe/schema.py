"""The JSON Schema of a recipe, for editors that complete and check YAML: `factory schema` prints it.

Made from recipe.py's models, from the tables that the checks use (merge methods, check names) and from the
installed PEFT and TRL; nothing is written twice. What a schema cannot say (a name that leads nowhere, a drop
longer than the model) `factory validate` finds. `recipes/recipe.schema.json` is what this prints with the
pinned versions.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from factory import prompts
from factory.data.checks import CHECKS, REGEX
from factory.recipe.draft import TEXT
from factory.recipe.file import SWEEP
from factory.recipe.library_fields import BOUNDS, CONTROLLED, METHODS, UNUSABLE
from factory.recipe.library_sources import Form, fields, forms
from factory.recipe.recipe import Recipe
from factory.recipe.training import REPORTERS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_BLOCK = {"type": "integer", "minimum": 0}
_RANGE = r"^(?!\s*\d+\s*$)\s*\d+\s*(:\s*\d+\s*)?(,\s*\d+\s*(:\s*\d+\s*)?)*$"
# Forms by the words that `library_sources` has for them.
_FORMS: Mapping[str, dict[str, Any]] = {
    "a whole number": {"type": "integer"},
    "a number": {"type": "number"},
    "true or false": {"type": "boolean"},
    "text": {"type": "string"},
    "a mapping of keys to values": {"type": "object"},
    "null": {"type": "null"},
}


def schema() -> dict[str, Any]:
    """The schema, as plain JSON values."""
    made = Recipe.model_json_schema()
    parts = made["$defs"]
    parts["Prune"]["properties"]["drop"] = {
        "description": 'How many blocks go, or which: 6, [4, 7, 9] or "22:28" for blocks 22 to 27.',
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "array", "items": _BLOCK, "minItems": 1, "uniqueItems": True},
            {"type": "string", "pattern": _RANGE},
        ],
    }
    rows = {"type": "integer", "minimum": 1}
    parts["Dataset"]["properties"]["rows"] = {
        "description": "So many rows; a list of numbers is a sweep.",
        "anyOf": [rows, {"type": "array", "items": rows, "minItems": 1}, {"type": "null"}],
    }
    parts["Dataset"]["properties"]["prompt"] = {"enum": list(prompts.KINDS)}
    parts["PromptSet"]["properties"]["prompt"] = {"enum": [*prompts.KINDS, TEXT, None], "default": None}
    parts["Dataset"]["properties"]["check"] = {
        "description": "What of a response must be as in the original; regex:<pattern> compares its group.",
        "anyOf": [{"enum": list(CHECKS)}, {"type": "string", "pattern": f"^{REGEX}"}],
        "default": "none",
    }
    parts["Evaluate"]["properties"]["suite"] = {"type": "string", "examples": ["openllm_v1", "sandbox_v1"]}
    for kind in ("lora", "sft"):
        parts["Train"]["properties"][kind] = _library(kind)
    amount = {"type": "number", "exclusiveMinimum": 0}
    parts["TrainedVariant"]["properties"]["data"] = {
        "oneOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {"type": "object", "additionalProperties": amount, "minProperties": 1},
        ]
    }
    _merges(parts["MergedVariant"])
    _served(parts["Regenerate"])
    _swept(made)
    for part in (made, *parts.values()):
        _tidy(part)
    return {"$schema": DRAFT, "title": "A recipe of the model factory", **made}


def _tidy(part: dict[str, Any]) -> None:
    """What an editor shows: a sentence for the part, one for each key that has one, no names of classes."""
    part.pop("title", None)
    told, _, listed = part.pop("description", "").partition("\n\nAttributes:\n")
    said = {}
    for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", listed, re.MULTILINE):
        said[name] = " ".join(text.split())
    if told and "properties" in part and part.get("required") != ["name"]:
        part["description"] = " ".join(told.split())
    for name, key in part.get("properties", {}).items():
        key.pop("title", None)
        if key.get("default", 0) is None or isinstance(key.get("default"), dict):
            key.pop("default")  # null and `{}` tell nobody anything
        if name in said:
            key["description"] = said[name][0].upper() + said[name][1:]
        if "patternProperties" in key:
            key["additionalProperties"] = False
        for form in (key, *key.get("anyOf", ()), *key.get("oneOf", ())):
            if form.get("items") == {"type": "string"}:
                form["uniqueItems"] = True


def _served(part: dict[str, Any]) -> None:
    """A server goes with the engine that asks one, and with no other."""
    engine = {"properties": {"engine": {"const": "openai"}}, "required": ["engine"]}
    part["if"], part["then"] = engine, {"required": ["server"]}
    part["else"] = {"properties": {"server": {"type": "null"}}}


def _library(kind: str) -> dict[str, Any]:
    """The fields of PEFT's or TRL's class that a recipe may set; any where the library is not installed."""
    found = {
        name: _field(name, annotation)
        for name, annotation in fields(kind).items()
        if name not in CONTROLLED[kind]
    }
    owner = {"lora": "PEFT's LoraConfig", "sft": "TRL's SFTConfig"}[kind]
    made: dict[str, Any] = {"type": "object", "description": f"Fields of {owner}."}
    return (
        {**made, "properties": dict(sorted(found.items())), "additionalProperties": False} if found else made
    )


def _field(name: str, annotation: ast.expr) -> dict[str, Any]:
    if name == "report_to":
        word = {"enum": [*REPORTERS, "none"]}
        return {"anyOf": [word, {"type": "array", "items": word}, {"type": "null"}]}
    allowed = [_form(name, form) for form in forms(annotation)]
    kinds = [form for i, form in enumerate(allowed) if form not in allowed[:i]]
    said = {"description": BOUNDS[name].said} if name in BOUNDS else {}
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}), **said}


def _form(name: str, form: Form) -> dict[str, Any]:
    words = [word for word in form.words if word not in UNUSABLE.get(name, {})]
    if any(isinstance(word, str) and "[" in word for word in words):  # a word with a free end
        return {"type": ["string", "boolean"]}
    if words:
        return {"enum": words}
    return dict(_FORMS.get(form.said, {"type": "array"}))


def _merges(part: dict[str, Any]) -> None:
    """Which parameters each merge method needs and takes."""
    part["properties"]["merge"] = {"enum": list(METHODS)}
    parameters = {"t", "weights", "density", "normalize", "rescale", "lambda"}
    part["allOf"] = [
        {
            "if": {"properties": {"merge": {"const": name}}},
            "then": {
                "required": list(method.required),
                "properties": {
                    other: {"type": "null"}
                    for other in sorted(parameters - {*method.required, *method.optional})
                },
            },
        }
        for name, method in METHODS.items()
    ]


def _swept(made: dict[str, Any]) -> None:
    """What stands in a sweep need not be written besides."""
    must = made.pop("required")
    prune = made["$defs"]["Prune"]
    inside = prune.pop("required")
    made["properties"][SWEEP] = {
        "description": "By dotted key the values of a run each: {prune.drop: [2, 4, 6]}.",
        "type": "object",
        "additionalProperties": {"type": "array", "minItems": 1, "uniqueItems": True},
    }
    made["required"] = ["name"]
    made["if"] = {"required": [SWEEP], "properties": {SWEEP: {"minProperties": 1}}}
    made["else"] = {"required": must, "properties": {"prune": {"required": inside}}}


def text() -> str:
    """The schema as it stands in a file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
