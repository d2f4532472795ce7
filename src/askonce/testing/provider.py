"""A local HTTP/1.1 provider that answers as scripted, takes the scripted time, and counts.

It stands in for OpenAI (chat completions, Responses, embeddings) and Anthropic (messages), which the end of the path
tells apart, so a real SDK can use it:

    with Provider(delay=Lognormal(median=0.8)) as provider:
        provider.script("Is this allowed?", "refused")
        client = OpenAI(base_url=provider.openai_url, api_key="any", http_client=...)
        ...
        assert provider.paid("Is this allowed?") == 1

One event loop in a thread of its own serves every connection. A thousand callers that wait for a delay cost nothing, so
a test measures the cache and not its upstream. A stream is answered with 400: streams are not scripted.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from askonce.testing.answers import PATHS, Protocol, answer, error, question_of
from askonce.testing.script import Delay, Receipts, Scripted, Turn

KEPT = 1000  # requests kept: enough for a test, and bounded for a demo
BACKLOG = 2048  # a burst of callers must queue and not be refused


@dataclass(frozen=True, slots=True)
class Received:
    """A received request: its target, headers (lower case) and the bytes of its body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def protocol(self) -> Protocol | None:
        """The protocol that the end of the path names, None if unknown."""
        path = self.target.partition("?")[0]
        return next((protocol for end, protocol in PATHS.items() if path.endswith(end)), None)

    def json(self) -> Any:
        """The body, decoded; ValueError if it is not JSON."""
        return json.loads(self.body)


class Provider(Scripted):
    """A scripted upstream on 127.0.0.1, at a free port or at `port`; started by ``with`` or `start`.

    `delay`: seconds, or a function of the question and the number of its call (`Lognormal`).
    """

    def __init__(self, *, delay: Delay = 0.0, receipts: Receipts | Path | str | None = None, port: int = 0) -> None:
        super().__init__(delay=delay, receipts=receipts)
        self.port = port
        self.requests: deque[Received] = deque(maxlen=KEPT)
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, the base_url of Anthropic's SDK."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The base_url of OpenAI's SDK, or $OPENAI_BASE_URL."""
        return f"{self.url}/v1"

    def start(self) -> Self:
        """Listen; return when connections are accepted. OSError if the port is taken."""
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="askonce-provider", daemon=True)
        self._thread.start()
        self.port = ready.result()
        return self

    def close(self) -> None:
        """Stop listening and cut open connections; a second call does nothing."""
        if self._stop is None or self._thread is None:
            return
        loop, event = self._stop
        loop.call_soon_threadsafe(event.set)
        self._thread.join()
        self._stop = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._listen(ready))
        except OSError as trouble:
            if ready.done():
                raise
            ready.set_exception(trouble)

    async def _listen(self, ready: Future[int]) -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=BACKLOG)
        self._stop = (asyncio.get_running_loop(), stop)
        ready.set_result(server.sockets[0].getsockname()[1])
        await stop.wait()
        # Not `async with server`, which since 3.12 waits for clients to hang up. run() cancels their tasks.
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (received := await _receive(reader)) is not None and await self._answer(received, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client left, or does not speak HTTP
        finally:
            writer.close()

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is to be cut."""
        self.requests.append(received)
        refused = _unanswerable(received)
        if refused is not None:
            return await _send(writer, *refused)
        request, protocol = received.json(), received.protocol or "plain"
        turn = self._begin(question_of(request))
        try:
            if turn.gate is not None:
                await asyncio.wrap_future(turn.gate)
            await asyncio.sleep(turn.seconds)
        finally:
            self._end(turn)
        # The call ends before its answer is sent: a caller with the answer must not find the call in flight.
        return await _play(writer, request, protocol, turn)


async def _play(writer: asyncio.StreamWriter, request: Any, protocol: Protocol, turn: Turn) -> bool:
    played = turn.step
    if played.error is not None:
        writer.transport.abort()  # a reset: some clients take an orderly end for an empty answer
        return False
    made = error(played.status, protocol) if played.status >= 400 else answer(request, protocol, played.shape, turn.nth)
    body = made if played.body is None else played.body
    headers = {"x-request-id": f"req_{turn.nth}", **played.headers}
    return await _send(writer, played.status, body, headers)


def _unanswerable(received: Received) -> tuple[int, Any] | None:
    """The status and body for a request that needs no script, None for all others."""
    if received.method != "POST" or received.protocol is None:
        return 404, {"error": {"type": "not_found_error", "message": f"no such operation: {received.target}"}}
    try:
        request = received.json()
    except ValueError:
        return 400, {"error": {"type": "invalid_request_error", "message": "the body is not JSON"}}
    if not isinstance(request, dict):
        return 400, {"error": {"type": "invalid_request_error", "message": "the body is not a JSON object"}}
    if request.get("stream"):
        return 400, {"error": {"type": "invalid_request_error", "message": "this provider does not stream"}}
    return None


async def _receive(reader: asyncio.StreamReader) -> Received | None:
    """The next request of a connection, None at its end; ValueError if it is not HTTP with a known length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _version = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _colon, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: Mapping[str, str] | None = None) -> bool:
    payload = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Status"
    fields = {"content-type": "application/json", "content-length": str(len(payload)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode("latin-1") + payload)
    await writer.drain()
    return True
