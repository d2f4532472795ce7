"""Every public name says the unit of each number, what is without each option, and the errors that it raises.

Public is what the pages name: in a directive of the reference, or in an import of an example. The errors are not read
off the source: each method is called with wrong values for each of its arguments, on a closed cache, and over a store
that is away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import re
import sys
import typing
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

import askonce
from askonce import AsyncCache, Cache, Keys, Policy
from askonce.cache.base import BaseCache
from askonce.cache.options import OPTIONS
from askonce.cache.typing import RedisOptions, StoreOptions
from askonce.core.policy import resolve
from askonce.core.rules import RULE_WORDS
from askonce.errors import AskonceError
from askonce.store import CONNECT_TIMEOUT, TIMEOUT
from askonce.store.memory import store as memory
from askonce.store.sqlite import store as sqlite

ROOT = Path(__file__).parents[2]
PAGES = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
NUMBER = re.compile(r"\b(int|float)\b")
UNIT = re.compile(
    r"\b(s|ms|us|seconds?|microseconds|days?|bytes|bytes,|tokens?|US dollars|dollars|numbers?|how many|0 to 1|share"
    r"|times|entries|lookups?|calls?|hits|answers|partitions|port|misses|logarithm|connections|how often|flights"
    r"|text|limit`|process id|whole seconds)\b",
    re.IGNORECASE,
)
WITHOUT = re.compile(r"\b(None|by default|default|else|without|one of|all of|in one way|otherwise)\b", re.IGNORECASE)
SEVERAL = re.compile(r"(?:[Ee]rrors,?|are|and|those) as in `([\w.]+)`")


def found(name: str) -> Any:
    """What a dotted name of a page stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            one = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            one = getattr(one, part)
        return one
    raise LookupError(name)


def named() -> dict[str, Any]:
    names = set(re.findall(r"auto(?:class|function|exception):: (askonce[\w.]+)", PAGES))
    for module, imported in re.findall(r"^from (askonce[\w.]*) import ([\w, ]+)$", PAGES, re.MULTILINE):
        names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
    names |= {f"askonce.{name}" for name in askonce.__all__}
    return {name: one for name in sorted(names) if callable(one := found(name))}


class Piece(typing.NamedTuple):
    """A function or a class with fields: its docstring, with what else is printed beside it, and its numbers' names."""

    name: str
    doc: str
    arguments: dict[str, tuple[str, Any]]  # annotation and default
    returns: str = ""


def doc_of(one: Any) -> str:
    """A docstring, with those of its bases; of a TypedDict, with those to which it refers, as a reader does."""
    if not inspect.isclass(one):
        return inspect.getdoc(one) or ""
    docs = [kind.__doc__ or "" for kind in one.__mro__ if kind.__module__.startswith("askonce")]
    if typing.is_typeddict(one):
        module = sys.modules[one.__module__]
        others = re.findall(r"`([A-Z]\w+)`", one.__doc__ or "")
        docs += [doc_of(getattr(module, name, None) or getattr(askonce, name)) for name in others]
    return " ".join(docs)


def pieces() -> Iterator[Piece]:
    for name, one in named().items():
        if not inspect.isclass(one):
            yield function(name, one, doc_of(one))
            continue
        fields = fields_of(one)
        yield Piece(name, doc_of(one), fields)
        for member in sorted(public(one)):
            value = inspect.getattr_static(one, member)
            of = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(of) and not (member == "__init__" and fields):
                outer = doc_of(one) if member == "__init__" else ""
                yield function(f"{name}.{member}", of, f"{inspect.getdoc(of) or ''} {outer}")


def public(one: type) -> set[str]:
    """The names of a class's own; a cache and a handle say themselves which of theirs are public."""
    ours = {name for kind in one.__mro__ if kind.__module__.startswith("askonce") for name in vars(kind)}
    if issubclass(one, Cache | AsyncCache):
        ours &= {*dir(one("memory://")), "__init__"}
    elif issubclass(one, askonce.Handle | askonce.AsyncHandle):
        ours &= set(dir(Cache("memory://").scoped()))
    return {name for name in ours if not name.startswith("_") or name == "__init__"}


def fields_of(one: Any) -> dict[str, tuple[str, Any]]:
    if not (dataclasses.is_dataclass(one) or hasattr(one, "_fields") or typing.is_typeddict(one)):
        return {}
    kinds = [one] if typing.is_typeddict(one) else reversed(one.__mro__)
    notes = {name: note for kind in kinds for name, note in inspect.get_annotations(kind).items()}
    return {name: (str(note), ...) for name, note in notes.items() if not name.startswith("_")}


def function(name: str, of: Any, doc: str) -> Piece:
    given = inspect.signature(of).parameters.values()
    said = {
        one.name: (str(one.annotation), one.default)
        for one in given
        if one.name not in {"self", "cls"} and one.kind not in {one.VAR_KEYWORD, one.VAR_POSITIONAL}
    }
    return Piece(name, doc, said, str(of.__annotations__.get("return", "")))


