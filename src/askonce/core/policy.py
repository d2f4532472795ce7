"""What the caller wants (Policy, Control), and the settings that follow (Terms).

Everything here is a value computed from values. Policies are layered, the nearest first: the call's own, its scope's
(the longest first), the cache's. A field that none of them sets follows from `ttl`. So ``ttl=60`` alone means a short
life in every respect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, TypeVar

from askonce.core.providers import bounded
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.wording import as_seconds, shown, spelled
from askonce.errors import ConfigError

ToolCalls = Literal["pass", "structured", "judge", "store"]
Searched = Literal["pass", "store"]
OnAbandon = Literal["finish", "close"]
Consistency = Literal["bounded", "strong"]

T = TypeVar("T")
LONGEST = 100 * 365 * 86400.0  # seconds: in microseconds since 1970 still an exact double, which Lua counts in
MOST = 2**53  # of what is counted: the last whole number that Lua tells from the next one
LEAST = 0.001  # seconds: a store counts in milliseconds
MAX_FLIGHT = 900.0  # seconds: a lease lives no longer, so a longer call may not fill


def _checked_names(kind: type[T]) -> type[T]:
    kind.__init__ = spelled(kind.__init__)  # type: ignore[method-assign]
    return kind


class _Hashed:
    """A hash computed once: every call looks its policy up in a cache, and a policy has fifteen fields."""

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:  # at first use, and after unpickling: hashes of text differ between processes
            object.__setattr__(self, "_hash", hash(tuple(getattr(self, field.name) for field in fields(self))))  # type: ignore[arg-type]
            return self._hash


@_checked_names
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(_Hashed):
    """How answers live. None inherits: the call's policy goes before its scope's, and that before the cache's.

    What none of them sets has the default in brackets. ConfigError for an invalid value.

    `ttl` (86400 s): how long an answer is fresh. `hot_ttl` (ttl / 4, in seconds): how far the life of a hot key slides.
    A key is hot after `hot_threshold` hits (10) within `hot_window` (3600 s). `grace` (ttl / 24, in seconds): how long
    past its end an answer is served while one caller refreshes it. `stale_if_error` (ttl, in seconds): the same if
    upstream fails. `max_age` (7 ttl, or what those need, in seconds): the end of all that. `jitter` (0.05): the largest
    share of the ttl that is subtracted at random, 0 to 1.

    `tool_calls` (``pass``), `searched` (``pass``): which requests with tools are looked up. `on_abandon` (``finish``):
    what becomes of a call that all its callers left; a stream goes on for `abandon_limit` (30 s). `max_flight` (900 s):
    how long a call may take and still be stored. `max_answer_bytes` (8 MiB, once called `max_bytes`): a larger answer,
    in bytes, is not stored. `consistency` (``bounded``): ``strong`` for no answer of a near cache.
    """

    ttl: float | None = None
    hot_ttl: float | None = None
    grace: float | None = None
    stale_if_error: float | None = None
    max_age: float | None = None
    hot_threshold: int | None = None
    hot_window: float | None = None
    jitter: float | None = None
    tool_calls: ToolCalls | None = None
    searched: Searched | None = None
    on_abandon: OnAbandon | None = None
    abandon_limit: float | None = None
    max_flight: float | None = None
    max_answer_bytes: int | None = None
    consistency: Consistency | None = None
    max_bytes: InitVar[int | None] = None

    __hash__ = _Hashed.__hash__

    def __post_init__(self, max_bytes: int | None) -> None:
        if max_bytes is not None and self.max_answer_bytes not in (None, max_bytes):
            raise ConfigError("max_bytes= is the first name of max_answer_bytes=: write one of them, max_answer_bytes=")
        if max_bytes is not None:  # the first name of max_answer_bytes; a store has a max_bytes too
            object.__setattr__(self, "max_answer_bytes", max_bytes)
        for name, check in _CHECKS.items():
            if (value := getattr(self, name)) is not None:
                check(name, value)
        if self.max_age is not None:
            _reachable(self, self.max_age)


class Terms(NamedTuple):
    """A Policy with every field set; seconds and bytes."""

    ttl: float
    hot_ttl: float
    grace: float
    stale_if_error: float
    max_age: float
    hot_threshold: int
    hot_window: float
    jitter: float
    tool_calls: str
    searched: str
    on_abandon: str
    abandon_limit: float
    max_flight: float
    max_answer_bytes: int
    consistency: str


_BUILT_IN: dict[str, Any] = {
    "hot_threshold": 10,
    "hot_window": 3600.0,
    "jitter": 0.05,
    "tool_calls": "pass",
    "searched": "pass",
    "on_abandon": "finish",
    "abandon_limit": 30.0,
    "max_flight": MAX_FLIGHT,
    "max_answer_bytes": 8 * 1024 * 1024,
    "consistency": "bounded",
}
_TTL = 86400.0
AGES = 7.0  # ttls that an answer may live for, if nobody says how old it may be
_OF_TTL = {"hot_ttl": 1 / 4, "grace": 1 / 24, "stale_if_error": 1.0, "max_age": AGES}
_BEYOND = ("hot_ttl", "grace", "stale_if_error")  # these lengthen a life, up to max_age


@lru_cache(maxsize=1024)
def resolve(*layers: Policy | None) -> Terms:
    """The Terms of `layers`, nearest first; ConfigError if two of them contradict each other."""
    given: dict[str, Any] = {}
    for layer in filter(None, reversed(layers)):
        given |= {name: value for name in _CHECKS if (value := getattr(layer, name)) is not None}
    if "ttl" in given and "max_age" in given:
        _agree(given["ttl"], given["max_age"])
    # A max_age alone also shortens the built-in ttl, which the caller did not choose.
    ttl = given.setdefault("ttl", min(_TTL, given.get("max_age", _TTL)))
    relative = {name: min(part * ttl, LONGEST) for name, part in _OF_TTL.items()}
    if ttl:  # what is said goes before what follows: the end comes no earlier than a grace that somebody wrote
        said = ttl + max(given.get(name, 0) for name in _BEYOND)
        relative["max_age"] = min(max(relative["max_age"], said), LONGEST)
    found: dict[str, Any] = _BUILT_IN | relative | given
    # Seconds are floats here, so Policy(ttl=60) and Policy(ttl=60.0) share one line of this cache.
    found |= {name: float(found[name]) for name, check in _CHECKS.items() if check in _IN_SECONDS}
    return Terms(**found)


def _reachable(said: Policy, max_age: float) -> None:
    """ConfigError if one policy says a time that its own max_age never lets come."""
    if said.ttl is not None:
        _agree(said.ttl, max_age)
    for name in _BEYOND:
        if (value := getattr(said, name)) is not None and value > max_age:
            raise ConfigError(
                f"max_age={max_age:g} contradicts {name}={value:g}: no answer lives for longer than max_age; write"
                f" {name}={max_age:g}, or max_age={(said.ttl or 0) + value:g}"
            )


def _agree(ttl: float, max_age: float) -> None:
    if max_age < ttl:
        raise ConfigError(
            f"max_age={max_age:g} contradicts ttl={ttl:g}: an answer cannot be fresh for longer than it may live; "
            f"write ttl={max_age:g}, or max_age={ttl:g}"
        )


# --- what a field may be -----------------------------------------------------------------------------------------


def _number(name: str, value: object) -> float:
    # A bool is an int in Python, but nobody means one second by grace=True.
    # One that no float holds is a number of this kind, and out of all bounds.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124 - NaN
        raise ConfigError(f"{name}={shown(value)} is not a number: {as_seconds(name, value, 60)}")
    return value


def _seconds(name: str, value: object) -> None:
    if not 0 <= _number(name, value) <= LONGEST:
        raise ConfigError(
            f"{name}={shown(value)}: write seconds from 0 (never stored) to {LONGEST:.0f} (a hundred years)"
        )


def _flight(name: str, value: object) -> None:
    if not LEAST <= _number(name, value) <= MAX_FLIGHT:
        raise ConfigError(
            f"{name}={shown(value)}: write seconds from {LEAST} up to {MAX_FLIGHT:.0f}, when a lease ends"
        )


def _window(name: str, value: object) -> None:
    if not LEAST <= _number(name, value) <= LONGEST:
        raise ConfigError(f"{name}={shown(value)}: write seconds above 0, such as {name}=3600")


def _share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(
            f"{name}={shown(value)} is not a number from 0 to below 1: write the share"
            f" of a ttl that may be subtracted, such as {name}=0.05, or 0"
        )


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        example = "bytes, such as 8 * 2**20" if name.endswith("bytes") else f"such as {name}=10"
        raise ConfigError(f"{name}={shown(value)}: write a whole number, at least 1 and no more than 2**53; {example}")


def _word(*words: str) -> Any:
    def check(name: str, value: object) -> None:
        if not isinstance(value, str) or value not in words:
            raise ConfigError(f"{name}={shown(value)}: write one of {', '.join(map(repr, words))}")

    return check


_CHECKS: dict[str, Any] = {
    **dict.fromkeys(("ttl", "hot_ttl", "grace", "stale_if_error", "max_age", "abandon_limit"), _seconds),
    "hot_threshold": _whole,
    "hot_window": _window,
    "jitter": _share,
    "tool_calls": _word("pass", "structured", "judge", "store"),
    "searched": _word("pass", "store"),
    "on_abandon": _word("finish", "close"),
    "max_flight": _flight,
    "max_answer_bytes": _whole,
    "consistency": _word("bounded", "strong"),
}
_IN_SECONDS = (_seconds, _flight, _window, _share)


# --- directives of one call --------------------------------------------------------------------------------------


class Control(NamedTuple):
    """The directives of one call, RFC 9111 and 5861; seconds, None if not given."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    max_stale: float | None = None
    min_fresh: float | None = None
    stale_if_error: float | None = None

    @property
    def anew(self) -> bool:
        """Whether a stored answer that is fresh may not do."""
        return self.no_cache or self.max_age is not None or bool(self.min_fresh)

    @staticmethod
    def parse(text: str | None, *, lenient: bool = False) -> Control:
        """The directives in `text`; ConfigError for an unknown or malformed one, or one that is given twice.

        `lenient`, as in HTTP: an unknown one is ignored, and what cannot be read of the others accepts less, not more.
        """
        if text is None:
            return NO_CONTROL
        if not isinstance(text, str):
            raise ConfigError(f"control={shown(text)} is not text: write control='max-age=60'")
        return _control(text, lenient)


