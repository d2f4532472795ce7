"""hishel: a client of httpx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hishel
from hishel.httpx import CacheClient

from bench.peers.adapter import TTL, Adapter, Place, Upstream


class OnSqlite(Adapter):
    """`CacheClient`. It has no lock, and serves no POST, so it is measured with a GET that names the question."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.client: Any = CacheClient(storage=self.storage(place), timeout=120)

    def storage(self, place: Place) -> Any:
        return hishel.SqliteStorage(database_path=Path(place.folder, "hishel.db"), default_ttl=TTL)

    def prepare(self, request: Any) -> Any:
        return str(request["messages"][-1]["content"]).partition(":")[0]

    def ask(self, prepared: Any) -> Any:
        return self.client.get(f"{self.upstream.url}/chat/completions?question={prepared}").json()


class OnRedis(OnSqlite):
    """The same on Redis."""

    def storage(self, place: Place) -> Any:
        import redis

        return hishel.RedisStorage(redis.Redis.from_url(place.url), default_ttl=TTL)
