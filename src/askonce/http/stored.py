"""What a store gave, read as an answer of HTTP. What no SDK could read is no answer, whatever its checksum says.

A hit returns bytes without reading them. So each entry is checked once, when this process first meets it: JSON must be
JSON, a stream must have its end, a vector must stand in a frame. Later its fill id is proof enough.
"""

from __future__ import annotations

from functools import lru_cache

import orjson

from askonce.core.judge import Judge
from askonce.core.model import Head
from askonce.core.policy import Policy, resolve
from askonce.core.providers import Api
from askonce.engine.reader import Found, Unreadable
from askonce.http.response import Failure, Response, read_head, unpack
from askonce.stream.tape import Playback

SOUND = 4096  # fill ids of checked entries
ALL = resolve(Policy(tool_calls="store", searched="store"))
_NONE = frozenset({"incomplete", "not-sse", "empty"})  # verdicts on a stream of no API


class Stored:
    """Reads the entries of one client, whose answers `judges` let into the store."""

    def __init__(self, judges: type[Judge]) -> None:
        self._judges = judges
        self._sound: set[bytes] = set()

    def answer(self, found: Found) -> Response | Failure:
        """An answer in one piece; Unreadable if no SDK could read it."""
        assert found.body is not None
        return self.read(found.body, found.head)

    def read(self, body: bytes | memoryview, head: Head | None) -> Response | Failure:
        """The body of an entry with this head, or (None) what was shared; Unreadable if it is no answer."""
        try:
            made = unpack(body)
        except ValueError as wrong:
            raise Unreadable from wrong
        if head is not None and head.fill not in self._sound:
            if not _readable(made):
                raise Unreadable
            self._vouch(head.fill)
        return made

    def opening(self, found: Found, api: Api) -> Response | Failure:
        """The start of a stream; Unreadable if no SDK could read it."""
        assert isinstance(found.value, Playback)
        try:
            head = read_head(found.value.meta)
        except ValueError as wrong:
            raise Unreadable from wrong
        if found.head is not None and found.head.fill not in self._sound:
            if not isinstance(head, Response) or not _whole(head, found.value.tape.said(), api, self._judges):
                raise Unreadable
            self._vouch(found.head.fill)
        return head

    def _vouch(self, fill: bytes) -> None:
        if len(self._sound) >= SOUND:
            self._sound.clear()
        self._sound.add(fill)


def _readable(made: Response | Failure) -> bool:
    if isinstance(made, Failure):
        return False  # shared answers are never stored
    if made.frame is not None:
        # Not parsed: a vector has a thousand numbers, and a batch a hundred vectors.
        return made.body[:1] == b"{" and made.body[-1:] == b"}" and _frames(made.frame.before, made.frame.after)
    return made.status != 200 or _is_json(made.body)


@lru_cache(maxsize=256)
def _frames(before: str, after: str) -> bool:
    try:
        return isinstance(orjson.loads(before + after), dict)
    except ValueError:
        return False


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except ValueError:
        return False
    return True


def _whole(head: Response, parts: list[bytes], api: Api, judges: type[Judge]) -> bool:
    if head.status != 200:
        return True
    kind = next((value.decode("latin-1") for name, value in head.headers if name.lower() == b"content-type"), "")
    scan = judges(ALL, api=api).stream(kind)
    for part in parts:
        scan.feed(part)
    return scan.verdict(0.0).reason not in _NONE
