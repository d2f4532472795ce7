"""Scans of streamed answers: whether the stream is whole, and whether it may be stored.

A scan appends the passing bytes and does nothing else until it is asked. `whole` looks for the API's last event, which
ends an answer although upstream may hold the connection: SDKs leave at that event, before their iterator ends.
`verdict` takes the stream apart once, folds its events into the gist of their answer (Stream.gist), and leaves the rest
to the Api. So a stream and its twin in one piece are refused for the same reasons, in the same words.

A doubt is a no: a stream without its last event is incomplete, whatever it held.
"""

from __future__ import annotations

import hashlib
import json
import re

from askonce.core.providers import APIS, Api, eventstream
from askonce.core.providers.answers import GUARDRAIL, Answer, a_dict, failed, field_names, guarded
from askonce.core.providers.patterns import pattern
from askonce.core.providers.sources import carries_sources, names_sources
from askonce.core.providers.sse import Parser
from askonce.core.providers.streamed import Read, read
from askonce.core.providers.usage import Bill, bill_of_events

__all__ = ["Read", "StreamScan", "read", "stream_variant", "streams_read"]

LIMIT = 64 * 1024 * 1024  # bytes that a scan keeps; the engine's own limit is far lower


class StreamScan:
    """The scan of one stream of HTTP, fed with its bytes.

    Without an API, a stream is recognised by its events, and a stream of no API passes. `limit`: the bytes that it
    keeps. `tool_calls` and `searched` as in Policy, `given` as in Expected.
    """

    def __init__(
        self,
        api: Api | None,
        tool_calls: str = "pass",
        content_type: str = "",
        limit: int = LIMIT,
        *,
        searched: str = "pass",
        given: bool = False,
    ) -> None:
        self._api = api
        self._tool_calls = tool_calls
        self._searched = searched
        self._given = given
        self._content_type = content_type
        self._room = limit
        self._parts: list[bytes] = []
        self._found: tuple[int, Read] | None = None  # how many parts were read, and what they say
        self._names: tuple[int, set[str]] | None = None  # likewise

    def feed(self, data: bytes) -> None:
        """Append bytes, without their content-encoding."""
        self._room -= len(data)
        if self._room >= 0:
            self._parts.append(data)

    def whole(self) -> bool:
        """Whether the API's last event was seen."""
        api = self._kind()
        if self._room < 0 or api is None or api.stream is None:
            return False
        if self._is_aws():
            return api.stream.closes and not self._read().failed and api.stream.gist(self._read()) is not None
        return _ended(self.body, api.stream.last)

    def verdict(self) -> str:
        """Why it may not be stored, "" if it may, assuming that what was fed is the whole stream."""
        if self._room < 0:
            return "too-large"
        found, api = self._read(), self._kind()
        if api is None:
            return self._unknown(found)
        if found.failed:
            return "error"
        if found.garbled:
            return "not-sse" if found.framed else "incomplete"
        if not any(self._parts):
            return "empty"
        return self._judged(found, api)

    def recognised(self) -> bool:
        """Whether it is an API's stream."""
        return self._kind() is not None

    @property
    def body(self) -> bytes:
        """All bytes fed so far."""
        return b"".join(self._parts)

    @property
    def values(self) -> list[Answer]:
        """The objects in it, in order."""
        return self._read().values

    def names(self) -> set[str]:
        """The names of all fields in these objects."""
        if self._names is None or self._names[0] != len(self._parts):
            self._names = len(self._parts), field_names(self._read().values)
        return self._names[1]

    def answer(self) -> tuple[Api, Answer] | None:
        """The API and the gist of its answer; None if it is no API's, or has not ended."""
        found, api = self._read(), self._kind()
        gist = api and self._gist(found, api)
        return (api, gist) if api and gist else None

    def api(self) -> Api | None:
        """The API whose stream it is; None for any other, and for one that was too large to keep."""
        return self._kind() if self._room >= 0 else None

    def bills(self, where: str = "") -> tuple[Bill, ...]:
        """What its price depends on, also if it was cut off. `where`: the URL that it came from, or ""."""
        api = self.api()
        return () if api is None else (bill_of_events(api, self.values)._replace(where=where),)

    def usage(self) -> tuple[int, int] | None:
        """Tokens in and out; None if the stream does not say."""
        made = self.answer()
        return made[0].usage(made[1]) if made else None

    def _judged(self, found: Read, api: Api) -> str:
        gist = self._gist(found, api)
        if not gist:
            return "incomplete"
        if GUARDRAIL in self.names() and any(map(guarded, found.values)):
            return "filtered"
        reason = api.verdict(gist, self._tool_calls, self._searched, given=self._given)
        # Any event may hold sources, and a gist has only those beside the answer.
        return reason or ("searched" if self._searched != "store" and self._has_sources(found) else "")

    def _has_sources(self, found: Read) -> bool:
        return names_sources(self.names()) and any(carries_sources(one, given=self._given) for one in found.values)

    @staticmethod
    def _gist(found: Read, api: Api) -> Answer | None:
        """The gist of its answer; the answer itself if a host gave it in one piece although a stream was requested."""
        if not found.framed and len(found.values) == 1 and api.shape(found.values[0]):
            return found.values[0]
        return api.stream.gist(found) if api.stream else None

    def _unknown(self, found: Read) -> str:
        if self._api:
            return "unrecognised"
        if any(map(failed, found.values)):
            return "error"
        return "" if any(self._parts) else "empty"

    def _read(self) -> Read:
        if self._found is None or self._found[0] != len(self._parts):
            self._found = len(self._parts), self._apart()
        return self._found[1]

    def _is_aws(self) -> bool:
        return eventstream.is_one(self._content_type, b"".join(self._parts[:12])[:12])

    def _apart(self) -> Read:
        return read(b"".join(self._parts), self._content_type)

    def _kind(self) -> Api | None:
        if self._api:
            return self._api if streams_read(self._api) else None
        # The second event counts too: the first of some hosts describes their filters, in no shape.
        start = self._read().values[:2]
        return next((api for value in start for api, opens in _OPENS if opens(value)), None)


