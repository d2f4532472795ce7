"""dogpile.cache, on redis-py."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from dogpile.cache import make_region

from bench.peers.adapter import LOCK, TTL, Adapter, Place, Upstream, key


class Dogpile(Adapter):
    """`get_or_create` with the distributed lock, which lives for ever unless it is told not to."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        arguments = {
            "url": place.url,
            "redis_expiration_time": TTL,
            "distributed_lock": True,
            "thread_local_lock": False,
            "lock_timeout": LOCK,
            "lock_sleep": 0.01,
        }
        region = make_region(serializer=orjson.dumps, deserializer=orjson.loads)
        self.region: Any = region.configure("dogpile.cache.redis", arguments=arguments)

    def ask(self, prepared: Any) -> Any:
        return self.region.get_or_create(key(prepared), partial(self.upstream.call, prepared))
