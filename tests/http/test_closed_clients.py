"""A client is closed, and what its requests began goes on: a refresh, a call that others wait for, a stream they read.

A program that makes a client for each request pays for nothing twice, and nothing that it paid for is lost.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from askonce import Policy
from askonce.http.received import subclass
from askonce.runtime import threads as runtime
from tests.crowd import PATIENCE, eventually
from tests.http.conftest import CHAT
from tests.http.streams.talking import SSE, STORY, STREAM, URL
from tests.http.test_requests import ANSWER
from tests.http.upstreams import Closable
from tests.took import Took

pytestmark = pytest.mark.concurrency

STALE = Policy(ttl=0.01, grace=60.0, max_age=600.0, jitter=0)
VECTORS = {"model": "text-embedding-3-small", "input": ["a", "b"]}
EMBEDDED = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": at, "embedding": [0.5, at]} for at in range(2)],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
BODIES = {"chat": CHAT, "vectors": VECTORS, "stream": STREAM}
URLS = {"chat": URL, "vectors": URL.replace("chat/completions", "embeddings"), "stream": URL}
STORED = {"chat": 2, "vectors": 4, "stream": 2}  # entries, after one answer and its refresh


class Upstream(Closable):
    """An inner transport. Its calls answer when they may, and break once it is closed, as those of a pool do."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.may_answer = threading.Event()
        self.calls = 0
        self.closed = 0
        self.fails: Exception | None = None
        self.fails_to_close: Exception | None = None

    def handle_request(self, request: Any) -> Any:
        answer = self._answer(request)
        if answer.headers["content-type"] != SSE["content-type"]:
            self.wait()
        return answer

    async def handle_async_request(self, request: Any) -> Any:
        answer = self._answer(request)
        if answer.headers["content-type"] != SSE["content-type"]:
            await self.aio_wait()
        return answer

    def _answer(self, request: Any) -> Any:
        self.calls += 1
        assert not self.closed
        module, body = self.module, json.loads(request.content)
        if body.get("stream"):
            parts = subclass("HeldParts", Parts, module.SyncByteStream, module.AsyncByteStream)
            return module.Response(200, headers=SSE, stream=parts(self))
        return module.Response(200, json=EMBEDDED if "input" in body else ANSWER)

    def _still_waits(self) -> bool:
        if self.closed:
            raise self.module.ReadError("the pool was closed")
        if self.fails is not None and self.may_answer.is_set():
            raise self.fails
        return not self.may_answer.is_set()

    def wait(self) -> None:
        while self._still_waits():
            time.sleep(0.002)

    async def aio_wait(self) -> None:
        while self._still_waits():  # noqa: ASYNC110 - a thread tells
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self.closed += 1
        if self.fails_to_close is not None:
            raise self.fails_to_close