_OPENS = [(api, api.stream.opens) for api in APIS if api.stream and api.stream.http]


def _ended(body: bytes, last: tuple[bytes, ...]) -> bool:
    """Whether one of `last` begins a line, and its event was closed."""
    places = [at for mark in last if (at := body.rfind(mark)) >= 0]
    # Inside a line, an answer only mentions it: strings in JSON hold no line ends.
    return any(Parser().feed(body[at:]) for at in places if at == 0 or body[at - 1] in b"\r\n")


def streams_read(api: Api) -> bool:
    """Whether a whole stream of this API can be told from a part of one."""
    return api.stream is not None and api.stream.http


# --- the bytes of a stream that its question does not settle -----------------------------------------------------

_DEFAULTS = {"include_usage": False, "include_obfuscation": True}
_PLAIN = pattern(r"[\w=,.-]{0,64}", re.ASCII)


def stream_variant(body: Answer, api: Api | None = None, query: str = "") -> str:
    """What changes a stream's bytes and is not in its key; "" for the plain stream.

    Such as ``include_usage=true``, or ``array`` for objects instead of events; up to 64 of ``[A-Za-z0-9_=,.-]``.
    """
    options = a_dict(body.get("stream_options"))
    said = [f"{name}={_short(value)}" for name, value in sorted(options.items()) if _counts(name, value)]
    if not isinstance(asked := body.get("stream"), bool | None):
        said.append(f"stream={_short(asked)}")  # only the host knows whether "false" asks for a stream
    if api and api.stream and (form := api.stream.variant(query)):
        said.append(form)
    variant = ",".join(said)
    # Unknown options get a digest as their name.
    return variant if _PLAIN.fullmatch(variant) else hashlib.sha256(variant.encode()).hexdigest()


def _counts(name: str, value: object) -> bool:
    return value is not None and value is not _DEFAULTS.get(name)


def _short(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