NO_CONTROL = Control()
_FLAGS = ("no-cache", "no-store", "only-if-cached")
_TIMES = ("max-age", "max-stale", "min-fresh", "stale-if-error")
# Up to a comma that is not quoted. A stray quote hides no directive behind it: no time holds a comma, and a quoted
# string is the whole value of a directive.
_PIECE = pattern(
    rf'\s*(?:{"|".join(_TIMES)})\s*=[^,]*|(?:[^,"]|(?<==)"(?:[^"\\]|\\.)*"(?=\s*(?:,|$))|")+',
    re.IGNORECASE,
)
_DELTA = pattern(r'\d+(?:\.\d+)?|"\d+(?:\.\d+)?"', re.ASCII)


@bounded.lru_cache_of_short(512)
def _control(text: str, lenient: bool) -> Control:
    found: dict[str, Any] = {}
    for piece in filter(None, _pieces(text, lenient)):
        name, equals, value = (part.strip() for part in piece.lower().partition("="))
        name = name.strip('"') if lenient else name
        # A flag with an argument is a response's directive; taking it for the flag errs towards asking upstream.
        meant = _seconds_of(name, value if equals else None) if name not in _FLAGS else lenient or not equals
        field = name.replace("-", "_")
        if lenient:
            _tighten(found, name, meant)
        elif meant is None or meant is False or field in found:
            raise ConfigError(f"control={shown(text)}: {_unmeant(name, again=field in found)}")
        else:
            found[field] = meant
    return Control(**found)


