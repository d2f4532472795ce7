"""cashews, on redis.asyncio."""

from __future__ import annotations

from typing import Any

import cashews

from bench.peers.adapter import LOCK, TTL, Adapter, Place, Upstream, key


class Cashews(Adapter):
    """`@cache` inside and outside of `@cache.locked`.

    `@cache(lock=True)` would take the lock for every hit too, and hold it as long as an entry lives. Without the inner
    `@cache`, each waiter would pay once it has the lock.
    """

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        cache = cashews.Cache()
        cache.setup(place.url)

        @cache(ttl=TTL, key="{name}")
        @cache.locked(ttl=LOCK, key="{name}", check_interval=0.01)
        @cache(ttl=TTL, key="{name}")
        async def cached(name: str, request: Any) -> Any:  # noqa: ARG001 - it is the key
            return await upstream.acall(request)

        self._cached: Any = cached

    async def ask(self, prepared: Any) -> Any:
        return await self._cached(key(prepared), prepared)
