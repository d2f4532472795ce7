"""What may be given to a scripted provider: wrong values are found where they are given, and not by a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from askonce.core.wording import flag, one_of, shown
from askonce.errors import ConfigError
from askonce.testing.answers import Protocol, Shape

LONGEST = 86400.0  # s that anything scripted may take
SHAPES, PROTOCOLS = get_args(Shape), get_args(Protocol)


def seconds(name: str, value: object) -> None:
    """ConfigError for what is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise ConfigError(f"{name}={shown(value)}: write seconds from 0 to {LONGEST:.0f}, such as {name}=0.5")


def delay(value: object) -> None:
    """The same for a delay, which may be a function."""
    if not callable(value) or isinstance(value, type):
        seconds("delay", value)


def whole(name: str, value: object, least: int, most: int) -> None:
    """ConfigError for what is no whole number within these bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name}={shown(value)}: write a whole number from {least} to {most}")


def word(name: str, value: object, words: tuple[str, ...]) -> None:
    """ConfigError for what is none of these words."""
    if not one_of(value, words):
        raise ConfigError(f"{name}={shown(value)}: write one of {', '.join(map(repr, words))}")


def is_error(value: object) -> bool:
    """Whether it can be raised."""
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def step(one: Any) -> None:
    """ConfigError for a step that cannot be played."""
    word("shape", one.shape, SHAPES)
    whole("status", one.status, 100, 599)
    whole("after", one.after, 0, 10**9)
    flag("hang", one.hang)
    if not isinstance(one.headers, Mapping):
        raise ConfigError(f"headers={shown(one.headers)}: write a dict, such as {{'retry-after': '1'}}")
    if one.error is not None and not is_error(one.error):
        raise ConfigError(f"error={shown(one.error)}: give an exception, such as error=ConnectionError()")
    for name in ("delay", "pace"):
        if getattr(one, name) is not None:
            seconds(name, getattr(one, name))
