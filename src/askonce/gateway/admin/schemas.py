"""The JSON Schemas of the API: a check of values, for the part of JSON Schema that it uses; schemas of its results."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from datetime import date
from typing import Any

Schema = dict[str, Any]
_TYPES: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


def problem(schema: Schema, value: Any) -> str:
    """What is wrong with a value, as the end of a sentence that begins with its name; "" if nothing."""
    if "anyOf" in schema:
        found = [problem(one, value) for one in schema["anyOf"]]
        return found[-1] if all(found) else ""
    if "not" in schema:  # of null alone
        return "is null" if value is None else ""
    kind = _TYPES.get(schema.get("type", ""))
    value = taken(schema, value)
    if kind is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        return f"is no {schema['type']}{_example(schema)}"
    if "const" in schema and value is not schema["const"]:
        return f"is {value}: write {json.dumps(schema['const'])}"
    if isinstance(value, str):
        return _text_problem(schema, value)
    if isinstance(value, list):
        return _list_problem(schema, value)
    if isinstance(value, dict):
        return _members_problem(schema, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _number_problem(schema, value)
    return ""


def taken(schema: Schema, value: Any) -> Any:
    """A value as Python has it: JSON also writes a whole number as 85.0."""
    kinds = [one.get("type") for one in schema.get("anyOf", [schema])]
    return int(value) if "integer" in kinds and isinstance(value, float) and value.is_integer() else value


def _text_problem(schema: Schema, value: str) -> str:
    if "enum" in schema and value not in schema["enum"]:
        return f"is none of {', '.join(schema['enum'])}"
    if len(value) < schema.get("minLength", 0):
        return f"is empty{_example(schema)}"
    if len(value) > schema.get("maxLength", len(value)):
        return f"has {len(value)} characters: write at most {schema['maxLength']}"
    # Not search: in Python, `$` also matches before an end of line.
    if "pattern" in schema and not re.fullmatch(schema["pattern"].removeprefix("^").removesuffix("$"), value):
        return f"has not the right form{_example(schema)}"
    if schema.get("format") == "date" and _day(value) is None:
        return f"is no date{_example(schema)}"
    return ""


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _list_problem(schema: Schema, value: list[Any]) -> str:
    if len(value) < schema.get("minItems", 0):
        return "is empty: write at least one"
    if len(value) > schema.get("maxItems", len(value)):
        return f"has {len(value)} items: write at most {schema['maxItems']}"
    found = (problem(schema.get("items", {}), one) for one in value)
    wrong = next((one for one in found if one), "")
    return f"has an item that {wrong}" if wrong else ""


def _members_problem(schema: Schema, value: dict[str, Any]) -> str:
    known = schema.get("properties", {})
    missing = next((name for name in schema.get("required", ()) if name not in value), None)
    if missing is not None:
        return f"has no {missing}"
    for name, one in value.items():
        rest = schema.get("additionalProperties", {})
        if name not in known and rest is False:
            return f"has no {name[:40]!r}: write {', '.join(known)}"
        if wrong := problem(schema.get("propertyNames", {}), name) or problem(known.get(name, rest), one):
            return f"has {name[:40]!r}, which {wrong}"
    return ""


def _number_problem(schema: Schema, value: int) -> str:
    least, most = schema.get("minimum", value), schema.get("maximum", value)
    return "" if least <= value <= most else f"is {value}: write a number from {least} to {most}"


def _example(schema: Schema) -> str:
    found = schema.get("examples", [None])[0]
    return f": write it as {found!r}" if found is not None else ""


def of(kind: Any, named: dict[str, Schema]) -> Schema:
    """The schema of what `results.plain` makes of a value of this type. Dataclasses are added to `named`."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if dataclasses.is_dataclass(kind):
        return _reference(kind, named)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return {"anyOf": [of(one, named) for one in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(arguments[1], named)}
    return {"type": "array", "items": of(arguments[0], named)}


def _reference(kind: Any, named: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in named:
        named[name] = {}  # a type that holds itself ends here
        hints = typing.get_type_hints(kind)
        fields = [one.name for one in dataclasses.fields(kind)]
        shapes = {one: of(hints[one], named) for one in fields}
        said = " ".join((kind.__doc__ or "").split())
        named[name] = {"type": "object", "description": said, "properties": shapes, "required": fields}
    return {"$ref": f"#/components/schemas/{name}"}
