"""Words of errors that say what was given and what to write instead; the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

from askonce.core.providers.patterns import pattern
from askonce.core.spelling import meant
from askonce.errors import ConfigError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

_COROUTINE = 0x80  # inspect.CO_COROUTINE
_LATER = 0x20 | _COROUTINE | 0x200  # and CO_GENERATOR, CO_ASYNC_GENERATOR
LONGEST = 80  # characters of a value that an error repeats
WHOLE = 400  # and of a path or a URL
MOST_SHOWN = 10**30  # of numbers that an error writes as text
_DURATION = pattern(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|sec|m|min|h|d|w|)")
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def shown(value: object) -> str:
    """A value as it is written, cut if it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - its own; and Python writes no number of thousands of digits
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    if not text.isprintable():  # of a class that writes it on several lines, for example
        text = repr(" ".join(text.split()))[1:-1]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def whole(place: object) -> str:
    """A path or a URL as it is written; a very long one with its end, which tells it from others."""
    text = repr(str(place))
    return text if len(text) <= WHOLE else f"{text[: WHOLE // 2]}...{text[-WHOLE // 2 :]}"


def as_text(name: str, value: object, example: str) -> str:
    """How `name` is written as text: as what was given, where that is a number or bytes, else as the example."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_SHOWN:
        return f"write {name}={str(value)!r}"
    if isinstance(value, bytes | bytearray):
        return f"write {name}={shown(bytes(value).decode('utf-8', 'replace'))}"
    return f"write {name}={example!r}"


def as_seconds(name: str, value: object, example: float) -> str:
    """How a duration is written: as what was given, where that says one, else as the example."""
    if hasattr(value, "total_seconds"):
        return f"write {name}=delta.total_seconds()"
    said = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    seconds = float(said[1]) * _SECONDS[said[2]] if said is not None else _float(value, example)
    return f"write seconds, {name}={seconds:g}" if math.isfinite(seconds) else f"write seconds, {name}={example:g}"


def _float(value: object, example: float) -> float:
    """A number of another library, such as a Decimal or one of numpy, as Python's."""
    try:
        return example if isinstance(value, bool | str | bytes | bytearray) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return example


def one_of(value: object, words: Collection[str]) -> bool:
    """Whether a value is one of these words. Only text is compared: what `==` says of anything else is its own."""
    return isinstance(value, str) and value in words


def plain_function(value: object) -> TypeGuard[Callable[..., Any]]:
    """Whether a value is a function whose result is known when it returns: no coroutine function, no generator."""
    if not callable(value):
        return False
    inner: Any = value
    while isinstance(inner, partial):
        inner = inner.func
    own = (inner, type(inner).__call__) if not isinstance(inner, type) else ()
    return not any(getattr(getattr(one, "__code__", None), "co_flags", 0) & _LATER for one in own)


def encodable(text: str) -> bool:
    """Whether UTF-8 has all characters of a text: a lone half of a pair has no bytes, so no store can hold it."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def flag(name: str, value: object) -> bool:
    """A True or False; ConfigError for anything else, because the text "no" is true."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{name}={shown(value)} is neither True nor False: write {name}=True, or {name}=False")


def with_method(name: str, value: object, method: str, right: str) -> None:
    """UsageError if what was given, and is not None, has no such method; `right`: what to give."""
    if value is not None and not hasattr(value, method):
        raise UsageError(f"{name}={shown(value)}: give {right}")


class Entered:
    """What is entered by ``with``, or by ``async with``: it names the right one where it is entered by the other."""

    __slots__ = ()
    if not TYPE_CHECKING:  # type checkers find it by themselves

        def __enter__(self) -> None:
            raise UsageError(f"{type(self).__name__}: write `async with`, and not `with`")

        def __aenter__(self) -> None:
            raise UsageError(f"{type(self).__name__}: write `with`, and not `async with`")

        __exit__, __aexit__ = __enter__, __aenter__


def list_of(name: str, value: object) -> tuple[object, ...]:
    """One value of text, or several in a list, as a tuple; UsageError for anything else."""
    if isinstance(value, str):
        return (value,)
    if not is_list(value):
        raise UsageError(f"{name}={shown(value)} is neither text nor a list of texts: {as_text(name, value, 'a')}")
    return tuple(value)


def is_list(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value holds others, one by one: text and bytes do not, and of a dict it would drop the values."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | memoryview | Mapping)


def spelled(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which names the keyword that a misspelt one was meant to be. For functions that are cheap."""
    code = function.__code__  # not inspect.signature: that resolves what it is made of
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self", "cls"}

    def check(given: Iterable[str]) -> None:
        if wrong := sorted(set(given) - known):
            raise UsageError("; ".join(_unknown(name, known) for name in wrong))

    if code.co_flags & _COROUTINE:

        @wraps(function)
        async def awaited(*args: P.args, **more: P.kwargs) -> Any:
            check(more)
            return await function(*args, **more)  # type: ignore[misc]

        return awaited  # type: ignore[return-value]

    @wraps(function)
    def checked(*args: P.args, **more: P.kwargs) -> R:
        check(more)
        return function(*args, **more)

    return checked


def _unknown(name: str, known: Iterable[str]) -> str:
    right = meant(name, known)
    return f"{name}=: unknown; write " + (f"{right}=" if right else f"any of {', '.join(sorted(known))}")
