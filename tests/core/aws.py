"""AWS event streams, written for tests: the reverse of core.providers.eventstream."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any


def header(name: str, value: Any) -> bytes:
    """One header, of the type that the value has."""
    packed = name.encode()
    head = bytes([len(packed)]) + packed
    if isinstance(value, bool):
        return head + bytes([0 if value else 1])
    if isinstance(value, int):
        return head + b"\x05" + value.to_bytes(8, "big", signed=True)
    data = value if isinstance(value, bytes) else value.encode()
    return head + (b"\x06" if isinstance(value, bytes) else b"\x07") + len(data).to_bytes(2, "big") + data


def frame(payload: bytes, **headers: Any) -> bytes:
    """One frame; names of headers as ``message_type`` for ``:message-type``."""
    packed = b"".join(header(":" + name.replace("_", "-"), value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return head + struct.pack(">I", zlib.crc32(head))


def event(name: str, value: Any) -> bytes:
    """One event of Converse."""
    typed = {"event_type": name, "content_type": "application/json", "message_type": "event"}
    return frame(json.dumps(value).encode(), **typed)


def chunk(value: Any) -> bytes:
    """One chunk of InvokeModel, with the padding that AWS adds."""
    return event("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode(), "p": "abcdef"})


def failure(kind: str, message: str) -> bytes:
    """One exception."""
    typed = {"exception_type": kind, "content_type": "application/json", "message_type": "exception"}
    return frame(json.dumps({"message": message}).encode(), **typed)


def converse(text: str = "Paris.", finish: str = "end_turn", *more: bytes) -> list[bytes]:
    """The frames of an answer of ConverseStream; `more` stand before its end."""
    return [
        event("messageStart", {"role": "assistant"}),
        *(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": one}}) for one in text.split(" ")),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        *more,
        event("messageStop", {"stopReason": finish}),
        event("metadata", {"usage": {"inputTokens": 9, "outputTokens": 2}, "metrics": {"latencyMs": 1}}),
    ]


def claude(text: str = "Paris.", finish: str = "end_turn") -> list[bytes]:
    """The frames of Claude's answer to InvokeModelWithResponseStream."""
    usage = {"input_tokens": 9, "output_tokens": 2}
    start: dict[str, Any] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}}
            for one in text.split(" ")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": finish}, "usage": {"output_tokens": 2}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 9}},
    ]
    return list(map(chunk, values))


def nova(text: str = "Paris.", finish: str = "end_turn", **last: Any) -> list[bytes]:
    """The frames of Nova's answer to InvokeModelWithResponseStream."""
    values: list[dict[str, Any]] = [
        {"messageStart": {"role": "assistant"}},
        *({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": one}}} for one in text.split(" ")),
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": finish}},
        {"metadata": {"usage": {"inputTokens": 9, "outputTokens": 2}, "metrics": {}}, **last},
    ]
    return list(map(chunk, values))
