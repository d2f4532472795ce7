"""Shared by tests of streams behind SDKs: recorded traffic, and an upstream that sends what the test tells it to."""

from __future__ import annotations

import pytest

from tests.http.conftest import cache, module
from tests.http.streams.talking import Talking

__all__ = ["cache", "module"]


@pytest.fixture
def talking(module):
    """A transport whose answers are said part by part, by the test."""
    return Talking(module)


@pytest.fixture
def place(tmp_path):
    """A store that two caches share as two processes do."""
    return f"sqlite:///{tmp_path}/streams.db"
