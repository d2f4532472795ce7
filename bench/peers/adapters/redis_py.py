"""redis-py alone, the floor: the key is known beforehand, and a hit's bytes are not parsed."""

from __future__ import annotations

import json
from typing import Any

import redis

from bench.peers.adapter import TTL, Adapter, Place, Upstream, key


class BareGet(Adapter):
    """GET; without an answer the call, and SET. No lock."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.client: Any = redis.Redis.from_url(place.url)

    def prepare(self, request: Any) -> Any:
        return key(request), request

    def ask(self, prepared: Any) -> Any:
        name, request = prepared
        found = self.client.get(name)
        if found is None:
            found = json.dumps(self.upstream.call(request)).encode()
            self.client.set(name, found, ex=TTL)
        return found

    def text(self, answer: Any) -> str:
        return super().text(json.loads(answer))
