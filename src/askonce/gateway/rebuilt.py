"""Results made again of their JSON form (`results.plain`), by the types of their fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def rebuilt(kind: type[T], told: Any) -> T:
    """A result of this type; fields that this version does not know are ignored. ValueError for any other JSON."""
    return typing.cast("T", _rebuilt(kind, told))


def _rebuilt(kind: Any, told: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _record(kind, told)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return None if told is None else _rebuilt(next(one for one in arguments if one is not type(None)), told)
    if origin is dict:
        return {name: _rebuilt(arguments[1], one) for name, one in _of(dict, told).items()}
    if origin in {list, tuple}:
        return origin(_rebuilt(arguments[0], one) for one in _of(list, told))
    return told if kind in {Any, object} else _plain(kind, told)


def _record(kind: Any, told: Any) -> Any:
    hints, found = typing.get_type_hints(kind), _of(dict, told)
    known = [one.name for one in dataclasses.fields(kind) if one.name in found]
    given = {name: _rebuilt(hints[name], found[name]) for name in known}
    try:
        return kind(**given)
    except TypeError as missing:
        raise ValueError(str(missing)) from None


def _plain(kind: Any, told: Any) -> Any:
    return float(_of(int | float, told)) if kind is float else _of(kind, told)


def _of(kind: Any, told: Any) -> Any:
    if not isinstance(told, kind) or (kind is not bool and isinstance(told, bool)):
        raise ValueError(f"{type(told).__name__} in place of {getattr(kind, '__name__', kind)}")
    return told
