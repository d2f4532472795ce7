"""Foreign input costs time and memory in proportion to its size, whatever it holds.

Each parser gets each pattern, doubled and doubled again: twice the input may take at most 2.5 times the processor time.
Small input is not judged, because the clock is coarse. The slow part goes up to 8 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from askonce.core.judge import judge_answer
from askonce.core.policy import Control, resolve
from askonce.core.providers import APIS
from askonce.core.providers.assemble import to_json, to_stream
from askonce.core.providers.exact import Inexact, a_value
from askonce.core.providers.scan import StreamScan
from askonce.core.providers.sse import Objects, Parser
from askonce.http.credentials import covers_body, rotates
from askonce.http.embeddings import cut, put_together
from askonce.http.request import read_headers, without_ours
from askonce.http.response import unpack
from tests.corpus import canonical_body

pytestmark = pytest.mark.waits  # it measures time and memory

ROWS = {row.name: row for row in APIS}
TERMS = resolve()
HEADER = 2**16  # bytes: more than any server allows for a header
JUDGED = 0.02  # s: what takes less is not judged
GROWTH, TIMES = 2.5, 8  # the most for a doubling's time; the most memory, as a multiple of the input

# Each is repeated up to the wanted length; what goes before and after it comes once.
PATTERNS: dict[str, tuple[bytes, bytes, bytes]] = {
    "objects": (b"", b"{}", b""),
    "objects in a list": (b"[", b"{},", b"{}]"),
    "lists": (b'{"a":[', b"[],", b"[]]}"),
    "deep lists": (b"", b"[", b""),
    "deep objects": (b"", b'{"a":', b""),
    "numbers": (b'{"data":[{"embedding":[', b"0.123456789,", b"0]}]}"),
    "numbers without an end": (b'{"data":[{"embedding":[', b"1,", b""),
    "one number": (b'{"input":', b"9", b"}"),
    "one fraction": (b'{"input":0.', b"9", b"}"),
    "a string": (b'{"object":"', b"x", b'"}'),
    "a string without an end": (b'{"object":"', b"x", b""),
    "escapes": (b'{"object":"', b'\\"', b'"}'),
    "escapes without an end": (b'{"object":"', b"\\\\", b""),
    "quotes": (b"", b'"', b""),
    "nothing but text": (b"", b"word ", b""),
    "blanks": (b'{"index":', b" ", b"1}"),
    "line ends": (b"", b"\n", b""),
    "carriage returns": (b"", b"\r", b""),
    "empty events": (b"", b"data:\n\n", b""),
    "small events": (b"", b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"),
    "events without data": (b"", b"event: x\n\n", b""),
    "a line of data without an end": (b"data: ", b"x", b""),
    "lines of one event": (b"", b"data: x\n", b"\n"),
    "comments": (b"", b": x\n", b""),
    "chunks": (
        b"",
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n',
    ),
    "choices": (
        b'{"object":"chat.completion","choices":[',
        b'{"message":{"content":"x"},"finish_reason":"stop"},',
        b"{}]}",
    ),
    "tokens that look signed": (b"", b"eyJ-", b""),
    "dots": (b"eyJ", b".eyJ", b""),
    "pairs": (b"", b"a=b; ", b""),
    "commas": (b"", b'",', b""),
    "fields": (b"{", b'"x":1,', b'"y":2}'),
    "fields without names": (b"{", b'"":1,', b'"y":2}'),
    "fields of many names": (b"{", b'"x%d":1.5,', b'"y":2}'),
    "fields of many names in an event": (b"data: {", b'"x%d":"%d",', b'"y":2}\n\n'),
    "fields of blanks": (b"{", b'"field":1.5, ', b'"y":2}'),
    "fields in an event": (b"data: {", b'"x":1,', b'"y":2}\n\n'),
}


def _scanned(kind: str) -> Callable[[bytes], Any]:
    def work(data: bytes) -> None:
        judge = StreamScan(ROWS[kind] if kind else None)
        for at in range(0, len(data), 65536):
            judge.feed(data[at : at + 65536])
        judge.whole()
        judge.verdict()
        judge.usage()

    return work


def _unpacked(data: bytes) -> None:
    unpack(len(data).to_bytes(4, "big") + data)


def _together(data: bytes) -> None:
    vectors = cut(b'{"data":[' + data + b"]}", 1)
    if vectors:
        put_together(vectors, None)


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "a request": canonical_body,
    "vectors, cut": lambda data: cut(data, 1),
    "vectors, put together": _together,
    "events": lambda data: Parser().feed(data),
    "events in pieces": lambda data: [
        feed(data[at : at + 100]) for feed in [Parser().feed] for at in range(0, len(data), 100)
    ],
    "objects": lambda data: Objects().feed(data) if len(data) < 2**18 else None,  # longer input is refused earlier
    "a stream judged": _scanned(""),
    "a chat stream judged": _scanned("chat"),
    "a messages stream judged": _scanned("messages"),
    "a gemini stream judged": _scanned("gemini"),
    "a stream as JSON": lambda data: to_json(ROWS["chat"], data),
    "an answer as a stream": lambda data: to_stream(ROWS["chat"], data, ""),
    "an answer in a text": lambda data: judge_answer(data.decode(), TERMS),
    "an exact value": a_value,
    "a packed reply": _unpacked,
    "directives": lambda data: Control.parse(data[:HEADER].decode(), lenient=True),
    "a credential": lambda data: rotates(data[:HEADER]),
    "headers": lambda data: read_headers([(name, data[:HEADER]) for name in (b"cookie", b"x-a", b"baggage")]),
    "headers by value": lambda data: read_headers(
        [(name, data[:HEADER]) for name in (b"accept", b"tracestate", b"priority")]
    ),
    "a name": lambda data: read_headers([(data[:HEADER], b"")]),
    "a signature": lambda data: (
        without_ours(one := [(b"authorization", data[:HEADER])]),
        covers_body(one, data[:HEADER]),
    ),
}
INNER = {"events", "events in pieces", "objects", "a packed reply"}  # large input is refused before it gets here
ALIKE = {
    "a stream judged",
    "a messages stream judged",
    "a gemini stream judged",
}  # to the chat stream: in the slow part
BRIEF = ("a request", "a chat stream judged", "an answer in a text")  # by turns, and all in the slow part


def suppressed() -> contextlib.suppress:
    """What a parser may say to nonsense."""
    return contextlib.suppress(ValueError, Inexact, RecursionError)


def made(pattern: str, size: int) -> bytes:
    before, unit, after = PATTERNS[pattern]
    holes = unit.count(b"%d")
    times = max(1, (size - len(before) - len(after)) // (len(unit) + 4 * holes))
    units = (
        unit * times
        if not holes
        else b"".join(unit % ((number,) * holes) for number in range(100_000, 100_000 + times))
    )
    return before + units + after


def took(work: Callable[[bytes], Any], data: bytes, enough: float = 0.0) -> float:
    """s of this thread's processor time; the best of some, for others are at work on this machine too.

    `enough`: with so little there is no need of a better one.
    """
    best = float("inf")
    for _ in range(3 if len(data) < 2**17 else 1):
        began = time.thread_time()
        with suppressed():
            work(data)
        best = min(best, time.thread_time() - began)
        if best <= enough:
            break
    return best


def grows_in_proportion(parser: str, pattern: str, start: int, end: int) -> None:
    """Compare each size with its half, the largest first: what is quick there is not judged, nor is what is smaller."""
    size, now = end, took(PARSERS[parser], made(pattern, end), JUDGED)
    while size > start and now > JUDGED:
        half = took(PARSERS[parser], made(pattern, size // 2))
        tried = [now / half]
        while min(tried) > GROWTH and len(tried) < 4:  # a slow machine is slow for a while
            tried.append(took(PARSERS[parser], made(pattern, size)) / took(PARSERS[parser], made(pattern, size // 2)))
        assert min(tried) <= GROWTH, f"{parser}, {pattern}: {size} bytes took {now:.3f} s, {tried} times half of it"
        size, now = size // 2, half


@pytest.mark.parametrize("parser", [name for name in PARSERS if name not in ALIKE])
def test_twice_the_input_takes_at_most_twice_the_time_or_so(parser):
    for pattern in PATTERNS:
        grows_in_proportion(parser, pattern, 2**13, 2**15)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("parser", PARSERS)
def test_up_to_8_mb_twice_the_input_takes_at_most_twice_the_time_or_so(parser, pattern):
    def grow() -> str:
        keep_memory()
        grows_in_proportion(parser, pattern, 2**21, 2**23)
        return "in proportion"

    assert in_a_child(grow) == "in proportion"


def in_a_child(work: Callable[[], object]) -> str:
    """What it returns, or the text of what it raises, in a child of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(work()).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    os.waitpid(child, 0)
    return text