PIECES = {piece.name: piece for piece in pieces()}
FIELDED = {name for name, one in named().items() if inspect.isclass(one) and fields_of(one)}
REDIS_ALONE = (
    RedisOptions.__annotations__.keys()
)  # redis-py explains its own; the numbers need their units all the same


def says(doc: str, name: str) -> str:
    """The sentences that name an argument."""
    sentences = re.split(r"(?<=[.;])\s", " ".join(doc.split()))
    return " ".join(one for one in sentences if re.search(rf"`{name}`|`[^`]*\b{name}\b[^`]*`", one))


def test_what_the_pages_name_is_much():
    assert len(named()) > 50
    assert {"askonce.Cache.get_or_set", "askonce.gateway.app.Gateway", "askonce.testing.Step"} <= PIECES.keys()


def lacking(of: Callable[[Piece], list[str]]) -> dict[str, list[str]]:
    return {name: names for name, piece in PIECES.items() if (names := of(piece))}


def unitless(piece: Piece) -> list[str]:
    numbers = [name for name, (note, _) in piece.arguments.items() if NUMBER.search(note)]
    returned = NUMBER.search(re.sub(r"\[.*", "", piece.returns)) and not UNIT.search(piece.doc)
    return [name for name in numbers if not UNIT.search(says(piece.doc, name))] + (["return"] if returned else [])


def unexplained(piece: Piece) -> list[str]:
    options = [name for name, (_, default) in piece.arguments.items() if default is None]
    return [name for name in options if not WITHOUT.search(says(piece.doc, name))]


def test_each_has_a_docstring():
    assert [name for name, piece in PIECES.items() if not piece.doc.strip()] == []


def test_each_number_has_a_unit():
    assert lacking(unitless) == {}


def test_what_nothing_means_is_said_where_nothing_is_the_default():
    """Any other default is in the signature, which the reference and an editor show."""
    assert lacking(unexplained) == {}


def test_each_field_is_named():
    def unnamed(piece: Piece) -> list[str]:
        fields = piece.arguments.keys() - REDIS_ALONE if piece.name in FIELDED else set()
        return sorted(name for name in fields if not re.search(rf"`{name}\b", piece.doc))

    assert len(FIELDED) > 15
    assert lacking(unnamed) == {}


def test_the_defaults_in_docstrings_are_the_real_ones():
    terms, ttl = resolve(), resolve().ttl
    told: dict[str, str] = {
        name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in terms._asdict().items()
    }
    told |= {"hot_ttl": "ttl / 4", "grace": "ttl / 24", "stale_if_error": "(ttl,", "max_age": "7 ttl"}
    told |= {"max_answer_bytes": "8 MiB"}
    doc = doc_of(Policy)
    assert {name: value for name, value in told.items() if value not in says(doc, name)} == {}
    spans = terms.hot_ttl, terms.grace, terms.stale_if_error, terms.max_age, terms.max_answer_bytes
    assert spans == (ttl / 4, ttl / 24, ttl, 7 * ttl, 8 * 2**20)
    redis = {"socket_timeout": f"({TIMEOUT} s)", "socket_connect_timeout": f"({CONNECT_TIMEOUT} s)"}
    assert all(value in says(doc_of(RedisOptions), name) for name, value in redis.items())
    rooms = f"SQLite ({sqlite.MAX_BYTES // 2**30} GiB) and memory ({memory.MAX_BYTES // 2**20} MiB)"
    assert rooms in " ".join(doc_of(StoreOptions).split())
    for kind in (Cache, AsyncCache):
        assert f"`limit` is {BaseCache.close_limit:g} s by default" in doc_of(
            kind.close if kind is Cache else kind.aclose
        )
        assert inspect.signature(kind.close if kind is Cache else kind.aclose).parameters["limit"].default is None


def test_a_docstring_that_says_nothing_is_found():
    said = {"limit": ("int", 5), "scope": ("str | None", None), "size": ("int", 1)}
    piece = Piece("f", "Lists `limit` entries of a `scope`. `size`: that of a page.", said, "float")
    assert (unitless(piece), unexplained(piece)) == (["size"], ["scope"])
    assert unitless(piece._replace(doc="It is as large as can be.")) == ["limit", "size", "return"]


# --- errors ------------------------------------------------------------------------------------------------------

WRONG: list[Any] = [object(), -1, 1.5, "", "a//b", "\0", "nonsense", [], {}, ["a", "b"], b"x", {1, 2}, lambda x: x, 0]
FEW = 3  # wrong values of an option that all methods share
REQUEST = {"model": "m", "n": 1}
STATES: dict[str, Callable[[type], Any]] = {
    "well": lambda kind: kind("memory://"),
    "closed": lambda kind: kind("memory://"),
    "away": lambda kind: kind("redis://127.0.0.1:1/0", strict=True),
    "silent": lambda kind: kind("memory://", mode="only-if-cached"),
}


