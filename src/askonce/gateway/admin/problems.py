"""Errors of the admin API: problems of RFC 9457. `detail` is one line that says what to do.

A detail repeats what the caller itself sent, and what the store says of itself. It never has a prompt, an answer or a
credential.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from askonce.errors import AskonceError, PartialInvalidation, StoreUnavailable
from askonce.events import printable
from askonce.gateway.short_keys import AmbiguousKey, NoSuchKey
from askonce.store import StoreTrouble

PROBLEM = "application/problem+json"
LONGEST = 500  # characters of a detail: it may repeat what the caller sent


class Refused(Exception):
    """A request that the API does not answer: a status, and what to do instead."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem; `more`: its own members."""
    said = printable(" ".join(detail.split()))[:LONGEST]
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": said, **more}
    return json_answer(told, status, PROBLEM, headers)


def json_answer(
    told: Any, status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in ASCII: half of a surrogate pair, which a stored answer may have, has no UTF-8."""
    return Response(json.dumps(told, separators=(",", ":")), status, {**(headers or {}), "content-type": kind})


def of(error: Exception) -> Response:
    """The problem of an error."""
    if isinstance(error, Refused):
        return answer(error.status, str(error), error.headers)
    if isinstance(error, NoSuchKey):
        return answer(404, str(error))
    if isinstance(error, AmbiguousKey):
        return answer(409, str(error))
    if isinstance(error, PartialInvalidation):
        return answer(503, str(error), {"retry-after": "1"}, kind=error.kind, done=error.done, total=error.total)
    if isinstance(error, StoreTrouble | StoreUnavailable):
        return answer(503, f"the store failed ({error.kind}: {error})", {"retry-after": "1"}, kind=error.kind)
    if isinstance(error, AskonceError):
        return answer(400, str(error))
    if isinstance(error, HTTPException):
        return answer(error.status_code, _http(error), error.headers)
    return answer(500, "this is a bug of askonce: its log has the traceback")


async def nobody(_request: Request, _error: Exception) -> Response:
    """What is sent to a caller that has left: nothing that anybody reads."""
    return Response(status_code=503)


def _http(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "the API has no such path: /_askonce/api/ lists those it has"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return f"write {', '.join(sorted(allowed.split(', ')))}"
    return error.detail
