"""Which flights' calls are around this code: a call that asks its own question would wait for itself."""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from askonce.errors import UsageError
from askonce.flight.flight import Flight

T = TypeVar("T")

# The flights whose calls are around this code. Weak: a task that a call starts copies this, and may outlive the answer.
leading: contextvars.ContextVar[tuple[weakref.ref[Flight], ...]] = contextvars.ContextVar("leading", default=())


async def within(flights: Iterable[Flight], call: Callable[[], Awaitable[T]]) -> T:
    """Make a call, and note meanwhile that it is the call of these flights."""
    around = [ref for ref in leading.get() if (one := ref()) is not None and not one.over]
    token = leading.set((*around, *map(weakref.ref, flights)))
    try:
        return await call()
    finally:
        with contextlib.suppress(ValueError):  # the garbage collector runs in another context
            leading.reset(token)


def check_outside(awaited: Flight | bytes) -> None:
    """UsageError if this code runs inside the call that it would wait for. A flight of another cache is an id."""
    for ref in leading.get():
        # A landed flight may still be here: an exception can come before it is removed.
        if (one := ref()) is not None and not one.done and awaited in (one, one.id):
            raise UsageError("the call that answers this question asks it again: wrap that call once only")
