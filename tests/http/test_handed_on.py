"""The law of misses: a caller with askonce sees what it sees without, except for one header."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import brotli
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.conftest import CHAT, MODULES
from tests.http.test_requests import ANSWER
from tests.http.wires import WAYS, Script, aboth, both
from tests.profiles import examples

URL = "http://api.example/v1/chat/completions"
JSON = json.dumps(ANSWER).encode()
SSE = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}'
    b'\n\ndata: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    b"\n\ndata: [DONE]\n\n"
)


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


# How a body is encoded, and what the header says of it; both may be wrong.
ENCODINGS: dict[str, tuple[Any, list[bytes]]] = {
    "none": (bytes, []),
    "identity": (bytes, [b"identity"]),
    "gzip": (gzip.compress, [b"gzip"]),
    "gzip in capitals": (gzip.compress, [b"GZip"]),
    "gzip, cut": (lambda data: gzip.compress(data)[:-9], [b"gzip"]),
    "gzip, and more behind": (lambda data: gzip.compress(data) + b"more", [b"gzip"]),
    "said to be gzip": (bytes, [b"gzip"]),
    "gzip that goes bad": (lambda data: gzip.compress(data)[:30] + b"\0" * 40, [b"gzip"]),
    "gzip that nobody tells of": (gzip.compress, []),
    "deflate": (zlib.compress, [b"deflate"]),
    "raw deflate": (raw_deflate, [b"deflate"]),
    "said to be deflate": (bytes, [b"deflate"]),
    "br": (brotli.compress, [b"br"]),
    "said to be br": (bytes, [b"br"]),
    "br, cut": (lambda data: brotli.compress(data)[:-3], [b"br"]),
    "said to be zstd": (bytes, [b"zstd"]),
    "twice": (lambda data: brotli.compress(gzip.compress(data)), [b"gzip, br"]),
    "twice, in two headers": (lambda data: brotli.compress(gzip.compress(data)), [b"gzip", b"br"]),
    "of tomorrow": (bytes, [b"snappy"]),
    "of tomorrow, and gzip": (gzip.compress, [b"snappy, gzip"]),
}


def chunked(data: bytes, size: int, *, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(one), extension, one) for one in cut) + b"0\r\n" + trailers + b"\r\n"


# How a body is framed: header lines, and the bytes behind them.
FRAMINGS: dict[str, Any] = {
    "its length": lambda data: ([b"Content-Length: %d" % len(data)], data),
    "length in the middle": lambda data: ([b"content-length: %d" % len(data), b"X-Last: 1"], data),
    "chunked": lambda data: ([b"Transfer-Encoding: chunked"], chunked(data, 50)),
    "chunked, byte by byte": lambda data: ([b"transfer-encoding: chunked"], chunked(data, 1)),
    "chunked, with extensions and trailers": lambda data: (
        [b"Transfer-Encoding: chunked", b"Trailer: x-sum"],
        chunked(data, 64, trailers=b"X-Sum: 1\r\n", extension=b";a=b"),
    ),
    "until it hangs up": lambda data: ([b"Connection: close"], data),
    "too short": lambda data: ([b"Content-Length: %d" % (len(data) + 9)], data),
    "too long": lambda data: ([b"Content-Length: %d" % max(0, len(data) - 9)], data),
    "chunked, cut": lambda data: ([b"Transfer-Encoding: chunked"], chunked(data, 50)[:-20]),
    "chunked, without its end": lambda data: ([b"Transfer-Encoding: chunked"], chunked(data, 50)[:-5]),
    "chunked, garbled": lambda data: ([b"Transfer-Encoding: chunked"], chunked(data, 50)[:60] + b"\r\nzz\r\n"),
    "two lengths": lambda data: ([b"Content-Length: %d" % len(data), b"Content-Length: 7"], data),
    "both": lambda data: ([b"Content-Length: 3", b"Transfer-Encoding: chunked"], chunked(data, 50)),
}
HEADERS = [
    b"Content-Type: application/json",
    b"content-type: text/event-stream; charset=utf-8",
    b"X-Request-ID: req_1",
    b"x-RateLimit-Remaining: 9",
    b"Set-Cookie: a=1",
    b"Set-Cookie: b=2; Path=/",
    b"Age: 3",
    b"Cache-Control: no-store",
    b"X-Odd: \xe9\xff",
    b"X-Empty:",
    b"Via: 1.1 edge",
    b"Keep-Alive: timeout=5",
    b"x-twice: 1",
    b"X-Twice: 2",
    b"Connection: close",
    b"Date: Tue, 01 Jan 2030 00:00:00 GMT",
]
STATUSES = [
    *[b"200 OK"] * 6,
    *(b"200 Fine", b"200 ", b"201 Created", b"204 No Content", b"304 Not Modified", b"307 Temporary Redirect"),
    *(b"400 Bad Request", b"401 Unauthorized", b"429 Too Many Requests", b"500 Oh", b"599 \xc3\xa9"),
]
BEFORE = [b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]


def answer(status: bytes, lines: list[bytes], encoding: str, framing: str, body: bytes) -> bytes:
    encode, said = ENCODINGS[encoding]
    framed, data = FRAMINGS[framing](encode(body))
    named = [b"Content-Encoding: " + one for one in said]
    head = b"\r\n".join((b"HTTP/1.1 " + status, *lines, *named, *framed, b"", b""))
    return bytes(head + data)


def cut(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


@st.composite
def scripts(draw: Any) -> Script:
    body = draw(st.sampled_from([JSON, JSON, SSE, SSE, b"", b"<html>", SSE[:60], b"\0\xff" * 40]))
    lines = draw(st.lists(st.sampled_from(HEADERS), max_size=6))
    status, before = draw(st.sampled_from(STATUSES)), draw(st.sampled_from(BEFORE))
    encoding, framing = draw(st.sampled_from(sorted(ENCODINGS))), draw(st.sampled_from(sorted(FRAMINGS)))
    data = before + answer(status, lines, encoding, framing, body)
    return Script(
        cut(data, draw(st.sampled_from([7, 64, 10**6]))), draw(st.sampled_from(["", "", "ReadTimeout", "ReadError"]))
    )


def same(script: Script, way: str, *, streams: bool, module: Any, asynchronous: bool) -> None:
    request = {"url": URL, "json": {**CHAT, "stream": True} if streams else CHAT}
    without, ours = (
        asyncio.run(aboth(module, script, request, way)) if asynchronous else both(module, script, request, way)
    )
    gave_up = way == "left" or any(name == "DecodingError" for name, _ in without.ended[0])
    if gave_up and "IDLE" in "".join(ours.pool):
        # askonce reads on to upstream's end after the client gave up, so that the connection can be used again.
        without = without._replace(pool=ours.pool)
    assert ours == without


CASES = {
    "script": scripts(),
    "way": st.sampled_from(WAYS),
    "streams": st.booleans(),
    "module": st.sampled_from(MODULES),
    "asynchronous": st.booleans(),
}


@given(**CASES)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
def test_a_miss_is_seen_as_it_is_seen_without_us(script, way, streams, module, asynchronous):
    same(script, way, streams=streams, module=module, asynchronous=asynchronous)


@pytest.mark.slow
@given(**CASES)
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_great_many_misses_are_seen_as_they_are_seen_without_us(script, way, streams, module, asynchronous):
    same(script, way, streams=streams, module=module, asynchronous=asynchronous)


def in_some_modes(script: Script, turn: int, *, streams: bool, module: Any, all_modes: bool) -> None:
    """Each way in both modes, or in one, by turns; a stream takes its turn where JSON does not."""
    for at, way in enumerate(WAYS, turn + streams):
        for asynchronous in (False, True) if all_modes else (at % 2 == 1,):
            same(script, way, streams=streams, module=module, asynchronous=asynchronous)


each_form = pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
modes = pytest.mark.parametrize(
    "all_modes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["by turns", "both modes"]
)


@modes
@pytest.mark.parametrize("encoding", ENCODINGS)
@each_form
def test_every_encoding_right_or_wrong_is_handed_on(module, encoding, streams, all_modes):
    script = Script(cut(answer(b"200 OK", [], encoding, "chunked", SSE if streams else JSON), 40))
    turn = list(ENCODINGS).index(encoding)
    in_some_modes(script, turn, streams=streams, module=module, all_modes=all_modes)


@modes
@pytest.mark.parametrize("framing", FRAMINGS)
@each_form
def test_every_framing_right_or_wrong_is_handed_on(module, framing, streams, all_modes):
    script = Script(cut(answer(b"200 OK", HEADERS, "gzip", framing, SSE if streams else JSON), 40))
    in_some_modes(script, list(FRAMINGS).index(framing), streams=streams, module=module, all_modes=all_modes)
