"""Sections of a configuration: dataclasses whose fields say what they take, and the reader that fills them.

A field of a section is made by `key`. It has a default, a sentence for the documentation, and perhaps the name of an
environment variable and of a flag. Its annotation and its unit say which values it takes. A wrong value is a problem
with its place.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple, TypeVar

from askonce.cache.near import bytes_in
from askonce.core.policy import LONGEST, MOST
from askonce.core.wording import shown
from askonce.errors import ConfigError

T = TypeVar("T")

SECONDS, BYTES = "s", "bytes"  # units; a text such as "64MB" is a number of bytes

_YES, _NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
CLOSE = 0.6  # how alike two words are, of which one is named for the other


class Given(NamedTuple):
    """A value and where it was given: ``askonce.toml:12``, ``$ASKONCE_PORT``, ``--port``. `text`: it is all text."""

    value: object
    where: str
    text: bool = False


def key(
    default: Any,
    says: str,
    *,
    unit: str = "",
    env: str = "",
    flag: str = "",
    check: Callable[[Any], str] | None = None,
    **more: Any,
) -> Any:
    """A field of a section. `check` returns what is wrong with a value of the right type, or ""."""
    about = {"says": says, "unit": unit, "env": env, "flag": flag, "check": check}
    return field(default=default, metadata=about, **more)


def one_of(*words: str) -> Callable[[str], str]:
    """A check: the value is one of these words."""
    return lambda value: "" if value in words else f"{shown(value)}: write one of {', '.join(filter(None, words))}"


def between(least: float, most: float = math.inf) -> Callable[[float], str]:
    """A check: the number is in these bounds."""
    bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    return lambda value: "" if least <= value <= most else f"{value!r}: write a number {bounds}"


class SeveralProblems(ConfigError):
    """What is wrong with a configuration, a line each."""


class Problems:
    """What is wrong with a configuration, one line each, in the order in which it was found."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, where: str, what: object) -> None:
        """Note a problem at a place."""
        self._lines[f"{where}: {what}"] = None

    def add_all(self, lines: str) -> None:
        """Note problems that have their places already, a line each."""
        self._lines |= dict.fromkeys(lines.splitlines())

    def raise_if_any(self) -> None:
        """Raise a ConfigError with a line for each problem."""
        if self._lines:
            raise SeveralProblems("\n".join(self._lines))


def section(kind: type[T], given: Mapping[str, Given], problems: Problems) -> T:
    """A section from what was given for its keys; defaults for the others, and for wrong values."""
    read: dict[str, object] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in given:
            try:
                read[one.name] = value_of(one, given[one.name])
            except ConfigError as wrong:
                problems.add(given[one.name].where, wrong)
                if one.default is MISSING:
                    read[one.name] = ""
    return kind(**read)


def value_of(one: Field[Any], given: Given) -> object:
    """The value of a field; ConfigError if it is of a wrong type, or its check refuses it."""
    try:
        value = kind_of(one)(one.name, given.value, text=given.text, example=one.default)
    except ConfigError:
        if one.repr:
            raise
        raise ConfigError(
            f"{one.name} is no text: write it in quotes, without control characters"
        ) from None  # it is a secret
    check = one.metadata.get("check")
    if check is not None and (wrong := check(value)):
        raise ConfigError(f"{one.name} = {wrong}")
    return value


def known_words(kind: type[Any]) -> tuple[str, ...]:
    """The keys of a section."""
    return tuple(one.name for one in fields(kind))


def unknown(word: str, known: Iterable[str], elsewhere: Mapping[str, str] | None = None) -> str:
    """What is wrong with an unknown word: the nearest right one, or the section that it belongs to, or all of them."""
    choices = list(known)
    near = difflib.get_close_matches(word.lower(), choices, n=3, cutoff=CLOSE)
    near.sort(key=lambda one: sorted(one) != sorted(word.lower()))  # "modle" is model in a hurry, not mode
    if near:
        return f"{word!r} is unknown: write {near[0]}"
    if elsewhere and word in elsewhere:
        return f"{word!r} is unknown here: it belongs to {elsewhere[word]}"
    return f"{word!r} is unknown: write any of {', '.join(choices)}"


# --- values ------------------------------------------------------------------------------------------------------


def kind_of(one: Field[Any]) -> Callable[..., object]:
    """The reader of a field's values, by its unit and its annotation."""
    return _KINDS[one.metadata.get("unit") or str(one.type)]


def _text(name: str, value: object, *, text: bool, example: object) -> str:  # noqa: ARG001 - the readers are called alike
    if not isinstance(value, str):
        raise ConfigError(f"{name} = {shown(value)} is not text: write it in quotes, {name} = {str(value)!r}")
    if not value.isprintable():
        raise ConfigError(f"{name} contains control characters: remove them")
    return value


def _whole(name: str, value: object, *, text: bool, example: object) -> int:
    if text and isinstance(value, str) and re.fullmatch(r"-?\d+", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST:
        raise ConfigError(f"{name} = {shown(value)} is not a whole number: {_written(name, example, text=text)}")
    return value


def _flag(name: str, value: object, *, text: bool, example: object) -> bool:  # noqa: ARG001
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if text and isinstance(value, str) else ""
    if word in _YES | _NO:
        return word in _YES
    raise ConfigError(f"{name} = {shown(value)} is neither true nor false: {_written(name, 'true', text=text)}")


def _seconds(name: str, value: object, *, text: bool, example: object) -> float:
    try:
        found = _number(name, value, text=text, example=example)
    except ConfigError:
        found = -1.0
    if not 0 <= found <= LONGEST:
        some = example if isinstance(example, int | float) else 60
        raise ConfigError(f"{name} = {shown(value)} is not a number of seconds: write {name} = {some:g}")
    return found


def _number(name: str, value: object, *, text: bool, example: object) -> float:  # noqa: ARG001
    if text and isinstance(value, str) and re.fullmatch(r"\d+(?:\.\d+)?", value.strip(), re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} = {shown(value)} is not a number: write {name} = 1.5, without quotes")
    return float(value)


def _size(name: str, value: object, *, text: bool, example: object) -> int:  # noqa: ARG001
    size = bytes_in(value) if isinstance(value, str) else value
    if isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= MOST:
        return size
    raise ConfigError(f"{name} = {shown(value)} is not a size: write bytes, or a text such as {name} = '64MB'")


def _texts(name: str, value: object, *, text: bool, example: object) -> tuple[str, ...]:  # noqa: ARG001
    if isinstance(value, str):
        return tuple(filter(None, map(str.strip, value.split(",")))) if text else (value,)
    if not isinstance(value, list | tuple) or any(not isinstance(one, str) or not one for one in value):
        raise ConfigError(f"{name} = {shown(value)} is not a list of texts: write {name} = ['one', 'two']")
    return tuple(value)


def _written(name: str, example: object, *, text: bool) -> str:
    """How a value is written: in a file of TOML, or as the text of a variable or a flag."""
    return f"write {example}" if text else f"write {name} = {example}, without quotes"


_KINDS: dict[str, Callable[..., object]] = {
    "str": _text,
    "str | None": _text,
    "int": _whole,
    "bool": _flag,
    SECONDS: _seconds,
    BYTES: _size,
    "float": _number,
    "tuple[str, ...]": _texts,
}
