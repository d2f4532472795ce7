"""A Response is a whole answer of HTTP: status, headers, and the decoded body; as an object and as bytes.

    4 bytes, big-endian: length of the meta | meta, JSON | body

`meta` is ``{"status": 200, "headers": [["content-type", "application/json"], ...]}``. An answer that is shared but not
stored also has ``"who"``, the credential that it was refused to. A vector has ``"frame"``, what it stood in (see
http.embeddings), and its body is the vector alone. A Failure (no answer came) is only a meta: ``{"error":
"ReadTimeout", "message": ..., "patience": 600.0}``. ``"age"``: the seconds of upstream's Age.

Bodies are kept decoded, because a later caller may not accept the first caller's encoding. A stored answer loses the
headers that concern only the first reader: its connection and what that names, cookies, authentication and rate limits.
A shared answer keeps the rate limits, which apply to the followers too; a 429 without its retry-after would be another
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import orjson

from askonce.core.expiry import dated
from askonce.core.providers.bounded import SHORT, lru_cache_of_short
from askonce.core.providers.named_tuples import NamedTuple
from askonce.http.credentials import Header
from askonce.http.embeddings import Frame
from askonce.http.header_names import Places

LENGTH = 4

_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade"),
        *("transfer-encoding", "content-length", "alt-svc", "strict-transport-security", "nel", "report-to", "via"),
        # Of the encoded body, which is stored decoded, and may be told in another form.
        *("content-digest", "repr-digest", "digest", "content-md5", "signature", "signature-input"),
    }
)
_COOKIES = frozenset({"set-cookie", "set-cookie2", "authentication-info", "proxy-authentication-info", "dpop-nonce"})
_SAVED = "askonce-saved-"  # what a gateway before this one saved by its own hit
_RATES = ("ratelimit", "rate-limit", "retry-after", "should-retry", "call-limit", "call-remaining", "www-authenticate")


class Response(NamedTuple):
    """An answer: raw header pairs without those of the connection, and the decoded body."""

    status: int
    headers: Sequence[Header]
    body: bytes
    who: str = ""
    frame: Frame | None = None
    age: int = 0  # seconds old when it came, by upstream's word


class Failure(NamedTuple):
    """A call that brought no answer: the class name of the module's error, and its text.

    `patience`: the timeout of its caller in s; a follower with a longer one asks again. None: it applies to all.
    """

    error: str
    message: str
    patience: float | None = None


@lru_cache_of_short(1024)
def personal(name: bytes, *, rates: bool = True) -> bool:
    """Whether a response header concerns only the connection that it came by."""
    text = name.decode("latin-1").lower()
    if text in _CONNECTION or text in _COOKIES or text == "age" or text.startswith(_SAVED):
        return True
    return rates and any(word in text for word in _RATES)


@lru_cache_of_short(1024)
def of_connection(name: bytes) -> bool:
    """Whether a response header describes the transfer of the message, which ends with its reader."""
    return name.decode("latin-1").lower() in _CONNECTION


def named_by_connection(headers: Sequence[Header]) -> frozenset[bytes]:
    """The names of headers, in lower case, that end with the connection because its own header names them."""
    words = [headers[at][1].lower().split(b",") for at in _CONNECTIONS.of(headers)]
    return frozenset([word.strip() for line in words for word in line])


_CONNECTIONS = Places(lambda name: name.lower() == b"connection")


def pack(reply: Response, *, stored: bool) -> bytes:
    """The bytes of a reply, as it is `stored` or as it is shared with followers."""
    raw = reply.headers
    places = (_STORED if stored else _SHARED).of(raw)
    headers = [(raw[at][0].decode("latin-1"), raw[at][1].decode("latin-1")) for at in places]
    more: dict[str, object] = {} if stored or not reply.who else {"who": reply.who}
    if reply.frame is not None:
        more["frame"] = list(reply.frame)
    if age := reply.age or age_of(reply.headers):
        more["age"] = age
    return _packed({"status": reply.status, "headers": headers, **more}, reply.body)


_STORED = Places(lambda name: not personal(name))
_SHARED = Places(lambda name: not personal(name, rates=False))
OLDEST = 2**31 - 1  # s, as in RFC 9111


def age_of(headers: Sequence[Header]) -> int:
    """The seconds of an Age header, the highest of several; 0 if there is none that can be read."""
    places = _AGES.of(headers)
    if not places:
        return 0
    said = [one.strip() for at in places for one in headers[at][1].split(b",")]
    return min(max((int(one[:_DIGITS]) for one in said if one.isdigit()), default=0), OLDEST)


_AGES = Places(lambda name: name.lower() == b"age")


_DIGITS = 20


def date_of(headers: Sequence[Header]) -> float:
    """When an answer was sent, by its Date header, s since 1970; 0.0 if there is none that can be read."""
    said = next((value for name, value in headers if name.lower() == b"date"), b"")
    return dated(said.decode("latin-1")) or 0.0


def pack_failure(failure: Failure) -> bytes:
    """The bytes of a failure."""
    return _packed(failure._asdict(), b"")


def _packed(meta: object, body: bytes) -> bytes:
    head = orjson.dumps(meta)
    return b"".join((len(head).to_bytes(LENGTH, "big"), head, body))


def unpack(data: bytes | memoryview) -> Response | Failure:
    """The reverse of pack and pack_failure; ValueError for anything else."""
    start = LENGTH + int.from_bytes(data[:LENGTH], "big")
    head = bytes(data[LENGTH:start])
    # Cached: a hot answer is read again and again, and its headers cost more than all else here. Not for vectors,
    # because every vector of a batch has a head of its own.
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
        raise ValueError("no packed reply: its status is not one of HTTP")
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
    """The meta of a packed reply; the body is empty."""
    return (_read if len(head) > SHORT else _read_again)(head)
