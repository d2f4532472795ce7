"""Bodies of requests: in memory if they may be questions, else a stream that is never held as a whole.

The bodies that are collected at one time are bounded for a worker, not only each of them: what finds no room streams
upstream, uncached.
"""

from __future__ import annotations

from typing import Any

from askonce.gateway.config import LimitsConfig
from askonce.gateway.heads import value_of
from askonce.gateway.leaving import Caller, TooLarge, Upload
from askonce.http.credentials import Header
from askonce.http.request import target_of

ROOM = 4  # how many of the largest bodies a worker holds at one time


class Bodies:
    """Reads the bodies of one worker's requests."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._largest = limits.body
        self._buffer = limits.buffer
        self._room = ROOM * limits.buffer

    async def read(self, method: str, url: str, headers: list[Header], caller: Caller) -> dict[str, Any]:
        """The body, as arguments of a Request; TooLarge, Left."""
        length = value_of(headers, b"content-length")
        chunked = b"chunked" in value_of(headers, b"transfer-encoding").lower()
        if not length and not chunked:
            return {}
        if length.isdigit() and int(length) > self._largest:
            raise TooLarge
        more = {"extensions": _CHUNKED} if chunked else {}
        part = await caller.part()
        if caller.sent_all:
            return {"content": part, **more}
        if target_of(method, url) is None:
            return {"stream": Upload(caller, [part], self._largest), **more}
        return {**(await self._collected(caller, part)), **more}

    async def _collected(self, caller: Caller, first: bytes) -> dict[str, Any]:
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
            return {"content": b"".join(parts)}
        return {"stream": Upload(caller, parts, self._largest)}

    @staticmethod
    def too_large(why: BaseException) -> bool:
        """Whether an upload was cut because it is too large."""
        cause: BaseException | None = why
        while cause is not None and not isinstance(cause, TooLarge):
            cause = cause.__cause__ or cause.__context__
        return cause is not None


_CHUNKED = {"chunked": True}
