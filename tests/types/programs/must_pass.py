"""What users write, and must type-check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict, assert_type

import anthropic
import httpx
import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

import askonce
from askonce import AsyncCache, AsyncOutcome, Cache, Outcome, Policy


class Answer(TypedDict):
    text: str
    tokens: int


def typed() -> Answer:
    return {"text": "a", "tokens": 1}


def untyped() -> Any:
    return 5


async def later() -> Answer:
    return typed()


def words() -> Iterator[dict[str, str]]:
    yield {"word": "a"}


async def words_later() -> AsyncIterator[dict[str, str]]:
    yield {"word": "a"}


def ask(cache: Cache, client: openai.OpenAI) -> None:
    outcome = cache.fetch({"q": 1}, typed, ttl=60, tags=["a"], grace=5)
    assert_type(outcome, Outcome[Answer])
    assert_type(outcome.value["tokens"], int)
    outcome.forget()
    assert_type(cache.fetch({"q": 1}, lambda: {"a": 1}).value, dict[str, int])
    assert_type(cache.fetch({"q": 1}, lambda: "text").value, str)
    assert_type(cache.fetch({"q": 1}, lambda: [1, 2]).value, list[int])
    assert_type(cache.get_or_set([], "gpt", typed, ttl=5, temperature=0), Answer)
    assert_type(askonce.get_or_set([], "gpt", typed), Answer)
    cache.fetch({"q": 1}, untyped).value.anything()
    with cache.scoped(scope="a/b", policy=Policy(ttl=60)) as handle:
        assert_type(handle.fetch({"q": 1}, typed).value, Answer)
    for item in cache.fetch_stream({"q": 1}, words):
        assert_type(item, dict[str, str])

    def chunks() -> openai.Stream[ChatCompletionChunk]:
        return client.chat.completions.create(model="gpt", messages=[], stream=True)

    with cache.fetch_stream({"q": 1}, chunks, item=ChatCompletionChunk) as stream:
        assert_type(next(stream), ChatCompletionChunk)


async def ask_later(cache: AsyncCache) -> None:
    outcome = await cache.fetch({"q": 1}, later)
    assert_type(outcome, AsyncOutcome[Answer])
    await outcome.forget()
    assert_type(await cache.get_or_set([], "gpt", later), Answer)
    async for item in await cache.fetch_stream({"q": 1}, words_later):
        assert_type(item, dict[str, str])
    await cache.invalidate(scope="a")
    async with cache.scoped(ttl=5).http_client() as client:
        assert_type(client, httpx2.AsyncClient)


def clients(cache: Cache, later: AsyncCache) -> None:
    assert_type(cache.http_client(), httpx2.Client)
    assert_type(later.http_client(), httpx2.AsyncClient)
    assert_type(cache.http_client(module=httpx), httpx.Client)
    assert_type(later.http_client(module=httpx), httpx.AsyncClient)
    openai.OpenAI(http_client=cache.http_client(scope="a", timeout=5))
    openai.AsyncOpenAI(http_client=later.http_client())
    anthropic.Anthropic(http_client=cache.http_client())
    anthropic.AsyncAnthropic(http_client=later.scoped(scope="a").http_client())


def settings() -> None:
    Cache(ttl=3600, grace=5, mode="refresh", max_bytes=2**20, replay="paced")
    Cache("redis://localhost", near="64MB", socket_timeout=0.5, ssl_ca_certs="ca.pem", scopes={"a": Policy(ttl=5)})
    Cache(fold=["case"], ignore_headers=["x-turn-*"], policy=Policy(tool_calls="judge"))
    askonce.configure(url="memory://", mode="off")


def carried(text: str, *, more: int = 0) -> str:
    return text * more


assert_type(askonce.carry(carried)("a", more=2), str)
