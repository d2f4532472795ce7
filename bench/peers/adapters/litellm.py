"""LiteLLM's SDK with its cache."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import litellm
from litellm.caching.caching import Cache

from bench.peers.adapter import TTL, Adapter, Place, Upstream


class LiteLLM(Adapter):
    """`completion(caching=True)` with the cache on Redis. It has no lock."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        at = urlsplit(place.url)
        made: Any = Cache
        litellm.cache = made(type="redis", host=at.hostname, port=at.port, db=int(at.path.strip("/")), ttl=TTL)
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        self._completion: Any = litellm.completion

    def prepare(self, request: Any) -> Any:
        return {**request, "model": f"openai/{request['model']}"}

    def ask(self, prepared: Any) -> Any:
        return self._completion(
            **prepared, api_base=self.upstream.url, api_key="any", caching=True, num_retries=0, timeout=120
        )

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)
