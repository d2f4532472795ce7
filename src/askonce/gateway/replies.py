"""What the gateway says itself: errors in the shape that the caller's SDK reads, and short JSON."""

from __future__ import annotations

import orjson

from askonce.core.providers.api import plain_error
from askonce.events import Status
from askonce.gateway import wire
from askonce.gateway.wire_errors import ConnectTimeout, PoolTimeout, ReadTimeout, RequestError
from askonce.http.request import target_of

_JSON = (b"content-type", b"application/json")
_LATE = (ConnectTimeout, ReadTimeout, PoolTimeout)


def plain_json(status: int, value: object) -> wire.Whole:
    """A JSON value."""
    return _whole(status, orjson.dumps(value))


def error(status: int, kind: str, message: str, *, method: str = "", url: str = "") -> wire.Whole:
    """An error of the gateway, in the shape that the SDK of this request's API reads; `url`: of the upstream."""
    # Unlike the library's own errors it does not ask SDKs to try no more: without the gateway they would, too.
    target = target_of(method, url) if url else None
    body, headers = (target.operation.api.error if target else plain_error)(status, kind, message)
    return _whole(status, orjson.dumps(body), *headers)


def failed(why: RequestError, *, method: str, url: str) -> wire.Whole:
    """The answer to a caller whose call brought no answer: 504 if it took too long, else 502."""
    late = isinstance(why, _LATE)
    status, kind = (504, "upstream_timeout") if late else (502, "upstream_unreachable")
    made = error(status, kind, str(why), method=method, url=url)
    made.more.append((b"cache-status", str(Status("", fwd="miss", detail=kind.replace("_", "-"))).encode()))
    return made


def _whole(status: int, body: bytes, *more: tuple[bytes, bytes]) -> wire.Whole:
    return wire.Whole(status, (_JSON,), [*more], body)
