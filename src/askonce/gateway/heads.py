"""What of a head crosses the gateway: all of it, in its order, but the headers of one connection and askonce's own.

A request's Host becomes the upstream's, in its place. Cache-Control stays: the caller's directives are obeyed here, and
upstream gets them as they were sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from askonce.http.credentials import Header, covered

_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"http2-settings",
    }
)
_KEPT = frozenset({b"host", b"content-length"})  # a caller that names these as its connection's is mistaken
_OURS = b"askonce-"
_CONTINUE = b"100-continue"


def named_by(headers: Sequence[Header]) -> frozenset[bytes]:
    """The headers (lower case) that end with this connection: those of every connection, and those it names."""
    said = [value.lower() for name, value in headers if name.lower() == b"connection"]
    if not said or said in ([b"keep-alive"], [b"close"]):
        return _HOP
    return (_HOP | {word.strip() for value in said for word in value.split(b",")}) - _KEPT


def forwarded(headers: Sequence[Header], host: bytes) -> list[Header]:
    """The headers of a request for upstream, askonce's own included: the rules read them, and take them off."""
    ended = named_by(headers)
    sent: list[Header] = []
    named = False
    for pair in headers:
        name = pair[0].lower()
        if name in ended or (name == b"expect" and pair[1].lower() == _CONTINUE):
            continue
        if name == b"host":
            pair, named = (pair[0], host), True  # noqa: PLW2901 - a request has one
        sent.append(pair)
    return sent if named else [(b"host", host), *sent]


def less_ours(headers: Sequence[Header]) -> list[Header]:
    """The headers of a request without askonce's own; one that a signature covers stays, or the signature breaks."""
    kept = covered(headers)
    return [(name, value) for name, value in headers if not name.lower().startswith(_OURS) or name.lower() in kept]


def returned(headers: Sequence[Header]) -> list[Header]:
    """The headers of an answer for the caller."""
    ended = named_by(headers)
    return [pair for pair in headers if pair[0].lower() not in ended]


def value_of(headers: Sequence[Header], wanted: bytes) -> bytes:
    """The value of a header (lower case), b"" if there is none."""
    return next((value for name, value in headers if name.lower() == wanted), b"")
