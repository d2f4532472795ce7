"""A page over a view that tells what a test says, and a browser without scripts (`browse`) that is logged in."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from askonce import AsyncCache
from askonce.gateway.page import page_app
from askonce.gateway.page.app import alone
from askonce.gateway.page.session import Sessions
from askonce.gateway.page.starts import Start
from askonce.gateway.view import View
from tests.gateway.page.sights import Told, ToldView, busy

TOKEN = "a-token-of-some-length"


def starts(origin: str) -> list[Start]:
    return [Start("Any language", f"export OPENAI_BASE_URL={origin}/openai/v1")]


def page_of(view: View, **more: Any) -> ASGIApp:
    """The page of a view, on a server of its own; `more` as of page_app."""
    return alone(page_app(view, Sessions(TOKEN, time.time), starts=starts, **more))


BASE = "http://page/_askonce/"


@pytest.fixture
async def cache(tmp_path) -> AsyncIterator[AsyncCache]:
    async with AsyncCache(f"sqlite:///{tmp_path / 'answers.db'}", prefix="llm:v3") as made:
        yield made


@pytest.fixture
def told() -> Told:
    return busy()


@pytest.fixture
def app(cache, told):
    return page_of(ToldView(cache, told))


@pytest.fixture
async def stranger(app) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as made:
        yield made


@pytest.fixture
async def browse(stranger: httpx2.AsyncClient) -> httpx2.AsyncClient:
    answer = await stranger.post("login", data={"token": TOKEN})
    assert answer.status_code == 303
    return stranger


@asynccontextmanager
async def looking(told: Told, cache: AsyncCache | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser in front of a page of its own."""
    async with AsyncCache("memory://") if cache is None else nullcontext(cache) as kept:
        transport = httpx2.ASGITransport(page_of(ToldView(kept, told)))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
            await client.post("login", data={"token": TOKEN})
            yield client


def mark_of(page: str) -> str:
    """What the forms of a page send back to show that they are from it."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


async def store(cache: AsyncCache, text: str, number: int = 0, model: str = "gpt-5", **labels: object) -> str:
    """Store an answer with this text; its key."""

    async def call() -> dict[str, object]:
        message = {"role": "assistant", "content": text}
        return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}

    request = {"model": model, "messages": [{"role": "user", "content": f"question {number}"}]}
    return (await cache.fetch(request, call, **labels)).key  # type: ignore[arg-type]
