"""LangChain's caches of chat models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_community.cache import RedisCache, SQLiteCache
from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from bench.peers.adapter import TTL, Adapter, Place, Upstream

ROLES = {"system": "system", "human": "user"}


class Model(BaseChatModel):
    """A chat model that makes the paid call, and none of the work of a provider's own package."""

    upstream: Any

    @property
    def _llm_type(self) -> str:
        return "peer"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "gpt-4.1-mini", "temperature": 0, "max_tokens": 400}

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turns = [{"role": ROLES[one.type], "content": one.content} for one in messages]
        answer = self.upstream.call({**self._identifying_params, "messages": turns})
        message = AIMessage(answer["choices"][0]["message"]["content"], response_metadata={"id": answer["id"]})
        return ChatResult(generations=[ChatGeneration(message=message)])


class OnSqlite(Adapter):
    """`invoke` of a chat model with a cache. It has no lock."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.model = Model(upstream=upstream, cache=self.cache(place))

    def cache(self, place: Place) -> BaseCache:
        return SQLiteCache(str(Path(place.folder, "langchain.db")))

    def prepare(self, request: Any) -> Any:
        return [(one["role"], one["content"]) for one in request["messages"]]

    def ask(self, prepared: Any) -> Any:
        return self.model.invoke(prepared)

    def text(self, answer: Any) -> str:
        return str(answer.content)


class OnRedis(OnSqlite):
    """The same on Redis."""

    def cache(self, place: Place) -> BaseCache:
        import redis

        return RedisCache(redis.Redis.from_url(place.url), ttl=TTL)
