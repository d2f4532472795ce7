"""A client used before a fork: over its connections, a child may receive another child's answer.

The upstream is plain HTTP, like vLLM's or Ollama's, and says in each answer which question it answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from askonce import AsyncCache, Cache
from tests.flight.test_forks import forked

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

CHILDREN, EACH = 4, 10


class Echo(BaseHTTPRequestHandler):
    """Answers a chat completion with its question, in a moment; streams where that is asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked = body["messages"][0]["content"]
        time.sleep(random.uniform(0, 0.004))
        if body.get("stream"):
            deltas = [{"role": "assistant"}, {"content": asked[:3]}, {"content": asked[3:]}]
            chunks = [_chunk(delta, None) for delta in deltas] + [_chunk({}, "stop")]
            text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            self._send(text, "text/event-stream")
        else:
            message = {"role": "assistant", "content": asked, "refusal": None}
            choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
            said = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
            self._send(json.dumps(said), "application/json")

    def _send(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _chunk(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A child that read half of another's answer leaves a broken connection."""

    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, name="askonce-provider", daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/chat/completions"
        server.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/answers.db"


def body(asked: str, streams: bool) -> dict[str, Any]:
    return {"model": "m", "stream": streams, "messages": [{"role": "user", "content": asked}]}


def text_of(raw: str, streams: bool) -> str:
    if not streams:
        return str(json.loads(raw)["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def questions(child: int) -> list[str]:
    return [f"{child:03} asks {number}" for number in range(EACH)]


def ask(client: Any, url: str, asked: str, streams: bool = False, **headers: str) -> tuple[str, str]:
    """What was answered, and the status; an error's name in place of the answer."""
    try:
        response = client.post(url, json=body(asked, streams), headers=headers)
        said = text_of(response.text, streams) if response.status_code == 200 else str(response.status_code)
    except Exception as error:  # a child may read half of another's answer
        return type(error).__name__, ""
    return said, str(response.headers.get("cache-status"))


async def ask_async(client: Any, url: str, asked: str, streams: bool = False) -> tuple[str, str]:
    try:
        response = await client.post(url, json=body(asked, streams))
    except Exception as error:
        return type(error).__name__, ""
    return text_of(response.text, streams), str(response.headers.get("cache-status"))


def in_children(work: Any, children: int = CHILDREN) -> list[Any]:
    """What `work(n)` returned in each of so many children at the same time."""
    started = [forked(lambda child=child: work(child)) for child in range(children)]
    return [wait() for _, wait in started]


def wrongly_stored(store: str, module: Any, url: str, streams: bool) -> tuple[int, int]:
    """How many answers are stored, and how many of them are another question's."""
    stored = wrong = 0
    with Cache(store) as cache, cache.http_client(module=module) as client:
        for asked in (one for child in range(CHILDREN) for one in questions(child)):
            said, _ = ask(client, url, asked, streams, **{"cache-control": "only-if-cached"})
            stored += said != "504"
            wrong += said not in {"504", asked}
    return stored, wrong


def all_are_right(store: str, module: Any, url: str, streams: bool = False) -> None:
    """Most answers are stored (on a busy machine a file may be slow to be written), and each answers its question."""
    stored, wrong = wrongly_stored(store, module, url, streams)
    assert wrong == 0
    assert stored > CHILDREN * EACH / 2


@pytest.mark.parametrize(("made", "streams"), [("http_client", False), ("http_client", True), ("transport", False)])
def test_children_of_a_fork_ask_on_connections_of_their_own(module, upstream, store, made, streams):
    cache = Cache(store)
    client = (
        cache.http_client(module=module)
        if made == "http_client"
        else module.Client(transport=cache.transport(module=module))
    )
    assert ask(client, upstream, "before the fork", streams)[0] == "before the fork"
    got = in_children(lambda child: [ask(client, upstream, asked, streams) for asked in questions(child)])
    assert [[said for said, _ in answers] for answers in got] == [questions(child) for child in range(CHILDREN)]
    assert not [status for answers in got for _, status in answers if "inherited" in status]
    assert ask(client, upstream, "after the fork", streams)[0] == "after the fork", "the parent's are not disturbed"
    client.close()
    cache.close()
    all_are_right(store, module, upstream, streams)


def test_children_with_a_loop_of_their_own_ask_on_connections_of_their_own(module, upstream, store):
    cache = AsyncCache(store)
    client = cache.http_client(module=module)

    async def first() -> Any:
        return await ask_async(client, upstream, "before the fork")

    async def many(child: int) -> Any:
        return await asyncio.gather(*(ask_async(client, upstream, asked) for asked in questions(child)))

    loop = asyncio.new_event_loop()  # not closed: the parent's connection is open at the fork
    assert loop.run_until_complete(first())[0] == "before the fork"
    got = in_children(lambda child: asyncio.run(many(child)))
    assert [[said for said, _ in answers] for answers in got] == [questions(child) for child in range(CHILDREN)]
    assert loop.run_until_complete(ask_async(client, upstream, "after the fork"))[0] == "after the fork"
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(cache.aclose())
    loop.close()
    all_are_right(store, module, upstream)


@pytest.mark.parametrize(("used", "streams"), [("with us", False), ("without us", True)])
def test_what_comes_over_a_connection_of_the_parents_is_never_stored_where_the_transport_was_brought(
    module, upstream, store, used, streams
):
    cache, inner = Cache(store), module.HTTPTransport()
    client = cache.http_client(module=module, inner=inner, timeout=0.5)  # for a reply that another child has read
    plain = client if used == "with us" else module.Client(transport=inner)
    assert plain.post(upstream, json=body("before the fork", streams)).status_code == 200

    in_children(lambda child: [ask(client, upstream, asked, streams) for asked in questions(child)])
    assert wrongly_stored(store, module, upstream, streams)[1] == 0
    plain.close()
    client.close()
    cache.close()


def test_a_transport_that_was_brought_and_not_used_before_the_fork_is_as_good_as_any(module, upstream, store):
    cache = Cache(store)
    client = cache.http_client(module=module, inner=module.HTTPTransport())
    got = in_children(lambda child: [ask(client, upstream, asked) for asked in questions(child)])
    assert [[said for said, _ in answers] for answers in got] == [questions(child) for child in range(CHILDREN)]
    client.close()
    cache.close()
    all_are_right(store, module, upstream)


def test_a_transport_that_was_brought_stores_again_once_its_connections_are_its_own(module, upstream, store, caplog):
    cache, inner = Cache(store), module.HTTPTransport()
    client = cache.http_client(module=module, inner=inner)
    assert "stored" in ask(client, upstream, "before")[1]

    def child(_: int) -> Any:
        caplog.clear()
        with cache.watch() as watched:
            ask(client, upstream, "mine alone")
        seen = [str(watched[0]), ask(client, upstream, "before")[1]]
        inner._pool._connections.clear()  # as if the upstream had closed them, or they had expired
        seen += [ask(client, upstream, f"now {number}")[1] for number in range(3)]
        ask(client, upstream, "and again")
        return [*seen, [record.message for record in caplog.records], cache.stats()["miss"]]

    ((inherited, hit, *fresh, warnings, misses),) = in_children(child, 1)
    assert "detail=inherited" in inherited
    assert "stored" not in inherited
    assert "hit" in hit, "what is stored is served all the same"
    assert ["stored" in status for status in fresh] == [False, True, True]
    assert len(warnings) == 1
    assert "after the fork" in warnings[0]
    assert misses == 1 + 5, "each lookup is counted once"
    client.close()
    cache.close()


def test_an_answer_whose_connection_cannot_be_told_is_its_callers_alone(module, upstream, store):
    class Bare(module.BaseTransport):
        """A user's own transport, which says nothing of its connections."""

        def __init__(self) -> None:
            self.behind = module.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            response = self.behind.handle_request(request)
            response.read()
            return module.Response(response.status_code, headers=response.headers, content=response.content)

        def close(self) -> None:
            self.behind.close()

    cache = Cache(store)
    client = cache.http_client(module=module, inner=Bare())
    assert "stored" in ask(client, upstream, "before")[1]

    def child(_: int) -> Any:
        first, stored = ask(client, upstream, "mine")[0], cache.stats().get("stored")
        return first, stored, ask(client, upstream, "mine")[0]

    assert in_children(child, 1) == [["mine", 1, "mine"]]
    client.close()
    cache.close()


def test_who_joined_a_call_over_a_parents_connection_makes_one_of_his_own(module, upstream, store):
    cache, inner = Cache(store), module.HTTPTransport()
    client = cache.http_client(module=module, inner=inner)
    with module.Client(transport=inner) as plain:
        plain.post(upstream, json=body("before the fork", False))

        def child(_: int) -> Any:
            said: list[Any] = []
            threads = [threading.Thread(target=lambda: said.append(ask(client, upstream, "all")[0])) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            return said

        assert in_children(child, 1) == [["all"] * 6]
    cache.close()


def test_a_child_leaves_its_parents_connections_to_the_parent(module, upstream, store):
    cache = Cache(store)
    client = cache.http_client(module=module)
    ask(client, upstream, "before")

    def child(_: int) -> Any:
        before = sum(
            one.readlink().name.startswith("socket:") for one in Path("/proc/self/fd").iterdir() if one.exists()
        )
        said = ask(client, upstream, "in the child")[0]
        client.close()
        after = sum(
            one.readlink().name.startswith("socket:") for one in Path("/proc/self/fd").iterdir() if one.exists()
        )
        return said, after < before

    before = client._transport.inner._pool.connections
    assert in_children(child, 1) == [["in the child", True]]
    assert ask(client, upstream, "after")[0] == "after"
    assert client._transport.inner._pool.connections == before, "the parent still uses the connection it had"
    client.close()
    cache.close()
