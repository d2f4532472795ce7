"""An upstream of the test's own: a transport that answers with a stream, and sends what the test tells it to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any, Self

from tests.http.conftest import CHAT

URL = "https://api.example/v1/chat/completions"
STREAM = {**CHAT, "stream": True}
SSE = {"content-type": "text/event-stream", "x-request-id": "req_1", "x-ratelimit-remaining": "9"}
WORDS = ("Once", " upon", " a", " time")


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(content: str | None = None, finish: str | None = None) -> bytes:
    """An event of a chat stream."""
    delta = {} if content is None else {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


STORY = (*map(chunk, WORDS), chunk(finish="stop"), event(b"[DONE]"))


class Line:
    """One answer under way: what was said so far, and whether it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.read = 0
        self._parts: list[bytes] = []
        self._end: tuple[Exception | None] | None = None
        self._changed = threading.Condition()

    def say(self, *parts: bytes) -> None:
        with self._changed:
            self._parts += parts
            self._changed.notify_all()

    def ends(self, error: Exception | None = None) -> None:
        with self._changed:
            self._end = (error,)
            self._changed.notify_all()

    def _at(self, at: int) -> bytes | None:
        """Part `at`, None at the end; LookupError while it has not come."""
        if at < len(self._parts):
            self.read = max(self.read, at + 1)
            return self._parts[at]
        if self._end is None:
            raise LookupError
        if self._end[0] is not None:
            raise self._end[0]
        return None

    def __iter__(self) -> Any:
        at = 0
        while True:
            with self._changed:
                assert self._changed.wait_for(lambda: at < len(self._parts) or self._end is not None, 10)  # noqa: B023
                part = self._at(at)
            if part is None:
                return
            at += 1
            yield part

    async def __aiter__(self) -> Any:
        at = 0
        while True:
            try:
                part = self._at(at)
            except LookupError:
                await asyncio.sleep(0.002)
                continue
            if part is None:
                return
            at += 1
            yield part

    def close(self) -> None:
        self.closed.set()

    async def aclose(self) -> None:
        self.closed.set()


class Talking:
    """Answers each request with a Line, in either mode; `headers` and `status` of the next ones may be set."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.lines: list[Line] = []
        self.status = 200
        self.headers = SSE
        self.told: tuple[bytes, ...] = ()  # sent at once, to the end
        self.error: Exception | None = None  # instead of an end

    @property
    def line(self) -> Line:
        """The last one."""
        return self.lines[-1]

    def tell(self, *parts: bytes, error: Exception | None = None) -> Self:
        """What each answer from now on consists of."""
        self.told, self.error = parts, error
        return self

    def _answer(self) -> Any:
        kind = type("Stream", (Line, self.module.SyncByteStream, self.module.AsyncByteStream), {})
        line: Line = kind()
        if self.told:
            line.say(*self.told)
            line.ends(self.error)
        self.lines.append(line)
        return self.module.Response(self.status, headers=self.headers, stream=line)

    def handle_request(self, request: Any) -> Any:
        return self._answer()

    async def handle_async_request(self, request: Any) -> Any:
        return self._answer()

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        pass


def soon(talking: Talking, *parts: bytes) -> None:
    """Have them said once somebody asks."""
    threading.Thread(target=lambda: wait_until(lambda: talking.lines)[-1].say(*parts), daemon=True).start()


class Reading(threading.Thread):
    """A reader in a thread of its own, of raw parts."""

    def __init__(self, client: Any, body: Any = STREAM, **more: Any) -> None:
        super().__init__(daemon=True)
        self.parts: list[bytes] = []
        self.headers: Any = None
        self.status = 0
        self.error: Any = None
        self._asked = (client, body, more)
        self._news = threading.Condition()
        self.start()

    def run(self) -> None:
        client, body, more = self._asked
        try:
            with client.stream("POST", URL, json=body, **more) as response:
                self.headers, self.status = response.headers, response.status_code
                for part in response.iter_bytes():
                    with self._news:
                        self.parts.append(part)
                        self._news.notify_all()
        except Exception as error:
            self.error = error

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.parts) >= count, 8), (self.parts, self.error)

    def whole(self) -> tuple[bytes, ...]:
        self.join(60)
        assert not self.is_alive()
        return tuple(self.parts)


def wait_until(what: Any, seconds: float = 60) -> Any:
    """What became true, once it did."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found
