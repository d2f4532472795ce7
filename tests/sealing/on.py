"""Compression and encryption on, for every cache that a test makes, and in the processes that it starts."""

from __future__ import annotations

import os

import pytest

RING = f"laws={os.urandom(32).hex()}"


@pytest.fixture(autouse=True)
def both_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKONCE_KEYS", RING)
    monkeypatch.setenv("ASKONCE_COMPRESS", "zstd")