def _pieces(text: str, lenient: bool) -> Iterator[str]:
    for piece in map(str.strip, _PIECE.findall(text)):
        quoted = '="' in piece and piece.endswith('"')
        # Programs separate directives by semicolons, too, and leave quotes behind: neither hides what is forbidden.
        yield from piece.split(";") if lenient and not quoted else (piece,)


def _tighten(found: dict[str, Any], name: str, meant: float | None) -> None:
    """Add a directive of a header; of two that contradict each other, the one that accepts less (RFC 9111, 4.2.1).

    Freshness that cannot be read is treated as stale there: it accepts no stored answer, and extends nothing.
    """
    if name not in _FLAGS and name not in _TIMES:
        return
    if meant is None:
        name, meant = "max-age" if name == "min-fresh" else name, 0.0
    field = name.replace("-", "_")
    choose = min if name in _TIMES and name != "min-fresh" else max
    found[field] = choose(found.get(field, meant), meant)


def _seconds_of(name: str, value: str | None) -> float | None:
    if name == "max-stale" and value is None:
        return math.inf
    return float(value.strip('"')) if name in _TIMES and value is not None and _DELTA.fullmatch(value) else None


def _unmeant(name: str, *, again: bool) -> str:
    if again:
        return f"{name} is given twice: write it once"
    if name in _TIMES:
        return f"{name} takes seconds: write {name}=60"
    if name in _FLAGS:
        return f"{name} takes no value: write {name}"
    if any(sign in name for sign in " ;"):
        return f"{shown(name)}: separate directives by commas, as in 'no-cache, max-age=60'"
    return f"{shown(name)} is unknown: write any of {', '.join(_FLAGS)}, {', '.join(f'{one}=60' for one in _TIMES)}"