def methods(kind: type) -> dict[str, dict[str, Any]]:
    """Each method of a cache, with arguments that are right."""
    paid: Any = (lambda: {"a": 1}) if kind is Cache else _paid
    opened: Any = (lambda: iter([{"a": 1}])) if kind is Cache else _opened
    return {
        "get_or_set": {"messages": [], "model": "m", "call_fn": paid},
        "fetch": {"request": REQUEST, "call": paid},
        "fetch_stream": {"request": REQUEST, "open_stream": opened},
        "invalidate": {"scope": "a"},
        "why": {"request": REQUEST},
        "on_event": {"listener": print},
        **{name: {} for name in ("scoped", "http_client", "transport", "misses", "savings", "activity")},
        **{name: {} for name in ("sweep", "entries", "stats", "watch", "close" if kind is Cache else "aclose")},
    }


async def _paid() -> Any:
    return {"a": 1}


async def _opened() -> Any:
    yield {"a": 1}


CALLS = {"call", "call_fn", "open_stream"}  # what a program gives to be called is wrong by Python's own words


def wrong(method: Callable[..., Any], right: dict[str, Any]) -> Iterator[dict[str, Any]]:
    given = inspect.signature(method).parameters
    options = OPTIONS | {"tll"} if any(one.kind is one.VAR_KEYWORD for one in given.values()) else ()
    own = [name for name, one in given.items() if one.kind is not one.VAR_KEYWORD and name not in CALLS]
    for name in [*own, *sorted(options)]:
        for value in WRONG if name in own else WRONG[:FEW]:
            yield {name: value} if method.__name__ == "invalidate" else {**right, name: value}


async def ended(result: Any) -> None:
    """Let a method do all it does."""
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__anext__"):
        async for _ in result:
            pass
    elif hasattr(result, "__next__"):
        list(result)


async def tried(of: Callable[[], Any], seen: set[str]) -> None:
    try:
        await ended(of())
    except AskonceError as error:
        seen.add(type(error).__name__)


async def errors_of(kind: type) -> dict[str, set[str]]:
    """The errors of each method."""
    seen: dict[str, set[str]] = defaultdict(set)
    for state, made in STATES.items():
        one = made(kind)
        if state == "closed":
            await ended(one.close() if kind is Cache else one.aclose())
        for name, right in methods(kind).items():
            method = getattr(one, name)
            tries = wrong(method, right) if state == "well" and not name.endswith("close") else [right]
            for arguments in tries:
                await tried(partial(method, **arguments), seen[name])
    return seen


@cache
def all_errors(kind: type) -> dict[str, set[str]]:
    return asyncio.run(errors_of(kind))


def whole(doc: str, kind: type) -> str:
    """A docstring with those to which it refers for errors."""
    for other in SEVERAL.findall(" ".join(doc.split())):
        doc += " " + whole(inspect.getdoc(getattr(kind, other.rpartition(".")[2])) or "", kind)
    return doc


@pytest.mark.parametrize("kind", [Cache, AsyncCache])
def test_each_method_names_the_errors_that_it_raises(kind):
    seen = all_errors(kind)
    assert set(methods(kind)) == public(kind) - {"__init__"}, "a new method needs arguments that are right"
    missing = {
        name: sorted(error for error in errors if error not in whole(inspect.getdoc(getattr(kind, name)) or "", kind))
        for name, errors in seen.items()
    }
    assert {name: errors for name, errors in missing.items() if errors} == {}
    assert seen["fetch"] == {
        "RequestError",
        "ConfigError",
        "UsageError",
        "CacheClosed",
        "StoreUnavailable",
        "NotCached",
    }
    assert "StoreUnavailable" in seen["entries"] & seen["sweep"] & seen["misses"] & seen["savings"] & seen["invalidate"]


@pytest.mark.parametrize(
    ("made", "right"),
    [
        pytest.param(Cache, {"url": "memory://"}, id="Cache"),
        pytest.param(Policy, {}, id="Policy"),
        pytest.param(Keys, {"keys": {"a": bytes(32)}}, id="Keys"),
    ],
)
def test_what_is_made_names_the_errors_of_its_arguments(made, right):
    seen: set[str] = set()
    names = [name for name, one in inspect.signature(made).parameters.items() if one.kind is not one.VAR_KEYWORD]
    names += sorted(OPTIONS | RULE_WORDS | {"max_bytes"}) if made is Cache else []
    for name in names:
        for value in WRONG:
            try:
                made(**{**right, name: value})
            except AskonceError as error:
                seen.add(type(error).__name__)
    assert seen
    doc = f"{inspect.getdoc(made)} {inspect.getdoc(made.__init__)}"
    assert [error for error in sorted(seen) if error not in doc] == []
