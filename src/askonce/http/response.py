"""A Response is a whole answer of HTTP: status, headers, and the body as its reader sees it; as bytes, and back.

    4 bytes, big-endian: length of the meta | meta, JSON | body

`meta` is ``{"status": 200, "headers": [["content-type", "application/json"], ...]}``; of an answer that is shared but
not stored also ``"who"``, whose credential it was refused to; of one vector, ``"frame"``, what it stood in (see
`vectors`), and the body is the vector alone. A Failure, where there was no answer, is the meta alone:
``{"error": "ReadTimeout", "message": ..., "patience": 600.0}``. ``"age"``: the seconds that upstream's Age said.

Bodies are kept decoded: who asks may not understand the encoding that who paid did. What is stored goes without the
headers that were the first reader's alone: its connection, its cookies, its rate limits. What is shared with those who
waited keeps the rate limits, which are theirs too; a 429 without its retry-after would be another answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

from askonce.core.providers.bounded import SHORT, lru_cache_of_short
from askonce.http.credentials import Header
from askonce.http.embeddings import Frame

LENGTH = 4

_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade"),
        *("transfer-encoding", "content-length", "alt-svc", "strict-transport-security", "nel", "report-to", "via"),
    }
)
_COOKIES = frozenset({"set-cookie", "set-cookie2"})
_RATES = ("ratelimit", "rate-limit", "retry-after", "should-retry", "call-limit", "call-remaining")


class Response(NamedTuple):
    """An answer: headers as raw pairs, less those of the connection, the body decoded."""

    status: int
    headers: Sequence[Header]
    body: bytes
    who: str = ""
    frame: Frame | None = None
    age: int = 0  # s that it was old when it came, by upstream's word


class Failure(NamedTuple):
    """An exchange that brought no answer: the class name of the module's error, its text.

    `patience`: s that the caller had for it; who has more must ask again. None: it is the same for all.
    """

    error: str
    message: str
    patience: float | None = None


@lru_cache_of_short(1024)
def personal(name: bytes, *, rates: bool = True) -> bool:
    """Whether a response's header is for the connection that it came by and for nobody else."""
    text = name.decode("latin-1").lower()
    if text in _CONNECTION or text in _COOKIES or text == "age":
        return True
    return rates and any(word in text for word in _RATES)


@lru_cache_of_short(1024)
def of_connection(name: bytes) -> bool:
    """Whether a response's header says how the message travelled, which ends where it is read."""
    return name.decode("latin-1").lower() in _CONNECTION


def pack(reply: Response, *, stored: bool) -> bytes:
    """The bytes of a reply: as it is `stored`, or as it is shared with those who waited for it."""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in reply.headers
        if not personal(name, rates=stored)
    ]
    more: dict[str, object] = {} if stored or not reply.who else {"who": reply.who}
    if reply.frame is not None:
        more["frame"] = list(reply.frame)
    if age := reply.age or age_of(reply.headers):
        more["age"] = age
    return _packed({"status": reply.status, "headers": headers, **more}, reply.body)


OLDEST = 2**31 - 1  # s, as RFC 9111 has it


def age_of(headers: Sequence[Header]) -> int:
    """What an Age header says, s; 0 without one that can be read."""
    said = next((value.strip() for name, value in headers if name.lower() == b"age"), b"")
    return min(int(said), OLDEST) if said.isdigit() and len(said) <= _DIGITS else 0


_DIGITS = 20


def pack_failure(failure: Failure) -> bytes:
    """The bytes of a failure."""
    return _packed(failure._asdict(), b"")


def _packed(meta: object, body: bytes) -> bytes:
    head = orjson.dumps(meta)
    return b"".join((len(head).to_bytes(LENGTH, "big"), head, body))


def unpack(data: bytes | memoryview) -> Response | Failure:
    """What was packed; ValueError for anything else."""
    start = LENGTH + int.from_bytes(data[:LENGTH], "big")
    head = bytes(data[LENGTH:start])
    # Kept: a hot answer is read again and again, and its headers cost more to make than all else here. But every
    # vector of a batch has a head of its own.
    made = (_read if b'"frame"' in head or len(head) > SHORT else _read_again)(head)
    if isinstance(made, Failure):
        return made
    return Response(made.status, made.headers, bytes(data[start:]), made.who, made.frame, made.age)  # not _replace


def _read(head: bytes) -> Response | Failure:
    try:
        meta = orjson.loads(head)
        if "error" in meta:
            return _failure(**meta)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in meta["headers"]]
        frame = _frame(*meta["frame"]) if "frame" in meta else None
        status, who, age = meta["status"], meta.get("who", ""), meta.get("age", 0)
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as wrong:
        raise ValueError(f"no packed reply: {wrong!r}") from wrong
    if type(status) is not int or not 100 <= status <= 999 or type(who) is not str or type(age) is not int:
        raise ValueError("no packed reply: its status is none")
    return Response(status, headers, b"", who, frame, age)


def _failure(error: str, message: str, patience: float | None) -> Failure:
    if type(error) is not str or type(message) is not str or not isinstance(patience, float | int | None):
        raise TypeError("no failure")
    return Failure(error, message, patience)


def _frame(before: str, between: str, after: str, batch: str, at: int, of: int) -> Frame:
    texts = type(before) is str and type(between) is str and type(after) is str and type(batch) is str
    if not texts or type(at) is not int or type(of) is not int:
        raise TypeError("no frame")
    return Frame(before, between, after, batch, at, of)


_read_again = lru_cache(maxsize=256)(_read)


def read_head(head: bytes) -> Response | Failure:
    """What the meta of a packed reply says; the body is empty."""
    return (_read if len(head) > SHORT else _read_again)(head)
