"""What a pydantic model holds that its dump does not say.

A dump leaves things out: secrets become stars; fields with ``exclude=True`` and private attributes are missing; a field
declared as a base class omits a subclass's fields; a serializer may round or drop. Two questions that differ there must
not share a key. So the dump is compared with the model and completed from it. A complete dump stays as it is, and so
does its key.

A value without JSON of its own that a serializer wrote is taken as written: it has no other form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any


class Undumped(Exception):
    """A value that a dump leaves out and that has no JSON; `args`: the names of its field and its type."""


_LISTS = (list, tuple, set, frozenset)
_PLAIN = (str, int, float, bool, type(None))


def secret(value: object) -> bool:
    """Whether a value prints stars in its place: SecretStr, SecretBytes, Secret[...]."""
    return not isinstance(value, type) and callable(getattr(value, "get_secret_value", None))


def complete(dump: Any, value: Any) -> Any:
    """`dump`, completed with everything else that `value` holds."""
    if type(value) in _PLAIN or dump is value:
        return dump if _same(dump, value) else [dump, value]
    if secret(value):
        return value
    fields = _fields(value)
    if fields is not None:
        return _object(dump, value, fields)
    if isinstance(value, Mapping):
        return _mapping(dump, value)
    if isinstance(value, _LISTS):
        return _list(dump, list(value))
    return dump if _same(dump, written := _written(value)) or written is None else [dump, written]


def _same(dump: Any, value: Any) -> bool:
    return type(dump) is type(value) and dump == value


def _fields(value: Any) -> dict[str, str] | None:
    """The declared names of a model or dataclass, and the names its dump may use instead."""
    kind = type(value)
    declared = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", None)
    if isinstance(declared, dict):
        return {name: str(one.serialization_alias or one.alias or name) for name, one in declared.items()}
    return {one.name: one.name for one in dataclasses.fields(value)} if dataclasses.is_dataclass(kind) else None


def _object(dump: Any, value: Any, fields: dict[str, str]) -> Any:
    held = dict(_held(value, fields))
    if getattr(type(value), "__pydantic_root_model__", False) and held.keys() == {"root"}:
        return complete(dump, held["root"])
    if not isinstance(dump, dict):
        return [dump, held] if held else dump
    made = dict(dump)
    for name, one in held.items():
        dump_name = name if name in dump else fields.get(name, name)
        if dump_name in dump:
            made[dump_name] = complete(dump[dump_name], one)
        elif one is not None:
            made[name] = _unsaid(name, one)
    return made


def _unsaid(name: str, value: Any) -> Any:
    """A value that a dump leaves out, in full; Undumped if it has no JSON."""
    if _fields(value) is None and not secret(value) and _written(value) is None:
        raise Undumped(name, type(value).__name__)
    return value


def _held(value: Any, fields: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for name in fields:
        if hasattr(value, name):  # model_construct may leave one out
            yield name, getattr(value, name)
    yield from (getattr(value, "__pydantic_extra__", None) or {}).items()
    declared = getattr(type(value), "__private_attributes__", {})
    for name, one in (getattr(value, "__pydantic_private__", None) or {}).items():
        if name not in declared or not _default(declared[name], one):
            yield name, one


def _default(declared: Any, value: object) -> bool:
    try:
        return bool(declared.get_default() == value)
    except Exception:  # noqa: BLE001 - a factory, or a comparison, of the user's
        return False


def _mapping(dump: Any, value: Mapping[Any, Any]) -> Any:
    named = {name if isinstance(name, str) else _key(name): one for name, one in value.items()}
    if not isinstance(dump, dict) or dump.keys() != named.keys() or len(named) != len(value):
        return [dump, [[name, one] for name, one in value.items()]]
    return {name: complete(dump[name], one) for name, one in named.items()}


def _key(name: object) -> str | None:
    written = _written({name: None})
    return next(iter(written)) if written else None


def _list(dump: Any, value: list[Any]) -> Any:
    if not isinstance(dump, list) or len(dump) != len(value):
        return [dump, value]
    return [complete(one, held) for one, held in zip(dump, value, strict=True)]


def _written(value: object) -> Any:
    """A value as pydantic writes it by default; None if it cannot."""
    from pydantic_core import to_jsonable_python  # installed: this value came out of a pydantic model

    try:
        return to_jsonable_python(value)
    except Exception:  # noqa: BLE001 - it may call what the user wrote
        return None
