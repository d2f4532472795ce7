"""The parts of a question, from which its key is made, as fields that can be told apart (core.field_digests)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from askonce.core.keys import RAW
from askonce.core.providers.named_tuples import NamedTuple

BODY = "body"
LARGEST = 2**20  # bytes of a body that is taken apart


class Parts(NamedTuple):
    """What makes a key. `asker`: the tenant or credential; `body`: its part of the key."""

    asker: str
    scope: str
    variant: str
    upstream: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def size(self) -> int:
        """About as many bytes as it holds."""
        return len(self.body)

    def __call__(self) -> Parts:
        """Itself; see Later."""
        return self

    def fields(self) -> dict[str, object]:
        """Everything but the asker, by name: ``scope``, ``header openai-beta``, ``url``; unset ones are left out."""
        url, _, options = self.upstream.partition("#")
        rules, body = _read(self.body)
        said = {"scope": self.scope, "variant": self.variant, "url": url, "options": options, "rules": rules}
        headers: dict[str, str] = {}
        for name, value in self.headers:
            field = f"header {name.lower()}"
            headers[field] = f"{headers[field]}, {value}" if field in headers else value
        return {**{name: value for name, value in said.items() if value}, **headers, BODY: body}


class Later(NamedTuple):
    """Parts that are worked out when they are needed, from a request of `size` bytes."""

    size: int
    make: Callable[[], Parts]

    def __call__(self) -> Parts:
        """The parts."""
        return self.make()


def _read(keyed: bytes) -> tuple[str, Any]:
    """The rules and the value in the body's part of a key."""
    exact = not keyed.startswith(RAW)
    rules, _, body = keyed.rpartition(b"\0") if exact else (b"", b"", keyed.removeprefix(RAW))
    return rules.decode("utf-8", "replace"), _value(body)


def _value(body: bytes) -> Any:
    if len(body) <= LARGEST:
        try:
            return orjson.loads(body)
        except ValueError:
            pass
        try:
            return json.loads(body)  # integers beyond 64 bits, lone surrogates
        except (ValueError, RecursionError):
            pass
    return body.decode("latin-1")
