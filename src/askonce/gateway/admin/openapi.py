"""The OpenAPI 3.1 document of the admin API, written from the table of its operations."""

from __future__ import annotations

from functools import cache
from typing import Any

from askonce import __version__
from askonce.gateway.admin import schemas
from askonce.gateway.admin.operations import OPERATIONS, Field, Operation
from askonce.gateway.admin.problems import PROBLEM
from askonce.gateway.admin.schemas import Schema

MOUNT = "/_askonce/api"
SAID = (
    "What a gateway's cache holds, does and saves, and how to invalidate it. Dates are in seconds since 1970 by the"
    " store's clock, durations in seconds, sizes in bytes. Errors are problems of RFC 9457: `detail` says what to do."
)
EVERY = {
    400: "The request is wrong.",
    401: "No admin token, or another one.",
    403: "It comes from another site.",
    503: "The store failed.",
}
MORE = {
    404: "No answer has this key.",
    409: "Several keys begin with these digits.",
    413: "The body is too large.",
    415: "The body is not JSON.",
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    named: dict[str, Schema] = {"Problem": _problem()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(f"{MOUNT}{operation.path}", {})[operation.method.lower()] = _described(operation, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "askonce", "version": __version__, "description": SAID},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": named,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation, named: dict[str, Schema]) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": operation.name, "summary": operation.said}
    if operation.fields:
        told["parameters"] = [_parameter(operation, one) for one in operation.fields]
    if operation.ways:
        body = {"oneOf": [{"title": f"by {way.name}", **way.schema} for way in operation.ways]}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return {**told, "responses": _responses(operation, named)}


def _parameter(operation: Operation, one: Field) -> dict[str, Any]:
    place = "path" if f"{{{one.name}}}" in operation.path else "query"
    shown = {"name": one.name, "in": place, "required": one.required, "description": one.said}
    default = {} if one.default in (None, "") else {"default": one.default}
    return {**shown, "schema": {**one.schema, **default}}


def _responses(operation: Operation, named: dict[str, Schema]) -> dict[str, Any]:
    said = {**EVERY, **{status: MORE[status] for status in (*operation.problems, *_of_body(operation))}}
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    wrong = {str(status): {"description": text, "content": problem} for status, text in sorted(said.items())}
    return {"200": {"description": "Done.", "content": _content(operation, named)}, **wrong}


def _of_body(operation: Operation) -> tuple[int, ...]:
    return (413, 415) if operation.ways else ()


def _content(operation: Operation, named: dict[str, Schema]) -> dict[str, Any]:
    if operation.result is bytes:
        return {
            "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        }
    schema = operation.result if isinstance(operation.result, dict) else schemas.of(operation.result, named)
    return {"application/json": {"schema": schema}}


def _problem() -> Schema:
    return {
        "type": "object",
        "description": "An error, by RFC 9457. `detail` says what to do.",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "kind": {"type": "string", "description": "Of a trouble of the store: a status detail."},
        },
        "required": ["type", "title", "status", "detail"],
    }
