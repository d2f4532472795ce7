"""Clients as programs set them up: hooks that change requests, and transports around ours, behind it, and of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import httpx
import httpx2
import pytest

from askonce import AsyncCache, Cache
from askonce.testing.answers import answer
from tests.http.conftest import CHAT
from tests.http.desk import MODEL
from tests.http.test_handed_on import SSE
from tests.http.upstreams import Scripted

BASE = "https://api.openai.com/v1"
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", CHAT),
    "stream": ("/chat/completions", {**CHAT, "stream": True}),
    "embeddings": ("/embeddings", {"model": MODEL, "input": ["a", "b"]}),
}
every_form = pytest.mark.parametrize("form", ASKED)


def sent(request: Any) -> dict[str, Any]:
    """The body that a transport sends, which is what its stream yields."""
    found: dict[str, Any] = json.loads(b"".join(request.stream))
    return found


class Upstream(Scripted):
    """Answers what is sent, and says who asked; keeps the bodies."""

    def __init__(self, module: Any) -> None:
        super().__init__(module, self._answered)
        self.bodies: list[dict[str, Any]] = []

    def _answered(self, request: Any) -> Any:
        self.bodies.append(body := sent(request))
        headers = {"x-sent": json.dumps(body)}
        if body.get("stream"):
            headers["content-type"] = "text/event-stream"
            return self.module.Response(200, headers=headers, stream=self.module.ByteStream(SSE))
        kind: Any = "openai.embeddings" if "input" in body else "openai.chat"
        return self.module.Response(200, headers=headers, json=answer(body, kind))


# --- hooks ---


def by_stream(module: Any, request: Any, body: bytes) -> None:
    request.stream = module.ByteStream(body)
    request.headers["content-length"] = str(len(body))


def by_stream_and_content(module: Any, request: Any, body: bytes) -> None:
    by_stream(module, request, body)
    request._content = body


def by_init(module: Any, request: Any, body: bytes) -> None:
    headers = [pair for pair in request.headers.raw if pair[0].lower() != b"content-length"]
    request.__init__(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


@every_form
@pytest.mark.parametrize("put", [by_stream, by_stream_and_content, by_init])
def test_the_body_that_a_hook_puts_in_its_place_is_the_question(module, cache, form, put):
    """A hook may add what the answer depends on: who gets one of an equal request is told by what was sent."""
    path, body = ASKED[form]
    who = ""

    def hook(request: Any) -> None:
        put(module, request, json.dumps({**sent(request), "customer": who}).encode())

    upstream = Upstream(module)
    with cache.http_client(module=module, inner=upstream, event_hooks={"request": [hook]}, base_url=BASE) as client:
        for who in ("alice", "bob", "alice", "bob"):
            got = client.post(path, json=body)
            assert json.loads(got.headers["x-sent"])["customer"] == who
            assert cache.why(got.request).reason == "hit"
    assert [one["customer"] for one in upstream.bodies] == ["alice", "bob"]


@pytest.mark.parametrize("header", ["x-signature", "X-Body-HMAC", "content-digest"])
def test_no_part_of_a_batch_is_sent_under_a_signature_of_all_of_it(module, cache, header):
    def sign(request: Any) -> None:
        request.headers[header] = hashlib.sha256(request.content).hexdigest()

    upstream = Upstream(module)

    def checked(request: Any) -> Any:
        right = hashlib.sha256(b"".join(request.stream)).hexdigest() == request.headers[header]
        return upstream.answer(request) if right else module.Response(401, json={"error": {"message": "not signed"}})

    path, body = ASKED["embeddings"]
    inner = module.MockTransport(checked)
    with cache.http_client(module=module, inner=inner, event_hooks={"request": [sign]}, base_url=BASE) as client:
        with cache.watch() as seen:
            client.post(path, json=body)
        cache.invalidate(key=seen[-1].key)
        assert client.post(path, json=body).status_code == 200
        assert client.post(path, json=body).headers["cache-status"].startswith("askonce; hit")


# --- one around another ---


@every_form
def test_a_cache_around_itself_does_not_wait_for_itself(tmp_path, form):
    """Nor around another one on the same store."""
    path, body = ASKED[form]
    upstream, url = Upstream(httpx2), f"sqlite:///{tmp_path}/a.db"
    with Cache(url) as cache, Cache(url) as other:
        inner = other.transport(inner=cache.transport(inner=other.transport(inner=upstream)))
        with cache.http_client(inner=inner, base_url=BASE, timeout=5) as client:
            first, second = (client.post(path, json=body) for _ in range(2))
    assert first.content == second.content
    assert len(upstream.bodies) == 1
    assert second.headers["cache-status"].startswith("askonce; hit")


@every_form
def test_nor_does_one_in_tasks(form):
    path, body = ASKED[form]
    upstream = Upstream(httpx)

    async def main() -> None:
        async with AsyncCache("memory://") as cache:
            inner = cache.transport(module=httpx, inner=upstream)
            async with cache.http_client(module=httpx, inner=inner, base_url=BASE, timeout=5) as client:
                await client.post(path, json=body)
                assert (await client.post(path, json=body)).headers["cache-status"].startswith("askonce; hit")

    asyncio.run(main())
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("form", ["chat", "stream"])
def test_each_of_two_stores_in_a_row_explains_what_it_answers(module, form):
    """As a program in front of a gateway: what the other one behind it says stays, and is not taken for its own."""
    path, body = ASKED[form]
    upstream = Upstream(module)
    with Cache("memory://") as behind, Cache("memory://") as cache:
        inner = behind.transport(module=module, inner=upstream)
        with module.Client(transport=inner, base_url=BASE) as other:
            other.post(path, json=body)
        with cache.http_client(module=module, inner=inner, base_url=BASE) as client:
            first, second = (client.post(path, json=body) for _ in range(2))
            said = [one.headers["cache-status"].split(", ") for one in (first, second)]
            assert [[one.startswith("askonce; hit") for one in each] for each in said] == [[True, False], [True, True]]
            assert [cache.why(one).reason for one in (first, second)] == ["never-seen", "hit"]
    assert len(upstream.bodies) == 1
