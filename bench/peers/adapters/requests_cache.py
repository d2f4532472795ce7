"""requests-cache: a session of requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from requests_cache import CachedSession, RedisCache, SQLiteCache

from bench.peers.adapter import TTL, Adapter, Place, Upstream


class OnSqlite(Adapter):
    """`CachedSession` that caches POST too; it makes its keys itself, of the body too. It has no lock."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.session: Any = CachedSession(
            backend=self.backend(place), allowable_methods=("GET", "POST"), expire_after=TTL
        )

    def backend(self, place: Place) -> Any:
        return SQLiteCache(str(Path(place.folder, "requests.sqlite")), wal=True)

    def ask(self, prepared: Any) -> Any:
        return self.session.post(f"{self.upstream.url}/chat/completions", json=prepared).json()


class OnRedis(OnSqlite):
    """The same on Redis."""

    def backend(self, place: Place) -> Any:
        import redis

        return RedisCache(connection=redis.Redis.from_url(place.url))
