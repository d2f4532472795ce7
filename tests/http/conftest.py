"""Shared by the tests of HTTP clients: both modules, recorded traffic, and transports that see what went upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

from askonce import Cache

MODULES = [httpx2, httpx]
CHAT: dict[str, Any] = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hi"}]}

Record = dict[str, Any]


@pytest.fixture(params=MODULES, ids=["httpx2", "httpx"])
def module(request: pytest.FixtureRequest) -> Any:
    """The HTTP module under a client."""
    return request.param


@pytest.fixture
def cache() -> Iterator[Cache]:
    """A cache in memory."""
    with Cache("memory://") as cache:
        yield cache
