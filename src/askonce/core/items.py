"""Scans of streams of items: what an iterator gave, one JSON value after another, judged like a stream of HTTP.

Items are the chunks or events of a protocol as dicts; the same as its SDK or a framework wraps them; lines of a stream
as texts; or whatever the user makes of them. What is no protocol's is whole when its iterator ended, unless an item
names an ending that is not a good one, calls a tool or is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from askonce.core import bounded
from askonce.core.answers import Answer, a_dict, dicts, reason_of
from askonce.core.gists import KINDS, Kind
from askonce.core.parts import ENDINGS, answers_in, parts_of, telling
from askonce.core.providers import PROTOCOLS
from askonce.core.scan import StreamScan
from askonce.core.streamed import Read, read

LINES = 64  # at the start of texts, among which a line of an event stands, if they are lines of a stream
LOOKED_AT = 8  # items at the start of a stream, among which its protocol shows


class ItemScan(StreamScan):
    """The scan of a stream of items, each fed as JSON. It ends where its iterator does."""

    def __init__(self, tool_calls: str = "pass", *, searched: str = "pass", given: bool = False) -> None:
        super().__init__(None, tool_calls, searched=searched, given=given)
        self._items: tuple[int, list[Any]] = (0, [])  # and of how many parts

    def whole(self) -> bool:
        """Never before the end: there is no mark by which to know it."""
        return False

    def verdict(self) -> str:
        """Why it may not be stored, "" if it may."""
        # Most streams of a user's own items hold nothing that would have to be taken apart.
        body = self.body
        plain = body.strip(_BLANK) and not any(sign in body for sign in _SIGNS)
        return "" if plain else super().verdict()

    @property
    def items(self) -> list[Any]:
        """The items, in order."""
        if self._items[0] != len(self._parts):
            body = b"[%b]" % b",".join(self._parts)
            self._items = len(self._parts), [] if bounded.flooded(body) else orjson.loads(body)
        return self._items[1]

    def _apart(self) -> Read:
        items = self.items
        if not items and self._parts:
            return Read([], garbled=True, framed=False)
        if all(isinstance(item, str) for item in items):
            return _lines(items)
        opened = [_unwrapped(item) for item in items if isinstance(item, dict)]
        values = [item for item in opened if isinstance(item, dict)]
        return Read(values, done="[DONE]" in opened, failed=any(map(_is_error, values)), framed=False)

    def _kind(self) -> Kind | None:
        start = self._read().values[:LOOKED_AT]
        return next((kind for value in start for kind, opens in _KINDS if opens(value)), None)

    def _unknown(self, found: Read) -> str:
        if reason := super()._unknown(found):
            return reason
        if all(isinstance(item, str) and not item.strip() for item in self.items):
            return "empty"
        if any(map(_is_exception, found.values)):
            return "error"
        reasons = (self._of(value) for value in found.values if telling(value))
        # One item may well say nothing.
        return next((reason for reason in reasons if reason not in ("", "empty")), "") or _unended(found.values)

    def _of(self, value: Answer) -> str:
        """Why this item, or what stands in it, may not be kept."""
        how = self._tool_calls, self._searched
        whole, parts = [], []
        for one, protocol in answers_in(value):
            whole += [protocol.verdict(one, *how, given=self._given)] if protocol else []
            parts += [] if protocol else parts_of(one)
        return next(filter(None, [*whole, *(reason_of(part, *how) for part in parts)]), "")


_BLANK = b'" \\nrt'  # what blank texts are made of in JSON
# Some bytes of whatever may say more than that something was said: what parts.telling looks for, errors, lines.
_SIGNS = (
    *(b'"error', b"inish", b"top_reason", b"topReason", b"one_reason", b"letionReason", b'"role"', b'"type"', b'"lc"'),
    *(b'"kind"', b"esponse_id", b'"function', b'"toolUse"', b'"parts"', b'"content', b'"message', b'"choices"'),
    *(b'"candidates"', b"sage_meta", b"sageMeta", b'"object"', b'"data"', b'"output"', b"eedback", b'"event"'),
    *(
        b"ounding",
        b"etrieved",
        b"earchQuer",
        b"ontext_meta",
        b"ontextMeta",
        b'"done"',
        b'"metadata"',
        b"xception",
        b"data:",
        b"event:",
        b'"{',
    ),
)


def _unended(values: list[Answer]) -> str:
    """``incomplete`` where items have a place for an ending, and none of them fills it."""
    named = {name for value in values for name in ENDINGS if name in value}
    return "incomplete" if named and not any(value.get(name) for value in values for name in named) else ""


# --- what items may come in --------------------------------------------------------------------------------------


def _lines(items: list[str]) -> Read:
    """Texts: the lines of a stream, or pieces of it; else what was said, of which nothing can be told."""
    starts = [item.lstrip()[:6] for item in items[:LINES]]
    framed = any(start.startswith(("data:", "event:")) for start in starts)
    if not framed and not any(start.startswith("{") for start in starts):
        return Read([], framed=False)
    apart = "" if any(item.endswith(("\n", "\r")) for item in items) else "\n"
    body = (apart.join(items) + apart + apart).encode("utf-8", "surrogatepass")
    found = read(body, "text/event-stream" if framed else "")
    return found if found.values else Read([], framed=False)


def _unwrapped(item: Answer) -> Any:
    """An event out of what a client wraps it in: its name and data, OpenAI's helpers, and their agents'."""
    kind, data = item.get("type"), item.get("data")
    if kind == "chunk" and isinstance(item.get("chunk"), dict):
        return item["chunk"]
    if kind == "raw_response_event" and isinstance(data, dict):
        return data
    if "event" not in item or data is None or len(item) > 4:
        return item
    if not isinstance(data, str):
        return data
    try:
        return bounded.loads(data)
    except ValueError:
        return data.strip()


def _is_error(value: Answer) -> bool:
    return bool(value.get("error")) or value.get("type") == "error" or _is_exception(value)


def _is_exception(value: Answer) -> bool:
    """Bedrock's errors are named: throttlingException, modelStreamErrorException, ..."""
    return len(value) == 1 and all(name.endswith("Exception") and "message" in a_dict(value[name]) for name in value)


