"""Scans of streams of items: the values of an iterator, each as JSON, judged like a stream of HTTP.

Items are an API's chunks or events as dicts, the same as wrapped by an SDK or a framework, lines of a stream as texts,
or anything that the user makes of them. A stream of no API is whole when its iterator ends, unless an item names a bad
ending, calls a tool or is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from askonce.core.providers import APIS, Api, bounded
from askonce.core.providers.answers import ENDINGS, Answer, a_dict, reason_of
from askonce.core.providers.parts import SIGNS, answers_in, parts_of, telling
from askonce.core.providers.scan import StreamScan
from askonce.core.providers.streamed import Read, read

LINES = 64  # texts at the start; if texts are lines of a stream, one of these is a line of an event
LOOKED_AT = 8  # items at the start, of which one shows the API


class ItemScan(StreamScan):
    """The scan of a stream of items, each fed as JSON. It ends with its iterator."""

    def __init__(self, tool_calls: str = "pass", *, searched: str = "pass", given: bool = False) -> None:
        super().__init__(None, tool_calls, searched=searched, given=given)
        self._items: tuple[int, list[Any]] = (0, [])  # how many parts were read, and the items in them

    def whole(self) -> bool:
        """Always False: no item marks the end."""
        return False

    def verdict(self) -> str:
        """Why it may not be stored, "" if it may."""
        # Most streams of a user's own items hold nothing to be taken apart.
        body = self.body
        plain = body.strip(_BLANK) and not any(sign in body for sign in TELLING)
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

    def _kind(self) -> Api | None:
        start = self._read().values[:LOOKED_AT]
        return next((api for value in start for api, shows in _SHOWS if shows(value)), None)

    def _unknown(self, found: Read) -> str:
        if reason := super()._unknown(found):
            return reason
        if all(isinstance(item, str) and not item.strip() for item in self.items):
            return "empty"
        if any(map(_is_exception, found.values)):
            return "error"
        reasons = (self._item_reason(value) for value in found.values if telling(value))
        # A single item may say nothing.
        return next((reason for reason in reasons if reason not in ("", "empty")), "") or _unended(found.values)

    def _item_reason(self, value: Answer) -> str:
        """Why this item, or anything inside it, may not be stored."""
        how = self._tool_calls, self._searched
        whole, parts = [], []
        for one, api in answers_in(value):
            whole += [api.verdict(one, *how, given=self._given)] if api else []
            parts += [] if api else parts_of(one)
        return next(filter(None, [*whole, *(reason_of(part, *how) for part in parts)]), "")


_BLANK = b'" \\nrt'  # all that blank texts consist of in JSON
_SHOWS = [(api, api.stream.shows or api.stream.opens) for api in APIS if api.stream]


def _in_json(names: Iterable[str]) -> Iterator[bytes]:
    """Byte patterns that find these field names in JSON; a common prefix, or a stem, finds several."""
    left = [name for name in sorted(names) if not any(stem in name.encode() for stem in _STEMS)]
    firsts = [name for name in left if not any(name.startswith(other) for other in left if other != name)]
    for name in firsts:
        alone = all(other == name or not other.startswith(name) for other in left)
        yield f'"{name}"'.encode() if alone else f'"{name}'.encode()


# Bytes of everything that may say more than a text: what parts.telling looks for, errors, lines.
_STEMS = (b"ounding", b"etrieved", b"earchQuer", b"ontext_meta", b"ontextMeta", b"inish", b"eedback", b"sage_meta")
TELLING = (
    *_in_json(SIGNS.union(*(api.stream.signs for api in APIS if api.stream))),
    *(*_STEMS, b'"error', b'"event"', b"xception", b"data:", b"event:", b'"{'),
)


def _unended(values: list[Answer]) -> str:
    """``incomplete`` if items have a field for an ending and none fills it."""
    named = {name for value in values for name in ENDINGS if name in value}
    return "incomplete" if named and not any(value.get(name) for value in values for name in named) else ""


# --- what items may come in --------------------------------------------------------------------------------------


def _lines(items: list[str]) -> Read:
    """Texts as lines of a stream, or pieces of it; otherwise as plain texts, which show nothing."""
    starts = [item.lstrip()[:6] for item in items[:LINES]]
    framed = any(start.startswith(("data:", "event:")) for start in starts)
    if not framed and not any(start.startswith("{") for start in starts):
        return Read([], framed=False)
    apart = "" if any(item.endswith(("\n", "\r")) for item in items) else "\n"
    body = (apart.join(items) + apart + apart).encode("utf-8", "surrogatepass")
    found = read(body, "text/event-stream" if framed else "")
    return found if found.values else Read([], framed=False)


def _unwrapped(item: Answer) -> Any:
    """The event inside what a client wraps it in: its name and data, or a helper of an SDK or agent library."""
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
    """Whether a field names an exception: throttlingException, modelStreamErrorException, ..."""
    return len(value) == 1 and all(name.endswith("Exception") and "message" in a_dict(value[name]) for name in value)
