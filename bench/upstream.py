"""The smallest HTTP server that can stream, for a process of its own.

Its events hold the time at which they were sent. Events begin `ttft` s after the request and come `gap` s apart by the
clock, so no delay adds up. It counts the streams that it opened.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import NamedTuple

from bench.workers import Parent

PATH = "/v1/chat/completions"
REQUEST = {"model": "gpt-4.1-mini", "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Story(NamedTuple):
    """What it streams."""

    events: int = 200
    ttft: float = 0.3
    gap: float = 0.015

    @property
    def length(self) -> float:
        return self.ttft + self.events * self.gap


def serve(parent: Parent, story: Story) -> None:
    """Serve until killed: say its URL, and for each word received how many streams were opened so far."""
    asyncio.run(_serve(parent, story))


async def _serve(parent: Parent, story: Story) -> None:
    opened = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                opened += 1
                await _tell(writer, story)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    parent.tell(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}")
    while True:
        await asyncio.to_thread(parent.hear)
        parent.tell(opened)


async def _tell(writer: asyncio.StreamWriter, story: Story) -> None:
    due = asyncio.get_running_loop().time() + story.ttft
    await asyncio.sleep(story.ttft)
    writer.write(HEAD)
    for number in range(story.events):
        last = number == story.events - 1
        writer.write(_chunked(_event({} if last else {"content": f" word {number}"}, "stop" if last else None)))
        await writer.drain()
        due += story.gap
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    writer.write(_chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps({"sent": time.monotonic(), **value}).encode() + b"\n\n"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