def keep_memory() -> None:
    """Have the C library keep what is freed. To get a large block from the system again takes as long as to parse it,
    and begins at one size.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD


def resident(name: str) -> int:
    """Bytes, of ``VmRSS`` or, since it was reset, ``VmHWM``."""
    text = Path("/proc/self/status").read_text("ascii", "replace")
    return 1024 * int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


def peak(work: Callable[[bytes], Any], data: bytes) -> float:
    """Bytes that were held at once, in times of the input; counted in a child, whose heap nobody used before."""

    def count() -> float:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        with suppressed():
            work(data)
        return (resident("VmHWM") - before) / len(data)

    return float(in_a_child(count))


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak since a moment"
)
@pytest.mark.parametrize("size", [2**21, pytest.param(2**23, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_made_of_a_large_input_takes_at_most_eight_times_its_size(pattern, size):
    data = made(pattern, size)
    names = PARSERS.keys() - INNER if size > 2**21 else {BRIEF[list(PATTERNS).index(pattern) % len(BRIEF)]}
    most = {name: peak(PARSERS[name], data) for name in names}
    assert max(most.values()) <= TIMES, {name: round(times, 1) for name, times in most.items() if times > TIMES}


def test_an_embedding_whose_text_never_ends_is_no_vector_and_is_refused_at_once():
    began = time.thread_time()
    assert cut(b'{"object":"' + b"x" * 20_000, 1) is None
    assert time.thread_time() - began < 0.5


def test_an_index_of_ten_thousand_digits_is_none():
    body = b'{"data":[{"index":' + b"9" * 10_000 + b',"embedding":[1]}]}'
    assert [vector.item for vector in cut(body, 1) or []] == [b'{"index":' + b"9" * 10_000 + b',"embedding":[1]}']


def test_what_is_large_and_plain_is_read_as_ever():
    answer = {
        "object": "chat.completion",
        "choices": [{"message": {"content": "x" * 3_000_000}, "finish_reason": "stop"}],
    }
    assert judge_answer(orjson.dumps(answer).decode(), TERMS) == ""
    vectors = [{"index": at, "embedding": [0.123456789] * 1536} for at in range(500)]
    body = orjson.dumps({"object": "list", "data": vectors, "usage": {}})
    assert len(cut(body, 500) or []) == 500
