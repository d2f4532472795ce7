"""Recordings are tested behind HTTP clients: what their tests share is shared here, too."""

from __future__ import annotations

from tests.http.conftest import cache, module, records, steady_replay

__all__ = ["cache", "module", "records", "steady_replay"]