# --- protocols that are not streamed to HTTP clients, as far as we read them -------------------------------------


def _cohere(found: Read) -> Answer | None:
    """Cohere's events: the text of each, and an end with its reason."""
    ends = [a_dict(value.get("delta")) for value in found.values if value.get("type") == "message-end"]
    if not ends:
        return None
    said = [a_dict(a_dict(value.get("delta")).get("message")) for value in found.values]
    texts = [a_dict(message.get("content")).get("text") for message in said]
    calls = sum(value.get("type") == "tool-call-start" for value in found.values)
    message = {"content": "".join(text for text in texts if isinstance(text, str)), "tool_calls": [{}] * calls}
    return {"message": message, "finish_reason": "error" if ends[-1].get("error") else ends[-1].get("finish_reason")}


def _ollama(found: Read) -> Answer | None:
    """Ollama's lines: a piece of the message each, or of the response, and the last one done."""
    last = next((value for value in reversed(found.values) if value.get("done")), None)
    if last is None:
        return None
    said = [a_dict(value.get("message")) for value in found.values]
    texts = [value.get("response", message.get("content")) for value, message in zip(found.values, said, strict=True)]
    calls = [call for message in said for call in dicts(message.get("tool_calls"))]
    message = {"content": "".join(text for text in texts if isinstance(text, str)), "tool_calls": calls}
    ended = last.get("done_reason", "stop")
    return {"model": "", "done": True, "done_reason": ended, "message": message}


def _typed(*starts: str) -> Callable[[Answer], bool]:
    return lambda value: isinstance(value.get("type"), str) and value["type"].startswith(starts)


_ROWS = {protocol.name: protocol for protocol in PROTOCOLS}
# How an event of each shows, be it the first or not: an iterator may leave some out.
_SHOWS: dict[str, Callable[[Answer], bool]] = {
    "chat": KINDS["chat"].opens,
    "completions": KINDS["completions"].opens,
    "responses": _typed("response.created", "response.output_", "response.completed", "response.in_progress"),
    "messages": _typed("message_start", "message_delta", "content_block_"),
    "converse": lambda value: any(name in value for name in ("messageStart", "contentBlockDelta", "messageStop")),
    "gemini": lambda value: KINDS["gemini"].opens(value) or bool(dicts(value.get("candidates"))),
}
_MORE = (
    (Kind(_ROWS["message"], _cohere, (), _typed("message-start", "content-delta")), _typed("message-", "content-")),
    (
        Kind(_ROWS["message"], _ollama, (), lambda v: {"model", "done"} <= v.keys()),
        lambda v: {"model", "done"} <= v.keys() and not {"message", "response"}.isdisjoint(v),
    ),
)
_KINDS: tuple[tuple[Kind, Callable[[Answer], bool]], ...] = (
    *((KINDS[name], shows) for name, shows in _SHOWS.items()),
    *_MORE,
)
