"""Bodies of requests: in memory if they may be questions, else a stream that is never held as a whole.

The bodies that are collected at one time are bounded for a worker, not only each of them: what finds no room streams
upstream, uncached.
"""

from __future__ import annotations

from askonce.gateway.caller import Caller, Misframed, TooLarge, Upload
from askonce.gateway.config import LimitsConfig
from askonce.gateway.heads import Head
from askonce.gateway.wire import NOTHING, Request
from askonce.http.request import target_of

ROOM = 4  # how many of the largest bodies a worker holds at one time


class Bodies:
    """Reads the bodies of one worker's requests."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._largest = limits.body
        self._buffer = limits.buffer
        self._room = ROOM * limits.buffer

    async def request(self, method: str, url: str, head: Head, caller: Caller) -> Request:
        """The request for upstream, with as much of its body as may be held; TooLarge, Misframed, Disconnected."""
        length = _announced(head)
        if length is not None and length > self._largest:
            raise TooLarge
        first = await caller.part()
        if len(first) > self._largest:
            raise TooLarge
        body: bytes | Upload = first
        if not caller.sent_all or len(first) > self._buffer:
            known = target_of(method, url) is not None
            body = await self._collected(caller, first, length) if known else self._upload(caller, [first], length)
        headers = head.headers
        if isinstance(body, bytes):
            if len(body) > self._largest:
                raise TooLarge
            if length is not None and length != len(body):
                raise Misframed
            if body and not head.length and not head.chunked:  # of HTTP/2, which need not announce a body
                headers = [*headers, (b"content-length", b"%d" % len(body))]
            more = _CHUNKED if head.chunked else NOTHING
            return Request(method, url, headers=headers, content=body, extensions=more)
        return Request(method, url, headers=headers, stream=body, extensions=NOTHING if head.length else _CHUNKED)

    def _upload(self, caller: Caller, parts: list[bytes], length: int | None) -> Upload:
        return Upload(caller, parts, self._largest, length)

    async def _collected(self, caller: Caller, first: bytes, length: int | None) -> bytes | Upload:
        parts, size = [first], len(first)
        held = 0
        try:
            while not caller.sent_all and size <= self._buffer and size - held <= self._room:
                self._room -= size - held
                held = size
                parts.append(await caller.part())
                size += len(parts[-1])
        finally:
            self._room += held
        if caller.sent_all and size <= self._buffer:
            return b"".join(parts)
        return self._upload(caller, parts, length)


def _announced(head: Head) -> int | None:
    """The length that a head announces; None if it does not."""
    if not head.length:
        return None
    if not head.length.isdigit():
        raise Misframed
    return int(head.length)


_CHUNKED = {"chunked": True}