class Parts:
    """The body of a stream: after its first part it waits too."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def __iter__(self) -> Iterator[bytes]:
        yield STORY[0]
        self.upstream.wait()
        yield from STORY[1:]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield STORY[0]
        await self.upstream.aio_wait()
        for part in STORY[1:]:
            yield part


class World:
    """One cache, and clients of it that come and go."""

    def __init__(self, crowd: Any, module: Any, url: str = "memory://", policy: Policy | None = None) -> None:
        self.crowd = crowd
        self.module = module
        self.upstream = Upstream(module)
        self.cache = crowd.cache(url, policy=policy)

    def client(self, upstream: Upstream | None = None) -> Any:
        return self.cache.http_client(module=self.module, inner=upstream or self.upstream)

    def ask(self, client: Any, what: str = "chat") -> Any:
        """Start one caller, as a Future of the bytes that it gets."""
        body, url = BODIES[what], URLS[what]
        if self.crowd.tasks:

            async def asked() -> bytes:
                async with client.stream("POST", url, json=body) as response:
                    return b"".join([part async for part in response.aiter_bytes()])

            return self.crowd.loop.submit(asked())

        def ask() -> bytes:
            with client.stream("POST", url, json=body) as response:
                return b"".join(response.iter_bytes())

        return self.crowd.start(ask)

    def stale(self, what: str) -> None:
        """Have an answer that the next lookup refreshes, by a call that waits."""
        self.upstream.may_answer.set()
        client = self.client(Upstream(self.module))
        client._transport.inner.may_answer.set()
        self.ask(client, what).result(PATIENCE)
        self.close(client)
        time.sleep(0.02)  # longer than it is fresh
        self.upstream.may_answer.clear()

    def close(self, client: Any) -> None:
        if self.crowd.tasks:
            self.crowd.loop.do(client.aclose())
        else:
            client.close()

    def flights(self) -> Any:
        return self.cache._base._engine.board.flights()

    def followed(self, what: str = "chat") -> tuple[Any, Any, Any, Any]:
        """A call that a caller of another client waits for, or reads: both clients, and what their callers get."""
        leads, follows = self.client(), self.client(Upstream(self.module))
        leader = self.ask(leads, what)
        eventually(lambda: self.upstream.calls == 1, "the leader calls")
        follower = self.ask(follows, what)
        eventually(lambda: sum(flight.followers for flight in self.flights()), "the follower waits")
        return leads, follows, leader, follower

    def alone(self, what: str) -> tuple[Any, Any]:
        """A call that its own caller alone waits for, or reads: the client, and what its caller gets."""
        client = self.client()
        asked = self.ask(client, what)
        eventually(lambda: self.upstream.calls == 1, "it is called")
        if what == "stream":
            eventually(lambda: any(flight.done for flight in self.flights()), "it is read")
        return client, asked

    def closes_and_goes_on(self, client: Any) -> None:
        """Close a client; its upstream is closed once its calls are over, and not before."""
        took = Took()
        self.close(client)
        assert took.seconds < 0.5, "a close waits for nothing"
        assert self.flights()
        assert not self.upstream.closed
        self.upstream.may_answer.set()
        eventually(lambda: self.upstream.closed == 1, "the connections are closed")
        eventually(lambda: not self.flights(), "nothing goes on")

    def stores(self, what: str) -> None:
        """The next caller is answered from the store."""
        calls = self.upstream.calls
        client = self.client()
        assert self.ask(client, what).result(PATIENCE)
        assert self.upstream.calls == calls
        self.close(client)


@pytest.mark.parametrize("what", BODIES)
def test_a_refresh_outlives_the_client_that_began_it(crowd, module, what):
    world = World(crowd, module, policy=STALE)
    world.stale(what)
    client = world.client()
    world.ask(client, what).result(PATIENCE)
    eventually(lambda: world.upstream.calls == 1, "it is refreshed")
    world.closes_and_goes_on(client)
    assert world.cache.stats()["stored"] == STORED[what]
    assert "failed" not in world.cache.stats()


def test_a_refresh_outlives_its_client_that_another_loop_closes_and_that_loop(tasks, module, monkeypatch):
    monkeypatch.setattr("askonce.runtime.tasks.LAST", 0.1)
    monkeypatch.setattr("askonce.runtime.tasks.GIVEN_BACK", 0.1)
    world = World(tasks, module, policy=STALE)
    world.stale("chat")
    client = world.client()
    world.ask(client).result(PATIENCE)
    eventually(lambda: world.upstream.calls == 1, "it is refreshed")
    asyncio.run(client.aclose())
    world.upstream.may_answer.set()
    eventually(lambda: world.cache.stats()["stored"] == 2, "it is stored")
    assert not world.upstream.closed


@pytest.mark.parametrize("what", BODIES)
def test_a_refresh_that_has_not_begun_when_its_client_is_closed_is_made(crowd, module, what, monkeypatch):
    world, begins = World(crowd, module, policy=STALE), threading.Event()
    world.stale(what)
    start = runtime.start_thread

    def late(name: str, run: Any, *rest: Any) -> Any:
        def waiting(*more: Any) -> Any:
            begins.wait(PATIENCE)
            return run(*more)

        return start(name, waiting, *rest)

    monkeypatch.setattr(runtime, "start_thread", late)
    client, body, url = world.client(), BODIES[what], URLS[what]
    if crowd.tasks:

        async def one_turn() -> None:
            async with client:
                await client.post(url, json=body)

        crowd.loop.do(one_turn())
    else:
        with client:
            client.post(url, json=body)
    begins.set()
    world.upstream.may_answer.set()
    eventually(lambda: world.upstream.closed == 1, "the connections are closed")
    assert world.upstream.calls == 1
    assert world.cache.stats()["stored"] == STORED[what]


@pytest.mark.parametrize("what", BODIES)
def test_a_call_that_callers_of_other_clients_wait_for_outlives_its_own(crowd, module, what):
    world = World(crowd, module)
    leads, follows, leader, follower = world.followed(what)
    world.closes_and_goes_on(leads)
    assert leader.result(PATIENCE) == follower.result(PATIENCE)
    world.stores(what)
    world.close(follows)


def test_a_stream_whose_first_reader_left_and_closed_its_client_goes_on_for_the_others(crowd, module):
    world = World(crowd, module)
    leads, follows = world.client(), world.client(Upstream(module))
    left = threading.Event()
    if crowd.tasks:

        async def leave() -> None:
            async with leads.stream("POST", URL, json=STREAM) as response:
                parts = response.aiter_bytes()
                await anext(parts)
                while not left.is_set():  # noqa: ASYNC110 - a thread tells
                    await asyncio.sleep(0.002)

        leader = crowd.loop.submit(leave())
    else:

        def leaves() -> None:
            with leads.stream("POST", URL, json=STREAM) as response:
                parts = response.iter_bytes()
                next(parts)
                left.wait(PATIENCE)

        leader = crowd.start(leaves)
    eventually(lambda: world.upstream.calls == 1, "the leader calls")
    follower = world.ask(follows, "stream")
    eventually(lambda: sum(flight.followers for flight in world.flights()), "the follower reads")
    left.set()
    leader.result(PATIENCE)
    world.closes_and_goes_on(leads)
    assert follower.result(PATIENCE) == b"".join(STORY)
    world.stores("stream")
    world.close(follows)


@pytest.mark.parametrize("what", BODIES)
def test_a_call_that_is_finished_without_its_caller_outlives_the_client(tasks, module, what):
    world = World(tasks, module)
    client, asked = world.alone(what)
    asked.cancel()
    with pytest.raises(CancelledError):
        asked.result(PATIENCE)
    eventually(lambda: all(flight.unwaited or not flight.callers for flight in world.flights()), "its caller has left")
    world.closes_and_goes_on(client)
    world.stores(what)


def test_a_failure_after_a_close_that_waits_is_upstreams_and_one_of_the_close_itself_is_told_to_nobody(
    crowd, module, caplog
):
    world = World(crowd, module)
    world.upstream.fails, world.upstream.fails_to_close = module.ConnectError("no such host"), OSError("broken")
    leads, follows, leader, follower = world.followed()
    world.closes_and_goes_on(leads)
    for asked in (leader, follower):
        with pytest.raises(module.ConnectError, match="no such host"):
            asked.result(PATIENCE)
    assert follows._transport.inner.calls == 0, "the failure is shared, as without a close"
    world.close(follows)
    assert not [one for one in caplog.records if one.levelname != "DEBUG"]


def test_a_call_that_another_process_waits_for_outlives_its_client(crowd, module, tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    world, elsewhere = World(crowd, module, url), World(crowd, module, url)
    leads, follows = world.client(), elsewhere.client()
    leader = world.ask(leads)
    eventually(lambda: world.upstream.calls == 1, "the leader calls")
    follower = elsewhere.ask(follows)
    eventually(lambda: any(flight.wanted_elsewhere for flight in world.flights()), "a renewal tells that it is wanted")
    world.closes_and_goes_on(leads)
    assert leader.result(PATIENCE) == follower.result(PATIENCE)
    assert elsewhere.upstream.calls == 0
    elsewhere.close(follows)


@pytest.mark.parametrize("what", BODIES)
def test_a_call_for_its_own_caller_alone_ends_with_its_client_as_without_askonce(crowd, module, what):
    world = World(crowd, module)
    client, asked = world.alone(what)
    world.close(client)
    assert world.upstream.closed == 1
    with pytest.raises(module.ReadError):
        asked.result(PATIENCE)
    eventually(lambda: not world.flights(), "nothing is left of it")
    assert world.upstream.closed == 1


def test_of_many_calls_that_go_on_the_last_closes_the_connections_once(crowd, module):
    world = World(crowd, module, policy=STALE)
    questions = [f"question {number}" for number in range(20)]

    def ask(client: Any) -> None:
        for question in questions:
            body = {**CHAT, "messages": [{"role": "user", "content": question}]}
            if crowd.tasks:
                crowd.loop.do(client.post(URL, json=body))
            else:
                client.post(URL, json=body)

    first = world.client(Upstream(module))
    first._transport.inner.may_answer.set()
    ask(first)
    world.close(first)
    time.sleep(0.02)
    client = world.client()
    ask(client)
    eventually(lambda: world.upstream.calls == 20, "all are refreshed")
    world.closes_and_goes_on(client)
    time.sleep(0.05)
    assert world.upstream.closed == 1
