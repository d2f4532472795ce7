"""What every adapter shares. It runs in the environments of the peers, so it imports only the standard library."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

LOCK = 30  # s that a peer's lock lives, where it has a setting for that: longer than most calls take
TTL = 86_400  # s that an answer lives


class Place(NamedTuple):
    """Where a peer keeps its answers: the URL of a database of its own, and a folder of its own."""

    url: str
    folder: str


class Upstream:
    """The paid call, for peers that cache a function. `url` is the upstream's address; connections are kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._kept = threading.local()
        self._free: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    def call(self, request: Any) -> Any:
        """Pay for a request in this thread."""
        address = urlsplit(self.url)
        kept: dict[str, http.client.HTTPConnection] = self._kept.__dict__
        connection = kept.get(address.netloc)
        if connection is None:
            connection = kept[address.netloc] = http.client.HTTPConnection(address.netloc)
        connection.request("POST", f"{address.path}/chat/completions", json.dumps(request))
        return json.loads(connection.getresponse().read())

    async def acall(self, request: Any) -> Any:
        """Pay for a request in this task."""
        address = urlsplit(self.url)
        free = self._free.setdefault(address.netloc, [])
        reader, writer = free.pop() if free else await asyncio.open_connection(address.hostname, address.port)
        body = json.dumps(request).encode()
        writer.write(b"POST %b/chat/completions HTTP/1.1\r\n" % address.path.encode())
        writer.write(b"host: upstream\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        free.append((reader, writer))
        return json.loads(answer)


class Adapter:
    """A peer, opened. `ask` may be a coroutine function; what it returns is an answer in the peer's own form."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        self.place = place
        self.upstream = upstream

    def prepare(self, request: Any) -> Any:
        """What a program holds before its lookup; this is not measured."""
        return request

    def ask(self, prepared: Any) -> Any:
        """One lookup, with the paid call if there is no answer."""
        raise NotImplementedError

    def text(self, answer: Any) -> str:
        """The text of an answer; this is not measured."""
        return str(answer["choices"][0]["message"]["content"])


def key(request: Any) -> str:
    """The key of a request, for peers that leave this to the program: the fastest way known, which favours them."""
    import orjson

    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
