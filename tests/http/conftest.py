"""Shared by the tests of HTTP clients: both modules, recorded traffic, and transports that see what went upstream."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from askonce import Cache
from tests.support import ReplayUpstream

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


@pytest.fixture(scope="session")
def records(corpus_dir: Path) -> list[Record]:
    """All recorded interactions."""
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def steady_replay(corpus_dir: Path) -> Iterator[ReplayUpstream]:
    """The recorded traffic as an upstream that answers the same request the same way every time."""
    with ReplayUpstream(corpus_dir, "--dup", "first") as running:
        yield running
