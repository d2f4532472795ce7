"""A BodyMemo keeps what was worked out of requests, by their bodies.

Finding a request again is cheaper than parsing, judging and hashing it. Many are kept by the digests of their bodies.
The few that come again and again are kept by their bodies too, which are found in a tenth of the time of a digest.
"""

from __future__ import annotations

from itertools import count
from typing import Generic, TypeVar

from askonce.core.memo import Memo

MANY, PIECE = 16_384, 400  # requests kept by their digests, and the bytes that one of them costs
FEW, LARGEST = 512, 8192  # requests kept by their bodies, and the largest body of one, in bytes
SAMPLE = 13  # one byte of so many is looked at before two bodies are compared
PROMOTED = 8  # one request of so many that are found by their digests is kept by its body

V = TypeVar("V")


class BodyMemo(Generic[V]):
    """Values by body. All memos of a process share one budget of bytes (core.memo)."""

    __slots__ = ("_by_body", "_by_digest", "_found")

    def __init__(self) -> None:
        self._by_digest: Memo[bytes, V] = Memo(MANY, PIECE)
        self._by_body: Memo[bytes, tuple[bytes, V]] = Memo(FEW)
        self._found = count()

    def recent(self, body: bytes) -> V | None:
        """The value that was kept by its body."""
        # Found by a sample, and then compared whole: hashing all of 2 KB takes five times as long.
        kept = self._by_body.get(body[::SAMPLE])
        return kept[1] if kept is not None and kept[0] == body else None

    def again(self, digest: bytes, body: bytes) -> V | None:
        """The value that was kept by its digest; one of several is then kept by its body too.

        So one that is asked often soon is, and many different ones in turn do not displace each other.
        """
        value = self._by_digest.get(digest)
        if value is not None and not next(self._found) % PROMOTED:
            self._keep(body, value)
        return value

    def keep(self, digest: bytes, body: bytes, value: V) -> None:
        """Keep a value that was worked out."""
        self._by_digest.keep(digest, value, len(digest))
        if len(self._by_body) < FEW:
            self._keep(body, value)

    def _keep(self, body: bytes, value: V) -> None:
        if len(body) <= LARGEST:
            # A copy: orjson's result keeps its whole write buffer alive, 64 KB for a body of 7 bytes.
            self._by_body.keep(body[::SAMPLE], (bytes(memoryview(body)), value), len(body))
