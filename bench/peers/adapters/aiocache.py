"""aiocache, on redis.asyncio."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import aiocache
import orjson
from aiocache.serializers import BaseSerializer

from bench.peers.adapter import LOCK, TTL, Adapter, Place, Upstream, key


class Json(BaseSerializer):
    """orjson: its own JsonSerializer takes ten times as long, and its PickleSerializer twice as long."""

    DEFAULT_ENCODING = None

    def dumps(self, value: Any) -> Any:
        return orjson.dumps(value)

    def loads(self, value: Any) -> Any:
        return None if value is None else orjson.loads(value)


class Aiocache(Adapter):
    """`@cached_stampede`, whose lease is a RedLock."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        at = urlsplit(place.url)

        @aiocache.cached_stampede(
            lease=LOCK,
            ttl=TTL,
            cache=aiocache.Cache.REDIS,
            endpoint=at.hostname,
            port=at.port,
            db=int(at.path.strip("/")),
            serializer=Json(),
            key_builder=lambda _function, name, _request: name,
        )
        async def cached(_name: str, request: Any) -> Any:
            return await upstream.acall(request)

        self._cached: Any = cached

    async def ask(self, prepared: Any) -> Any:
        return await self._cached(key(prepared), prepared)
