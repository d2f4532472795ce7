"""Settings of contexts, carried into threads that a pool started earlier."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from askonce.cache.base import scoping
from askonce.core.wording import shown
from askonce.errors import UsageError
from askonce.events import watching

P = ParamSpec("P")
R = TypeVar("R")


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Return the same function, which runs with the ``scoped()`` and ``watch()`` of the place where it is carried.

        with cache.scoped(scope="support"), cache.watch() as seen:
            answers = list(pool.map(askonce.carry(ask), questions))

    A thread of a pool was started earlier, in another context, and Python passes none on. Tasks, ``asyncio.to_thread``
    and threads started with a copied context need no carrying. Also takes coroutine functions, for another event loop.
    UsageError for anything that cannot be called, and for generator functions, which run where they are read.
    """
    if not callable(function):
        raise UsageError(f"{shown(function)} is not a function: write carry(ask), and call what it returns")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{shown(function)} is a generator, which runs where it is read: carry the function that reads it"
        )
    inside = _inside(scoping.get(), watching.get())
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **more: Any) -> Any:
            with inside():
                return await function(*args, **more)

        return awaited  # type: ignore[return-value]

    @functools.wraps(function)
    def carried(*args: P.args, **more: P.kwargs) -> R:
        with inside():
            return function(*args, **more)

    return carried


def _inside(scopes: Any, watchers: Any) -> Callable[[], Any]:
    @contextmanager
    def inside() -> Iterator[None]:
        # Not Context.run: a context can be entered once at a time, and a pool runs one function many times at once.
        scope, watcher = scoping.set(scopes), watching.set(watchers)
        try:
            yield
        finally:
            with suppress(ValueError):  # a coroutine is closed in another context, where it has set nothing
                watching.reset(watcher)
                scoping.reset(scope)

    return inside
