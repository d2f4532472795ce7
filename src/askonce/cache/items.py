"""The items of a stream as JSON, and back: plain JSON as it is, or events of a type that pydantic knows."""

from __future__ import annotations

import contextlib
import inspect
import sys
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson

from askonce.core.plain import exact_json
from askonce.core.wording import shown
from askonce.errors import UsageError


class PlainItems:
    """Items that are plain JSON."""

    remedy = (
        "is not plain JSON: it is passed on, and the stream is not stored; say fetch_stream(..., item=ThatType) for"
        " events of an SDK or other types that pydantic knows, or yield plain data, such as dataclasses.asdict(item)"
    )

    def dumped(self, item: object) -> bytes | None:
        """The item's JSON; None if it has none that reads back as an equal item."""
        return exact_json(item)

    def loaded(self, data: bytes) -> Any:
        """An item of its own; ValueError if the JSON is not one."""
        return orjson.loads(data)


class TypedItems(PlainItems):
    """Items of one type: a pydantic model, a union of models, a dataclass, whatever `TypeAdapter` takes.

    The SDKs' models are made by their own `construct`, which validates nothing: servers of all kinds leave out fields
    that a model demands, and the SDKs do not mind.
    """

    remedy = (
        "does not read back as an equal item of the type that item= says: it is passed on, and the stream is not"
        " stored; say the type of the items, or leave item= out and yield plain data, such as"
        " event.model_dump(mode='json')"
    )

    def __init__(self, item: Any, adapter: Any) -> None:
        self._adapter = adapter
        self._lenient = [one for one in _members(item) if _is_lenient(one)]

    def dumped(self, item: object) -> bytes | None:
        """The item's JSON, with the fields that its sender set; None if it does not read back as an equal item."""
        try:
            data = self._json(item)
            same = self.loaded(data)
        except Exception:  # noqa: BLE001 - pydantic's, or a model's own; it has no form that could be stored
            return None
        return data if type(same) is type(item) and same == item else None

    def loaded(self, data: bytes) -> Any:
        """An item of its own; ValueError if the JSON is not one of this type."""
        try:
            return self._same(self._adapter.validate_json(data), data)
        except Exception as wrong:  # noqa: BLE001 - as above
            refused = wrong
        said = orjson.loads(data)
        for model in self._lenient:
            with contextlib.suppress(Exception):
                if _may_be(said, model):
                    return self._same(model.construct(**said), data)
        raise ValueError(f"not of the type of item= ({type(refused).__name__})") from refused

    def _same(self, item: Any, data: bytes) -> Any:
        """The item, if it says all of `data`: a model may ignore fields that it does not know, which are another's."""
        if self._json(item) != data:
            raise ValueError("it says something else")
        return item

    def _json(self, item: Any) -> bytes:
        # As the SDKs' own to_dict does: what was not set is set by the type again, now or in a later release of it.
        if _is_lenient(type(item)):
            text: str = item.model_dump_json(by_alias=True, exclude_unset=True, warnings=False)
            return text.encode()
        data: bytes = self._adapter.dump_json(item, by_alias=True, exclude_unset=True, warnings="error")
        return data


def _members(item: Any) -> list[Any]:
    """The members of a union, however it is written; or the type alone."""
    if get_origin(item) is Annotated:
        return _members(get_args(item)[0])
    if get_origin(item) in {Union, UnionType}:
        return [member for one in get_args(item) for member in _members(one)]
    return [item]


def _is_lenient(kind: Any) -> bool:
    """Whether it is a model with a `construct` of its own, as the SDKs of OpenAI and Anthropic have."""
    plain = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return (
        plain is not None
        and isinstance(kind, type)
        and issubclass(kind, plain)
        and kind.construct.__func__ is not plain.construct.__func__  # type: ignore[attr-defined]
    )


def _may_be(said: Any, model: Any) -> bool:
    """Whether what marks a model of a union, a field of one literal value, says this model."""
    literal = {
        field.alias or name: get_args(field.annotation)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    }
    return all(said[name] in literal[name] for name in said.keys() & literal.keys())


PLAIN = PlainItems()


def items_as(item: Any) -> PlainItems:
    """How the items of a stream are stored; UsageError if `item` is nothing that pydantic can read."""
    if item is None:
        return PLAIN
    if isinstance(item, str) or inspect.isroutine(item):  # pydantic takes them, as a name to come and as arguments
        raise _no_type(item)
    try:
        return _typed(item)
    except TypeError:  # not hashable, so it is not remembered
        return _typed.__wrapped__(item)


def _no_type(item: object) -> UsageError:
    return UsageError(
        f"item={shown(item)} is no type that pydantic can read: write the type of the stream's events, such as"
        " item=ChatCompletionChunk"
    )


@lru_cache(maxsize=64)
def _typed(item: Any) -> TypedItems:
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise UsageError("item= needs pydantic: pip install pydantic, or yield plain dicts and leave it out") from None
    try:
        return TypedItems(item, TypeAdapter(item))
    except Exception as wrong:
        raise _no_type(item) from wrong
