"""An upstream without a network, as httpx's inner transport: chat completions, whole and streamed, and embeddings."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx


class Upstream(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers each request by its own text; `open` counts streamed responses that were not closed."""

    finish = "stop"  # why its answers end

    def __init__(self) -> None:
        self.open = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(json.loads(request.read()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(json.loads(await request.aread()))

    def _answered(self, body: dict[str, Any]) -> httpx.Response:
        if "input" in body:
            return httpx.Response(200, json=_embeddings(body))
        if body.get("stream"):
            self.open += 1
            headers = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=headers, stream=Parts(self, list(_events(body, self.finish))))
        return httpx.Response(200, json=_completion(body, self.finish))


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    vectors = [[float(len(text)), 0.5] for text in body["input"]]
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _completion(body: dict[str, Any], finish: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": body["messages"][0]["content"]}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices}


def _events(body: dict[str, Any], finish: str) -> Any:
    for delta, reason in (({"content": body["messages"][0]["content"]}, None), ({"content": "!"}, None), ({}, finish)):
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": choices}
        yield f"data: {json.dumps(said)}\n\n".encode()
    yield b"data: [DONE]\n\n"


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A streamed body; counts itself out when it is closed."""

    def __init__(self, of: Upstream, parts: list[bytes]) -> None:
        self._of = of
        self._parts = parts
        self._closed = False

    def __iter__(self) -> Any:
        yield from self._parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._of.open -= 1

    async def aclose(self) -> None:
        self.close()
