"""Runs a coroutine that never suspends. So the protocol, written once, runs in sync mode.

It costs half a microsecond; an event loop costs thirty. A coroutine that suspends here is a bug of this library (an
asyncio primitive in the protocol, or an async store under a sync cache), and raises an error that says so.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def drive(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that finishes at its first step."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a coroutine suspended in sync mode: an asynchronous part was given to a synchronous cache")
