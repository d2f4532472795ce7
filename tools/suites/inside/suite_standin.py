"""A pytest plugin that answers the calls of an SDK's tests, in place of the mock server that their makers run.

That server answers by the API's description, which no sdist contains. This one answers by the SDK's own models: the SDK
knows the type that a call returns when it sends it, and the server sends an example of that type.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import gzip
import importlib
import inspect
import json
import os
import threading
import types
import typing
import urllib.parse
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_wanted: contextvars.ContextVar[Any] = contextvars.ContextVar("wanted", default=None)
_answers: dict[tuple[str, str], tuple[str, bytes]] = {}

DEPTH = 12  # nested models


# --- examples ----------------------------------------------------------------------------------------------------


def example(kind: Any, depth: int = 0) -> Any:
    """An example of a type, as JSON."""
    kind = getattr(kind, "__value__", kind)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return example(inside[0], depth)
    if origin is typing.Literal:
        return inside[0]
    if origin in {typing.Union, types.UnionType}:
        return None if type(None) in inside else example(inside[0], depth)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, list | tuple | set):
        return [] if depth > DEPTH else [example(inside[0], depth + 1)]
    if hasattr(kind, "model_fields"):
        return _model(kind, depth)
    return _plain(kind)


def _model(kind: Any, depth: int) -> Any:
    fields = kind.model_fields.items()
    needed = {field.alias or name: field for name, field in fields if field.is_required() or name == "data"}
    return {name: example(field.annotation, depth + 1) for name, field in needed.items()}


def _plain(kind: Any) -> Any:
    values = {str: "a", int: 1, float: 1.5, bool: True, type(None): None, object: {}}
    if kind in values:
        return values[kind]
    if inspect.isclass(kind) and issubclass(kind, dt.date):
        return "2030-01-01T00:00:00Z" if issubclass(kind, dt.datetime) else "2030-01-01"
    return {}


def answer(kind: Any, *, stream: bool) -> tuple[str, bytes]:
    """The content type and body of an answer."""
    if stream:
        return "text/event-stream", b"data: [DONE]\n\n"
    if kind is str:
        return "text/plain", b"a"
    return "application/json", json.dumps(example(kind)).encode()


# --- the server --------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Sends an answer as servers do: with its length, in chunks, or compressed; the path decides which."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        kind, body = _answers.get((self.command, _path(self.path)), ("application/json", b"{}"))
        way = zlib.crc32(self.path.encode()) % 3
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if way == 1 and "gzip" in self.headers.get("accept-encoding", ""):
            self.send_header("Content-Encoding", "gzip")
            body = gzip.compress(body)
        if way == 2:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """Listens with room for a suite's clients, which keep their connections."""

    daemon_threads = True
    request_queue_size = 128


def _path(target: str) -> str:
    """What a target names: transports quote in different ways."""
    return urllib.parse.unquote(target.partition("?")[0])


# --- in the SDK --------------------------------------------------------------------------------------------------


def _listen(sdk: Any) -> None:
    """Let each call of this SDK say what it returns, before it is sent."""
    for kind in (sdk.SyncAPIClient, sdk.AsyncAPIClient):
        _listen_to(kind)
    build = sdk.BaseClient._build_request

    def built(self: Any, options: Any, *args: Any, **more: Any) -> Any:
        request = build(self, options, *args, **more)
        wanted = _wanted.get()
        if wanted is not None:
            _answers[request.method, _path(request.url.raw_path.decode())] = answer(wanted[0], stream=wanted[1])
        return request

    sdk.BaseClient._build_request = built


def _listen_to(kind: Any) -> None:
    ask = kind.request

    def asked(self: Any, cast_to: Any, options: Any, *, stream: bool = False, **more: Any) -> Any:
        _wanted.set((cast_to, stream))
        return ask(self, cast_to, options, stream=stream, **more)

    async def aasked(self: Any, cast_to: Any, options: Any, *, stream: bool = False, **more: Any) -> Any:
        _wanted.set((cast_to, stream))
        return await ask(self, cast_to, options, stream=stream, **more)

    kind.request = aasked if inspect.iscoroutinefunction(ask) else asked


# Now, and not when pytest is configured, because a suite's conftest reads the address earlier, when it is imported.
_server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=_server.serve_forever, daemon=True).start()
os.environ["TEST_API_BASE_URL"] = f"http://127.0.0.1:{_server.server_port}"
_listen(importlib.import_module(f"{os.environ['SUITE_SDK']}._base_client"))
