"""The answers of a recording as written to its file: without secrets, and otherwise the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from askonce.core.redact_answer import reply_headers, starred, starred_frames
from askonce.core.tape import DATA, META, frame, frames
from askonce.http.response import LENGTH


def redacted(form: str, body: bytes, ways: Sequence[str]) -> bytes:
    """A stored body of any form without secrets; `ways`: the spellings of what was hidden in its request."""
    if form == "j":
        start = LENGTH + int.from_bytes(body[:LENGTH], "big")
        head = _head(body[LENGTH:start], ways)
        return len(head).to_bytes(LENGTH, "big") + head + starred(body[start:], ways)
    return _tape(body, ways) if form == "s" else starred(body, ways)


def _head(meta: bytes, ways: Sequence[str]) -> bytes:
    if not meta:
        return meta
    head = orjson.loads(meta)
    return orjson.dumps({**head, "headers": reply_headers(head.get("headers", ()), ways)})


def _tape(log: bytes, ways: Sequence[str]) -> bytes:
    """A redacted tape: its parts keep their times and lengths, even if a secret spans several parts."""
    parts = frames(log)
    head = next((payload for kind, payload in parts if kind == META), b"")
    data = [payload for kind, payload in parts if kind == DATA]
    # The parts of HTTP are one text cut anywhere; each item is a text of its own.
    stars = starred_frames if b"vnd.amazon.eventstream" in head else starred
    texts = _cut(stars(b"".join(one[4:] for one in data), ways), data) if head else _each(data, ways)
    return frame(META, _head(head, ways)) + b"".join(
        frame(DATA, one[:4] + text) for one, text in zip(data, texts, strict=True)
    )


def _each(data: list[bytes], ways: Sequence[str]) -> list[bytes]:
    return [starred(one[4:], ways) for one in data]


def _cut(text: bytes, like: list[bytes]) -> list[bytes]:
    made, at = [], 0
    for one in like:
        made.append(text[at : at + len(one) - 4])
        at += len(one) - 4
    return made
