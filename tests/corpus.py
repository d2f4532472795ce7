"""Recorded traffic, whole and in samples: `make test` tries some of every kind, and `make slow` all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from askonce.core.keys import RAW, canonical_fields, parsed
from askonce.core.providers.hosts import provider_of
from askonce.core.providers.operations import Operation, operation_at

Item = TypeVar("Item")
KIND = ("api", "stream", "status", "finish_reason", "has_tools", "has_tool_calls_in_response", "has_refusal")


def by_path(method: str, path: str, host: str = "") -> Operation | None:
    """The operation of a request line at a host; None if it is no known one."""
    return operation_at(method, path, provider_of(host))


def canonical_body(raw: bytes, drop: tuple[str, ...] = ()) -> bytes:
    """The canonical JSON of an HTTP body; its marked bytes if it has none, as in http.body_keys."""
    body = parsed(raw)
    return RAW + raw if body is None else canonical_fields(body, raw, drop)


def interactions(folder: Path) -> Iterator[dict[str, Any]]:
    """All recorded interactions of a folder, one after another."""
    with gzip.open(folder / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def sample(items: Sequence[Item], every: int, record: Callable[[Item], Any] = lambda item: item) -> list[Item]:
    """Every so many-th item, and the first of each kind of record: an API, a status, a way to end."""
    known: set[tuple[Any, ...]] = set()
    kept = []
    for at, item in enumerate(items):
        kind = tuple(record(item)[name] for name in KIND)
        if at % every == 0 or kind not in known:
            kept.append(item)
        known.add(kind)
    return kept
