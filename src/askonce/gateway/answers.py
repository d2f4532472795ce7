"""Answers on their way to the caller: whole in one write where the server can do that, or part by part.

`askonce serve` puts a function into the scope that writes a whole answer at once (`WHOLE`): under ASGI the head and the
body are two messages, and two system calls are a tenth of a hit. The head of a stored answer is the same for each of
its hits, so it is checked and put together once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

from askonce.gateway.heads import returned
from askonce.gateway.wire import Response, Whole
from askonce.gateway.wire_errors import RequestError
from askonce.http.credentials import Header

WHOLE = "askonce.whole"  # in a scope: Callable[[bytes], None], which writes all of an answer
HEADS = 512  # of stored answers, put together

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Cut(Exception):
    """The answer breaks off here, as upstream's did: the server closes the connection."""


async def write(answer: Response | Whole, scope: Mapping[str, Any], send: Send) -> None:
    """Write an answer to the caller; Cut if it breaks off."""
    if isinstance(answer, Response):
        await _streamed(answer, send)
    elif (at_once := scope.get(WHOLE)) is not None and scope["method"] != "HEAD":
        at_once(packed(answer))
    else:
        await said(answer, send)


async def said(answer: Whole, send: Send) -> None:
    """The same by the messages of ASGI."""
    headers = [*answer.stored, (b"content-length", b"%d" % len(answer.body)), *answer.more]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _streamed(answer: Response, send: Send) -> None:
    headers = returned(answer.headers.raw)
    try:
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for part in answer.stream:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except RequestError as error:
        raise Cut(str(error)) from error
    finally:
        await answer.aclose()
    await send({"type": "http.response.body", "body": b""})


# --- whole answers as bytes --------------------------------------------------------------------------------------

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_heads: dict[int, tuple[Sequence[Header], bytes]] = {}


def packed(answer: Whole) -> bytes:
    """All of an answer, as HTTP/1.1 has it; ValueError for a header that it cannot have."""
    head = _head(answer.status_code, answer.stored)
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in answer.more])
    return b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(answer.body), lines, answer.body)


def _head(status: int, stored: Sequence[Header]) -> bytes:
    """The status line and the stored headers. Found again by the list itself: hits of one entry share it."""
    known = _heads.get(id(stored))
    if known is not None and known[0] is stored:
        return known[1]
    made = b"HTTP/1.1 %d %b\r\n%b" % (status, _phrase(status), b"".join(map(_line, stored)))
    if len(_heads) >= HEADS:
        _heads.clear()
    _heads[id(stored)] = stored, made
    return made


def _line(pair: Header) -> bytes:
    name, value = pair
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(f"no header of HTTP: {name!r}")
    return name.lower() + b": " + value + b"\r\n"


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
