"""A local HTTP/1.1 provider that answers as scripted, takes the scripted time, and counts.

It stands in for OpenAI (chat completions, Responses, embeddings), Anthropic (messages) and Gemini (generateContent),
which the end of the path tells apart. So a real SDK can use it, for whole answers and for streams:

    with Provider(delay=Lognormal(median=0.8)) as provider:
        provider.script("Is this allowed?", "refused")
        client = OpenAI(base_url=provider.openai_url, api_key="any", http_client=...)
        ...
        assert provider.paid("Is this allowed?") == 1

One event loop in a thread of its own serves every connection. A thousand callers that wait for a delay cost nothing, so
a test measures the cache and not its upstream. A stream is timed by `pace`, and cut or failed by a step's `after`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from askonce.testing import checks
from askonce.testing.answers import PATHS, Protocol, error, question_of
from askonce.testing.script import Delay, Receipts, Scripted, Step, Turn
from askonce.testing.streamed import array_pieces, frames, trouble

KEPT = 1000  # requests kept: enough for a test, and bounded for a demo
BACKLOG = 2048  # a burst of callers must queue and not be refused


@dataclass(frozen=True)
class Received:
    """A received request: its `method`, `target`, `headers` (lower case) and the bytes of its `body`."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def protocol(self) -> Protocol | None:
        """The protocol that the end of the path names, None if unknown."""
        path = self.target.partition("?")[0]
        return next((protocol for end, protocol in PATHS.items() if path.endswith(end)), None)

    @property
    def streamed(self) -> bool:
        """Whether a stream is asked for: by the body, or by the path as Gemini's API does."""
        if self.protocol == "gemini.generate":
            return ":streamGenerateContent" in self.target
        return bool(self.parsed.get("stream"))

    @property
    def array(self) -> bool:
        """Whether a stream is one JSON array, as Gemini's API sends it where ``alt=sse`` is not asked for."""
        return self.protocol == "gemini.generate" and "alt=sse" not in self.target.partition("?")[2].split("&")

    def json(self) -> Any:
        """The body, decoded; ValueError if it is not JSON."""
        return json.loads(self.body)

    @cached_property
    def parsed(self) -> Any:
        """The same, decoded once: nobody may change it."""
        return self.json()

    def request(self) -> dict[str, Any]:
        """The body with the model from the path, where an API has it there."""
        named = re.search(r"/models/([^/:?]+):", self.target)
        return {**self.parsed, **({"model": named[1]} if named else {})}


class Provider(Scripted):
    """A scripted upstream on 127.0.0.1, at a free port or at `port`; started by ``with`` or `start`.

    `delay`: seconds until an answer begins, or a function of the question and the number of its call (`Lognormal`).
    `pace`: seconds between two events of a stream. `receipts`: a file in which several processes count together (None:
    this one counts).
    """

    def __init__(
        self, *, delay: Delay = 0.0, pace: float = 0.0, receipts: Receipts | Path | str | None = None, port: int = 0
    ) -> None:
        super().__init__(delay=delay, pace=pace, receipts=receipts)
        checks.whole("port", port, 0, 65535)
        self.port = port
        self.requests: deque[Received] = deque(maxlen=KEPT)
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, the base_url of Anthropic's and Google's SDKs."""
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
        except asyncio.CancelledError:
            writer.transport.abort()  # closed. Raised further, asyncio's server would print it for each connection.
        finally:
            writer.close()

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is to be cut."""
        self.requests.append(received)
        refused = _unanswerable(received)
        if refused is not None:
            return await _send(writer, *refused)
        request, protocol = received.request(), received.protocol or "plain"
        turn = self._begin(question_of(request))
        with contextlib.ExitStack() as under_way:
            under_way.callback(self._end, turn)
            streamed = received.streamed and _streams(turn.step)
            await _reach(turn, 0, streamed=streamed)
            await asyncio.sleep(turn.seconds)
            # The call ends before its answer is sent: a caller with the answer must not find the call in flight.
            if streamed:
                sent = _frames(request, protocol, turn, array=received.array)
                return await _stream(writer, sent, turn, under_way.close)
            under_way.close()
            return await _play(writer, request, protocol, turn)


def _streams(step: Step) -> bool:
    """Whether a step has events: what fails before its first one does not."""
    return step.after > 0 or (step.error is None and step.status < 400)


async def _reach(turn: Turn, sent: int, *, streamed: bool) -> None:
    """Wait at the gate, if the call hangs after `sent` events."""
    if turn.gate is not None and (sent == turn.step.after or not streamed):
        await asyncio.wrap_future(turn.gate)


async def _play(writer: asyncio.StreamWriter, request: Any, protocol: Protocol, turn: Turn) -> bool:
    played = turn.step
    if played.error is not None:
        return _cut(writer)
    failed = played.status >= 400 and played.body is None
    body = error(played.status, protocol) if failed else turn.body(request, protocol)
    return await _send(writer, played.status, body, _headers(turn))


def _headers(turn: Turn) -> dict[str, str]:
    return {"x-request-id": f"req_{turn.nth}", **turn.step.headers}


def _cut(writer: asyncio.StreamWriter) -> bool:
    writer.transport.abort()  # a reset: some clients take an orderly end for an empty answer
    return False


def _frames(request: Any, protocol: Protocol, turn: Turn, *, array: bool) -> list[bytes | None]:
    """The pieces of a stream, each a write of its own; None where the connection is cut."""
    sent = turn.events(request, protocol)
    pieces = array_pieces(sent) if array else frames(protocol, sent)
    if turn.step.error is not None:
        return [*pieces[: turn.step.after], None]
    if turn.step.status >= 400:
        return [*pieces[: turn.step.after], trouble(turn.step.status, protocol)]
    return [*pieces]


async def _stream(
    writer: asyncio.StreamWriter, pieces: list[bytes | None], turn: Turn, over: Callable[[], None]
) -> bool:
    """Send a stream in pieces, and call `over` before the last one."""
    fields = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked", **_headers(turn)}
    writer.write(_head(200, fields))
    for sent, piece in enumerate(pieces):
        if sent:
            await _reach(turn, sent, streamed=True)
            await asyncio.sleep(turn.pace)
        if sent == len(pieces) - 1:
            over()
        await writer.drain()
        if piece is None:
            return _cut(writer)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _unanswerable(received: Received) -> tuple[int, Any] | None:
    """The status and body for a request that needs no script, None for all others."""
    if received.method != "POST" or received.protocol is None:
        return 404, {"error": {"type": "not_found_error", "message": f"no such operation: {received.target}"}}
    try:
        request = received.parsed
    except ValueError:
        return 400, {"error": {"type": "invalid_request_error", "message": "the body is not JSON"}}
    if not isinstance(request, dict):
        return 400, {"error": {"type": "invalid_request_error", "message": "the body is not a JSON object"}}
    if received.streamed and received.protocol == "openai.embeddings":
        return 400, {"error": {"type": "invalid_request_error", "message": "embeddings have no streams"}}
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
    fields = {"content-type": "application/json", "content-length": str(len(payload)), **(headers or {})}
    writer.write(_head(status, fields) + payload)
    await writer.drain()
    return True


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Status"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("latin-1")
