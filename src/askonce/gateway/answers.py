"""Answers on their way to the caller: whole in one write where the server can do that, or part by part.

`askonce serve` puts a function into the scope that writes a whole answer at once (`WHOLE`): under ASGI the head and the
body are two messages, and two system calls are a tenth of a hit. The head of a stored answer is the same for each of
its hits, so it is checked and put together once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from askonce.gateway.heads import returned
from askonce.gateway.wire import ByteStream, Response, Whole
from askonce.gateway.wire_errors import RequestError
from askonce.http.credentials import Header
from askonce.http.header_names import Names, Shapes
from askonce.http.received import Again

WHOLE = "askonce.whole"  # in a scope: Callable[[bytes], None], which writes all of an answer
_BODILESS = frozenset({204, 304})
HEADS = 512  # of stored answers, put together

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Cut(Exception):
    """The answer breaks off here, as upstream's did: the server closes the connection."""


async def write(answer: Response | Whole, scope: Mapping[str, Any], send: Send) -> None:
    """Write an answer to the caller; Cut if it breaks off."""
    at_once = None if scope["method"] == "HEAD" else scope.get(WHOLE)
    if isinstance(answer, Response):
        body = _in_memory(answer) if at_once is not None else None
        if at_once is None or body is None:
            if scope.get("http_version") == "1.0" and scope["method"] != "HEAD":
                await _collect(answer)
            await _streamed(answer, send)
        else:
            at_once(_as_it_came(answer, body))
    elif at_once is not None:
        at_once(packed(answer))
    else:
        await said(answer, send)


async def said(answer: Whole, send: Send) -> None:
    """The same by the messages of ASGI."""
    headers = [*_as_asgi(answer.stored), (b"content-length", b"%d" % len(answer.body)), *answer.more]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _streamed(answer: Response, send: Send) -> None:
    headers = _as_asgi(returned(answer.headers.raw))
    if answer.status_code in _BODILESS:  # a length is that of another answer, and servers want as many bytes
        headers = [pair for pair in headers if pair[0] != b"content-length"]
    try:
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for part in answer.stream:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except RequestError as error:
        raise Cut(str(error)) from error
    finally:
        await answer.aclose()
    await send({"type": "http.response.body", "body": b""})


def _as_asgi(headers: Sequence[Header]) -> list[Header]:
    """The same with names in lower case: middleware would add a second Content-Length to one that it does not find."""
    return [(name.lower(), value) for name, value in headers]


async def _collect(answer: Response) -> None:
    """Read an answer to its end for a caller that knows no chunks, unless its length is said or it has no body."""
    if "content-length" not in answer.headers and answer.status_code not in _BODILESS:
        stream = answer.stream
        try:
            body = b"".join([part async for part in stream])
        except RequestError as error:
            raise Cut(str(error)) from error
        finally:
            await stream.aclose()
        answer.headers["content-length"] = str(len(body))
        answer.stream = ByteStream(body)


def _in_memory(answer: Response) -> bytes | None:
    """The body of an answer of upstream that was read to its end; None if it is not here, or may not be."""
    if answer.status_code in _BODILESS or not isinstance(answer.stream, Again):
        return None
    return answer.stream.rest()


# --- whole answers as bytes --------------------------------------------------------------------------------------

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_heads: dict[int, tuple[Sequence[Header], bytes]] = {}


def packed(answer: Whole) -> bytes:
    """All of an answer, as HTTP/1.1 has it; ValueError for a header that it cannot have."""
    head = _head(answer.status_code, answer.stored)
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in answer.more])
    return b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(answer.body), lines, answer.body)


def _as_it_came(answer: Response, body: bytes) -> bytes:
    """All of an answer of upstream, its headers in their order; its length is added if it did not say it."""
    headers = returned(answer.headers.raw)
    starts, sized = _STARTS.of(headers)
    values = [value for _, value in headers]
    if not _VALUE.fullmatch(b"".join(values)):
        raise ValueError("a header of an answer has control characters")
    lines = [start + value for start, value in zip(starts, values, strict=True)]
    if not sized:
        lines.append(b"\r\ncontent-length: %d" % len(body))
    return b"HTTP/1.1 %b%b\r\n\r\n%b" % (_status(answer.status_code), b"".join(lines), body)


def _starts(names: Names) -> tuple[list[bytes], bool]:
    """What stands before the value of each header, and whether a length is among them; ValueError for a wrong name."""
    if not all(map(_NAME.fullmatch, names)):
        raise ValueError(f"no headers of HTTP: {names!r}")
    lower = [name.lower() for name in names]
    return [b"\r\n" + name + b": " for name in lower], b"content-length" in lower


_STARTS = Shapes(_starts)


def _head(status: int, stored: Sequence[Header]) -> bytes:
    """The status line and the stored headers. Found again by the list itself: hits of one entry share it."""
    known = _heads.get(id(stored))
    if known is not None and known[0] is stored:
        return known[1]
    made = b"HTTP/1.1 %b\r\n%b" % (_status(status), b"".join(map(_line, stored)))
    if len(_heads) >= HEADS:
        _heads.clear()
    _heads[id(stored)] = stored, made
    return made


def _line(pair: Header) -> bytes:
    name, value = pair
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"no header of HTTP: {name!r}")
    return name.lower() + b": " + value + b"\r\n"


@lru_cache(maxsize=1024)
def _status(status: int) -> bytes:
    try:
        return b"%d %b" % (status, HTTPStatus(status).phrase.encode())
    except ValueError:
        return b"%d " % status
