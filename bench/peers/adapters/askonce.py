"""askonce itself, in the four ways in which it is used."""

from __future__ import annotations

from functools import partial
from typing import Any

from askonce import AsyncCache, Cache
from bench.peers.adapter import Adapter, Place, Upstream


class Threads(Adapter):
    """`fetch` in threads."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.cache = Cache(place.url)

    def ask(self, prepared: Any) -> Any:
        return self.cache.fetch(prepared, partial(self.upstream.call, prepared)).value


class Tasks(Adapter):
    """`fetch` in tasks."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.cache = AsyncCache(place.url)

    async def ask(self, prepared: Any) -> Any:
        return (await self.cache.fetch(prepared, partial(self.upstream.acall, prepared))).value


class Client(Adapter):
    """`http_client()`."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.client = Cache(place.url).http_client()

    def ask(self, prepared: Any) -> Any:
        return self.client.post(f"{self.upstream.url}/chat/completions", json=prepared).json()


class SDK(Adapter):
    """OpenAI's SDK with `http_client()`."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        from openai import OpenAI

        http = Cache(place.url).http_client()
        self._made = partial(OpenAI, api_key="any", max_retries=0, http_client=http)
        self._clients: dict[str, OpenAI] = {}

    def ask(self, prepared: Any) -> Any:
        url = self.upstream.url
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = self._made(base_url=url)
        return client.chat.completions.create(**prepared)

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)
