"""What follows [DONE] on a real connection: its end, nothing, a trickle, or a cut; for an SDK that leaves there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from askonce import AsyncCache, Cache
from tests.http.streams.talking import STORY
from tests.took import Took

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SAID = b"".join(STORY)
UNFINISHED = STORY[0] + STORY[-1]  # [DONE], and no word of how it ended: never stored
ENDINGS = ["complete", "stall", "trickle", "truncate"]


class Upstream:
    """Says all of an answer, and then, to its first request only, ends as `ending` says."""

    def __init__(self, said: bytes, ending: str) -> None:
        self.requests = self.connections = 0
        self._said = said
        self._ending = ending
        self._released = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            while self._asked(connection):
                self.requests += 1
                connection.sendall(HEAD + b"%x\r\n%s\r\n" % (len(self._said), self._said))
                if not self._ends(connection, "complete" if self.requests > 1 else self._ending):
                    return

    @staticmethod
    def _asked(connection: socket.socket) -> bool:
        got = b""
        while not got.endswith(b"}"):
            if not (data := connection.recv(65536)):
                return False
            got += data
        return True

    def _ends(self, connection: socket.socket, ending: str) -> bool:
        if ending == "truncate":
            return False
        if ending == "stall":
            self._released.wait(60)
        if ending == "trickle":
            connection.sendall(b"0\r\nX-Trailer: ")
            while not self._released.wait(0.02):
                connection.sendall(b"a")
            connection.sendall(b"\r\n\r\n")
        else:
            connection.sendall(b"0\r\n\r\n")
        return True

    def close(self) -> None:
        self._released.set()
        self._server.close()


@contextlib.contextmanager
def upstream(said: bytes, ending: str) -> Iterator[Upstream]:
    made = Upstream(said, ending)
    try:
        yield made
    finally:
        made.close()


def asking(number: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"q{number}"}], "stream": True}


def options(module: Any, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the SDK, and of its HTTP client: one connection at a time, and no patience of its own to help it out."""
    sdk = {"api_key": "k", "base_url": url, "max_retries": 0, "timeout": module.Timeout(8, read=None)}
    return sdk, {"trust_env": False, "verify": False, "limits": module.Limits(max_connections=1)}


def twice(module: Any, make: Any, url: str, numbers: tuple[int, int]) -> None:
    """Read two streams to what the SDK takes for their end, which it finds at once."""
    sdk, http = options(module, url)
    with openai.OpenAI(**sdk, http_client=make(**http)) as client:
        for number in numbers:
            with client.chat.completions.create(**asking(number)) as stream:
                assert next(stream).choices[0].delta.content == "Once"
                took = Took()
                list(stream)
            assert took.seconds < 5


async def atwice(module: Any, make: Any, url: str, numbers: tuple[int, int]) -> None:
    """The same in async mode."""
    sdk, http = options(module, url)
    async with openai.AsyncOpenAI(**sdk, http_client=make(**http)) as client:
        for number in numbers:
            async with await client.chat.completions.create(**asking(number)) as stream:
                assert (await anext(stream)).choices[0].delta.content == "Once"
                took = Took()
                _ = [part async for part in stream]
            assert took.seconds < 5


@pytest.mark.parametrize("said", [SAID, UNFINISHED], ids=["finished", "unfinished"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_follows_done_costs_as_many_connections_as_without_us(module, ending, said):
    with upstream(said, ending) as bare, upstream(said, ending) as ours, Cache("memory://") as cache:
        twice(module, module.Client, bare.url, (1, 2))
        twice(module, lambda **more: cache.http_client(module=module, **more), ours.url, (1, 2))
        assert cache.stats().get("stored", 0) == (2 if said is SAID else 0)
    assert (ours.requests, ours.connections) == (bare.requests, bare.connections) == (2, 2)


@pytest.mark.parametrize("said", [SAID, UNFINISHED], ids=["finished", "unfinished"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_same_in_async_mode_where_the_sdk_waits_a_little_for_the_end(module, ending, said):
    async with AsyncCache("memory://") as cache:
        with upstream(said, ending) as bare, upstream(said, ending) as ours:
            await atwice(module, module.AsyncClient, bare.url, (1, 2))
            await atwice(module, lambda **more: cache.http_client(module=module, **more), ours.url, (1, 2))
            assert cache.stats().get("stored", 0) == (2 if said is SAID else 0)
    connections = 1 if ending == "complete" else 2
    assert (ours.requests, ours.connections) == (bare.requests, bare.connections) == (2, connections)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_stream_that_is_not_kept_is_asked_for_again_and_not_joined_in_its_last_moment(ending):
    import httpx2

    async with AsyncCache("memory://") as cache:
        with upstream(UNFINISHED, ending) as ours:
            await atwice(httpx2, cache.http_client, ours.url, (1, 1))
    assert ours.requests == 2
