"""What of a head crosses the gateway: all of it, in its order, but the headers of one connection and askonce's own.

A request's Host becomes the upstream's, in its place. Cache-Control stays: the caller's directives are obeyed here, and
upstream gets them as they were sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from askonce.http.credentials import Header, binds, covered
from askonce.http.header_names import Names, Shapes
from askonce.http.request import Known

_HOP = frozenset({b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"})
_SEEN = {b"host": 1, b"content-length": 2, b"transfer-encoding": 3, b"connection": 4, b"upgrade": 5, b"expect": 6}
_SEEN[b"authorization"] = 7
_HOST, _LENGTH, _CODING, _CONNECTION, _UPGRADE, _EXPECT, _SHOWN, _ENDS = range(1, 9)
_OURS = b"askonce-"
_CONTINUE = b"100-continue"
_SEVERAL = b"several"  # lengths that differ: none of them is believed
_USUAL = frozenset({b"keep-alive", b"close"})  # values of Connection that name no header
_KEPT = frozenset({b"host", b"content-length"})  # a caller that names these as its connection's is mistaken


class Head(NamedTuple):
    """A request's head: the headers for upstream (askonce's own included), and what they say of the connection."""

    headers: list[Header]
    length: bytes = b""
    chunked: bool = False
    upgrade: bytes = b""
    binds: bool = False  # its credential authenticates a connection, which others use too


class _Kinds(Known[bytes, int]):
    """What each name of a header, in any case, means here; 0: nothing."""

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        return self.keep(name, _SEEN.get(lower, _ENDS if lower in _HOP else 0), len(name))


_KINDS = _Kinds()


def read(headers: Sequence[Header], host: bytes) -> Head:
    """A request's head, in one pass: a hit has some 15 headers."""
    sent: list[Header] = []
    length, chunked, upgrade, named, bound = b"", False, b"", False, False
    ended: set[bytes] = set()
    for pair in headers:
        kind = _KINDS[pair[0]]
        if not kind:
            sent.append(pair)
        elif kind == _HOST:
            sent.append((pair[0], host))
            named = True
        elif kind == _LENGTH:
            if pair[1] != length:
                sent.append(pair)
            length = pair[1] if length in {b"", pair[1]} else _SEVERAL
        elif kind == _SHOWN:
            sent.append(pair)
            bound = bound or binds((pair,))
        elif kind == _CODING:
            chunked = chunked or b"chunked" in pair[1].lower()
        elif kind == _UPGRADE:
            upgrade = pair[1].lower()
        elif kind == _CONNECTION and pair[1].lower() not in _USUAL:
            ended |= ended_by(pair[1])
        elif kind == _EXPECT and pair[1].lower() != _CONTINUE:
            sent.append(pair)
    if chunked and length:  # a server that reads both obeys the chunks
        length, ended = b"", ended | {b"content-length"}
    if ended:
        sent = [pair for pair in sent if pair[0].lower() not in ended]
    return Head(sent if named else [(b"host", host), *sent], length, chunked, upgrade, bound)


def ended_by(connection: bytes) -> set[bytes]:
    """The headers that a Connection names: they end with it."""
    return {word.strip() for word in connection.lower().split(b",")} - _KEPT


def without_ours(headers: Sequence[Header]) -> list[Header]:
    """The headers of a request without askonce's own; one that a signature covers stays, or the signature breaks."""
    kept = covered(headers)
    return [(name, value) for name, value in headers if not name.lower().startswith(_OURS) or name.lower() in kept]


def returned(headers: Sequence[Header]) -> list[Header]:
    """The headers of an answer for the caller."""
    staying, connections = _RETURNED.of(headers)
    stay = [headers[at] for at in staying]
    if not connections:
        return stay
    ended = {name for at in connections for name in ended_by(headers[at][1])}
    return [pair for pair in stay if pair[0].lower() not in ended]


def _returned(names: Names) -> tuple[list[int], list[int]]:
    """Where the headers stand that go to the caller, and where Connections stand."""
    kinds = [_KINDS[name] for name in names]
    staying = [at for at, kind in enumerate(kinds) if kind not in _GO]
    return staying, [at for at, kind in enumerate(kinds) if kind == _CONNECTION]


_GO = frozenset({_CODING, _CONNECTION, _UPGRADE, _ENDS})
_RETURNED = Shapes(_returned)
