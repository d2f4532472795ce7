"""What the body's part of a key is made of where an operator says so: `normalize=`, `fold=`.

What goes upstream is untouched; only the key changes, and it says how. A question that was normalised or folded has a
key that no plain question has, nor one of another function or other folds: a cache that asks exactly never gets an
answer that was asked otherwise.

A function is called for every request, since it may look at more than the request. If it raises, or gives nothing that
a key can be made of, the request passes: it may have been there to tell two callers apart.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from askonce.core import keys
from askonce.core.fold import VERSION, folded
from askonce.core.rules import Rules
from askonce.errors import RequestError

__all__ = ["Normal", "NotNormal", "name_of", "normal_of"]


class NotNormal(Exception):
    """A request of which the operator's function makes nothing that a key can be made of."""


@dataclass(frozen=True, slots=True)
class Normal:
    """How the body's part of a key is made under rules that change it."""

    function: Callable[[Any], Any] | None
    name: str
    folds: tuple[str, ...]

    def body(self, request: Any, drop: Collection[str] = (), *, text: bool = True) -> bytes | None:
        """The body's part of the key; None where nothing is changed, and what always counts, counts.

        `request` is given away: the function may change it. `drop`: fields of its result that do not count. `text`:
        whether it has a user text to fold, other than an embeddings request.
        """
        said = ""
        if self.function is not None:
            request, said = _normalized(self.function, request, drop), f"normalize {self.name}\0"
        if text and self.folds and (found := folded(request, self.folds)) is not None:
            request, said = found, f"{said}fold{VERSION} {','.join(self.folds)}\0"
        if not said:
            return None
        try:
            return said.encode() + keys.canonical(request)
        except RequestError as error:
            if self.function is None:
                raise
            raise NotNormal(f"gave what has no JSON form: {error}") from None


def normal_of(rules: Rules) -> Normal | None:
    """How keys are made under these rules; None where they are made as always."""
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
        raise NotNormal("gave a coroutine: it cannot be awaited here")
    # None is what a function gives that changes the request in place and forgets to return it: one key for everything.
    if found is None or isinstance(found, bool | int | float) or not found:
        raise NotNormal(f"gave {found!r}: return what the key is made of")
    return {name: value for name, value in found.items() if name not in drop} if isinstance(found, dict) else found


# --- the name of a function --------------------------------------------------------------------------------------


def name_of(function: Callable[..., Any]) -> str:
    """A name for what a function does, the same in every process of one version of Python.

    Of its place, its code, its defaults and what it encloses; not of the globals and functions that it uses.
    """
    return hashlib.sha256(repr(_told(function, 8)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _told(value: object, depth: int) -> object:
    """A value as plain data whose repr is the same everywhere."""
    if depth == 0:
        return "..."
    inner = depth - 1
    for kinds, tell in _TELL:
        if isinstance(value, kinds):
            return tell(value, inner)
    # Of what an object holds, only what is plain: the rest may be anything, and of any size.
    plain = {name: one for name, one in getattr(value, "__dict__", {}).items() if isinstance(one, _PLAIN)}
    return type(value).__module__, type(value).__qualname__, _told(plain, inner)


def _function(value: types.FunctionType, depth: int) -> object:
    enclosed = [_told(_content(cell), depth) for cell in value.__closure__ or ()]
    told = (_told(value.__code__, depth), _told(value.__defaults__, depth), _told(value.__kwdefaults__, depth))
    return value.__module__, value.__qualname__, *told, enclosed


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _code(value: types.CodeType, depth: int) -> object:
    return value.co_code, value.co_names, value.co_varnames, [_told(const, depth) for const in value.co_consts]


_PLAIN = (str, bytes, int, float, complex, type(None), type(...))
_TELL: tuple[tuple[Any, Callable[[Any, int], object]], ...] = (
    (types.FunctionType, _function),
    (types.CodeType, _code),
    (types.MethodType, lambda value, depth: (_told(value.__func__, depth), _told(value.__self__, depth))),
    (functools.partial, lambda value, depth: [_told(one, depth) for one in (value.func, value.args, value.keywords)]),
    ((type, types.BuiltinFunctionType), lambda value, _: (value.__module__, value.__qualname__)),
    (types.ModuleType, lambda value, _: value.__name__),
    (re.Pattern, lambda value, _: (value.pattern, value.flags)),
    # The order of a set differs between processes.
    ((set, frozenset), lambda value, depth: sorted(repr(_told(one, depth)) for one in value)),
    (
        Mapping,
        lambda value, depth: sorted(repr((_told(name, depth), _told(one, depth))) for name, one in value.items()),
    ),
    ((list, tuple), lambda value, depth: [_told(one, depth) for one in value]),
    (_PLAIN, lambda value, _: repr(value)),
)
