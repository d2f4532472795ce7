"""The upstream of all peers: an HTTP server in a thread, with an address for each length of answers and of calls.

It counts the calls of each question when they arrive, as a provider bills them. A question is named by what stands
before the colon in its last message, or by the query of a GET. The answer's text begins with that name.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from functools import partial
from typing import Self

from bench.questions import answer

NAME = "@the name@"


class Counted:
    """An upstream, started by ``with``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bench-upstream", daemon=True)
        self._paid: Counter[str] = Counter()
        self._urls: dict[tuple[int, float], str] = {}
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, size: int = 2_000, seconds: float = 0.0) -> str:
        """The address at which answers have this size in bytes, and calls take so many seconds."""
        if (size, seconds) not in self._urls:
            self._urls[size, seconds] = asyncio.run_coroutine_threadsafe(
                self._listen(size, seconds), self._loop
            ).result()
        return self._urls[size, seconds]

    def paid(self, name: str | None = None) -> int:
        """How often a question was paid; without a name, the number of all calls."""
        return self._paid.total() if name is None else self._paid[name]

    async def _listen(self, size: int, seconds: float) -> str:
        body = answer(NAME, size)
        body["choices"][0]["message"]["content"] = f"{NAME}: " + body["choices"][0]["message"]["content"]
        served = partial(self._serve, body=json.dumps(body).encode(), seconds=seconds)
        server = await asyncio.start_server(served, "127.0.0.1", 0, backlog=1024)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, body: bytes, seconds: float
    ) -> None:
        try:
            while True:
                name = await _asked(reader)
                self._paid[name] += 1
                await asyncio.sleep(seconds)
                full = body.replace(NAME.encode(), name.encode())
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(full)
                writer.write(head + full)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            writer.close()


async def _asked(reader: asyncio.StreamReader) -> str:
    """The name of the next question."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    body = await reader.readexactly(int(length or 0))
    if not body:
        return head.partition(b"question=")[2].partition(b" ")[0].decode()
    return str(json.loads(body)["messages"][-1]["content"]).partition(":")[0]
