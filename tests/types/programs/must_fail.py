"""Mistakes, each an error of types in the line that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import httpx
import openai

import askonce
from askonce import AsyncCache, Cache, Policy


async def later() -> dict[str, int]:
    return {"a": 1}


def now() -> dict[str, int]:
    return {"a": 1}


async def words_later() -> AsyncIterator[dict[str, str]]:
    yield {"word": "a"}


class Thing:
    pass


def a_thing() -> Thing:
    return Thing()


def mistakes(cache: Cache, slow: AsyncCache) -> None:
    Cache(polcy=Policy(ttl=5))  # error
    Cache(mode="redonly")  # error
    Cache(replay="slow")  # error
    Cache(tll=5)  # error
    Cache(ttl="5")  # error
    Cache(scopes={"a": 5})  # error
    Cache(max_bytes="1 GiB")  # error
    AsyncCache(mode="readonly")  # error
    Cache(fold="case")  # error
    Cache(fold=["cases"])  # error
    askonce.metric.prometheus(cache)  # error
    Policy(tool_calls="always")  # error
    Policy(on_abandon="stop")  # error
    askonce.configure(mode="redonly")  # error
    cache.fetch({"q": 1}, later)  # error
    cache.get_or_set([], "gpt", later)  # error
    askonce.get_or_set([], "gpt", later)  # error
    cache.fetch({"q": 1}, now())  # error
    cache.fetch({"q": 1}, a_thing)  # error
    cache.fetch({"q": 1}, now, tag=["a"])  # error
    cache.fetch({"q": 1}, now, ttl="5")  # error
    cache.fetch({"q": 1}, now).value["a"].upper()  # error
    cache.scoped(scopes="a")  # error
    cache.fetch_stream({"q": 1}, words_later)  # error
    cache.nothing()  # error
    openai.OpenAI(http_client=slow.http_client())  # error
    openai.AsyncOpenAI(http_client=cache.http_client())  # error
    anthropic.Anthropic(http_client=slow.http_client())  # error
    anthropic.AsyncAnthropic(http_client=cache.scoped(scope="a").http_client())  # error
    openai.OpenAI(http_client=slow.http_client(module=httpx))  # error


async def slow_mistakes(slow: AsyncCache) -> None:
    slow.fetch({"q": 1}, later)  # error
    (await slow.fetch({"q": 1}, later)).forget()  # error
    slow.invalidate(scope="a")  # error
    slow.sweep()  # error
    slow.aclose()  # error
    (await slow.fetch_stream({"q": 1}, words_later)).forget()  # error
    await slow.fetch({"q": 1}, now)  # error
    await slow.get_or_set([], "gpt", now)  # error
    await slow.fetch({"q": 1}, later, polcy=Policy())  # error
    for _ in slow.entries():  # error
        pass
