"""A pytest plugin that puts askonce's transport before every transport that an httpx or httpx2 client sends by.

A client looks the same from outside: its transports stay in place, and what it sends is led through askonce. Each test
has caches of its own, so that no test affects the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
from suite_recorder import modules  # type: ignore[import-not-found]  # beside us

from askonce import AsyncCache, Cache

seen: list[str] = []  # how the lookups of this test ended

_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("sending", default=False)
_caches: dict[bool, tuple[Any, Any]] = {}
_wrapped: dict[int, tuple[Any, Any]] = {}  # by the id of the inner transport, which is kept with it


@contextlib.contextmanager
def _within() -> Iterator[None]:
    token = _sending.set(True)
    try:
        yield
    finally:
        _sending.reset(token)


def _cache(*, asynchronous: bool) -> Any:
    if asynchronous not in _caches:
        made: Any = AsyncCache("memory://") if asynchronous else Cache("memory://")
        made.on_event(lambda event: seen.append(str(event.status)) if event.name == "lookup" else None)
        _caches[asynchronous] = made, asyncio._get_running_loop()
    return _caches[asynchronous][0]


def _ours(module: Any, inner: Any, *, asynchronous: bool) -> Any:
    if id(inner) not in _wrapped:
        wrapped = _cache(asynchronous=asynchronous).transport(module=module, inner=inner)
        _wrapped[id(inner)] = inner, wrapped
    return _wrapped[id(inner)][1]


def _wrap(module: Any, kind: Any, *, asynchronous: bool) -> None:
    find, send = kind._transport_for_url, kind._send_single_request

    def found(self: Any, url: Any) -> Any:
        inner = find(self, url)
        return _ours(module, inner, asynchronous=asynchronous) if _sending.get() else inner

    def sent(self: Any, request: Any) -> Any:
        with _within():
            return send(self, request)

    async def asent(self: Any, request: Any) -> Any:
        with _within():
            return await send(self, request)

    kind._transport_for_url = found
    kind._send_single_request = asent if asynchronous else sent


def pytest_configure(config: Any) -> None:
    for module in modules():
        for kind, asynchronous in ((module.Client, False), (module.AsyncClient, True)):
            _wrap(module, kind, asynchronous=asynchronous)


def pytest_runtest_logstart(nodeid: str) -> None:
    seen.clear()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: Any, nextitem: Any) -> None:
    _wrapped.clear()
    for asynchronous in list(_caches):
        cache, loop = _caches.pop(asynchronous)
        if not asynchronous:
            cache.close(0)
        elif loop is not None and not (loop.is_closed() or loop.is_running()):
            loop.run_until_complete(cache.aclose(0))
