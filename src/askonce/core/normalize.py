"""The body's part of a key under an operator's rules: `normalize=`, `fold=`.

Only the key changes; the request goes upstream untouched. The key names the function and the folds, so a normalised or
folded question never shares a key with a plain one, or with one under other rules.

The function is called for every request, because it may look at more than the request. If it raises, or returns nothing
usable as a key, the request passes: the function may exist to write two callers apart.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

from askonce.core import keys
from askonce.core.fold import VERSION, folded
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.rules import Rules
from askonce.errors import RequestError

__all__ = ["Normal", "NotNormal", "name_of", "normal_of"]


class NotNormal(Exception):
    """The operator's function makes nothing of this request that can be part of a key."""


class Normal(NamedTuple):
    """How the body's part of a key is made under rules that change it."""

    function: Callable[[Any], Any] | None
    name: str
    folds: tuple[str, ...]

    def body(self, request: Any, drop: Collection[str] = (), *, text: bool = True) -> bytes | None:
        """The body's part of the key; None if the rules change nothing.

        `request` is given away: the function may change it. `drop`: fields of its result that do not count. `text`:
        False for an embeddings request, which has no user text to fold.
        """
        label = ""
        if self.function is not None:
            request, label = _normalized(self.function, request, drop), f"normalize {self.name}\0"
        if text and self.folds and (found := folded(request, self.folds)) is not None:
            request, label = found, f"{label}fold{VERSION} {','.join(self.folds)}\0"
        if not label:
            return None
        try:
            return label.encode() + keys.canonical(request)
        except RequestError as error:
            if self.function is None:
                raise
            raise NotNormal(f"returned a value without a JSON form: {error}") from None


def normal_of(rules: Rules) -> Normal | None:
    """How keys are made under these rules; None if the rules leave them as usual."""
    if rules.normalize is None and not rules.fold:
        return None
    name = name_of(rules.normalize) if rules.normalize is not None else ""
    return Normal(rules.normalize, name, tuple(sorted({*rules.fold})))


def _normalized(function: Callable[[Any], Any], request: Any, drop: Collection[str]) -> Any:
    try:
        found = function(request)
    except Exception as error:
        raise NotNormal(f"raised {error!r}") from error
    if inspect.iscoroutine(found):
        found.close()
        raise NotNormal("returned a coroutine, which cannot be awaited here: write a plain function")
    # A function that changes the request in place and forgets to return it gives None: one key for everything.
    if found is None or isinstance(found, bool | int | float) or not found:
        raise NotNormal(f"returned {found!r}: return the part of the request that counts in the key")
    return {name: value for name, value in found.items() if name not in drop} if isinstance(found, dict) else found


# --- the name of a function --------------------------------------------------------------------------------------


def name_of(function: Callable[..., Any]) -> str:
    """A name for what a function does, the same in every process of one version of Python.

    It covers its place, code, defaults and closure, but not the globals and functions that it uses.
    """
    return hashlib.sha256(repr(_plain_data(function, 8)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain_data(value: object, depth: int) -> object:
    """A value as plain data with the same repr in every process."""
    if depth == 0:
        return "..."
    inner = depth - 1
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value, inner)
    # Only the plain attributes of an object: the rest may be anything, of any size.
    plain = {name: one for name, one in getattr(value, "__dict__", {}).items() if isinstance(one, _PLAIN)}
    return type(value).__module__, type(value).__qualname__, _plain_data(plain, inner)


def _function(value: types.FunctionType, depth: int) -> object:
    enclosed = [_plain_data(_content(cell), depth) for cell in value.__closure__ or ()]
    written = (
        _plain_data(value.__code__, depth),
        _plain_data(value.__defaults__, depth),
        _plain_data(value.__kwdefaults__, depth),
    )
    return value.__module__, value.__qualname__, *written, enclosed


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _code(value: types.CodeType, depth: int) -> object:
    return value.co_code, value.co_names, value.co_varnames, [_plain_data(const, depth) for const in value.co_consts]


_PLAIN = (str, bytes, int, float, complex, type(None), type(...))
_WRITERS: tuple[tuple[Any, Callable[[Any, int], object]], ...] = (
    (types.FunctionType, _function),
    (types.CodeType, _code),
    (types.MethodType, lambda value, depth: (_plain_data(value.__func__, depth), _plain_data(value.__self__, depth))),
    (
        functools.partial,
        lambda value, depth: [_plain_data(one, depth) for one in (value.func, value.args, value.keywords)],
    ),
    ((type, types.BuiltinFunctionType), lambda value, _: (value.__module__, value.__qualname__)),
    (types.ModuleType, lambda value, _: value.__name__),
    (re.Pattern, lambda value, _: (value.pattern, value.flags)),
    # Processes order sets differently.
    ((set, frozenset), lambda value, depth: sorted(repr(_plain_data(one, depth)) for one in value)),
    (
        Mapping,
        lambda value, depth: sorted(
            repr((_plain_data(name, depth), _plain_data(one, depth))) for name, one in value.items()
        ),
    ),
    ((list, tuple), lambda value, depth: [_plain_data(one, depth) for one in value]),
    (_PLAIN, lambda value, _: repr(value)),
)
