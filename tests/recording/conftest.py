"""Recordings are tested behind HTTP clients: the fixtures of those tests are used here too."""

from __future__ import annotations

from tests.http.conftest import cache, module

__all__ = ["cache", "module"]
