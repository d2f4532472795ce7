"""Requests that come again, answered as soon as their bytes are here: without parsing, a task, or a wait.

Clients send the same head again and again, byte for byte. All that a head says is worked out once: its upstream, the
plan, the credential. What may change is decided for each request as for any other: whether the credential is still
good, whether the entry is still valid and fresh. A request whose answer is not at hand, or about which anything is
unusual, goes the usual way, which decides anew.

A head is kept when a stored answer was given to it for the second time. So heads that differ in each request take no
room, and what was refused or never stored is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from askonce.core.memo import Memo
from askonce.events import log
from askonce.gateway.gateway_rules import HeadPlan
from askonce.gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from askonce.gateway.transport import GatewayTransport
    from askonce.gateway.wire import Request

HEAD = "askonce.head"  # in a scope: the head of the request as it came, if it came in one piece
HEADS, PIECE = 4096, 4000  # heads kept, and the bytes that one of them costs beside itself
ONCE = 4096  # heads remembered as met once
LARGEST = 8192  # bytes of a head that is kept
_PLAIN_CONNECTION = (b"keep-alive",)
# What says more about a request than its head and the length of its body do.
_SPECIAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings"})


Place = tuple[bytes, "str | None"]  # a head, and from which address it came if that counts


class Known(NamedTuple):
    """What is known of a head: the length of the body behind it, and what it stands for."""

    length: int
    head_plan: HeadPlan
    transport: GatewayTransport


class Repeated:
    """The heads that are known under one configuration. `by_peer`: whether it counts from where they come.

    `used`: whether answers can be at hand at all.
    """

    def __init__(self, *, used: bool, by_peer: bool) -> None:
        self.used = used
        self._by_peer = by_peer
        self._known: Memo[Place, Known] = Memo(HEADS, PIECE)
        self._once: set[int] = set()

    def answer(self, head: bytes, body: bytes, peer: str | None) -> bytes | None:
        """All of the answer to a request, as HTTP/1.1 has it; None if it has to go the usual way."""
        known = self._known.get((head, peer if self._by_peer else None))
        if known is None or known.length != len(body):
            return None
        asked = known.head_plan.rules.again(known.head_plan, body)
        return None if asked is None else known.transport.at_hand(asked)

    def expected(self, head: bytes, peer: str | None) -> int:
        """The length of the body behind a head; -1 if the head is not known."""
        known = self._known.get((head, peer if self._by_peer else None))
        return -1 if known is None else known.length

    def note(self, scope: Mapping[str, Any], request: Request, transport: GatewayTransport) -> None:
        """Note a request that got a stored answer."""
        head: bytes = scope.get(HEAD, b"")
        body = request.body
        if not 0 < len(head) <= LARGEST or body is None or not self._met_before(head):
            return
        client = scope.get("client")
        place = head, client[0] if client and self._by_peer else None
        known = self._known.get(place)
        if known is not None and known.head_plan.rules.again(known.head_plan, body) is not None:
            return  # only its answer was not at hand
        length = length_behind(head, scope)
        head_plan = None if length is None else transport.head_plan(request)
        if length is not None and head_plan is not None:
            self._known.keep(place, Known(length, head_plan, transport), len(head))

    def _met_before(self, head: bytes) -> bool:
        name = hash(head)
        if name in self._once:
            return True
        if len(self._once) >= ONCE:
            self._once.clear()
        self._once.add(name)
        return False


def length_behind(head: bytes, scope: Mapping[str, Any]) -> int | None:
    """The length of the body behind a head; None if these bytes may say anything else to anybody, or end a connection.

    `scope`: how the head was read. Its lines are counted, so that nothing can hide in it.
    """
    if scope["http_version"] != "1.1" or not head.startswith(b"%b " % scope["method"].encode()):
        return None
    lines = head.count(b"\r\n")
    if lines != len(scope["headers"]) + 2 or not head.count(b"\n") == head.count(b"\r") == lines:
        return None
    lengths = []
    for name, value in scope["headers"]:
        if name in _SPECIAL or (name == b"connection" and value.lower() not in _PLAIN_CONNECTION):
            return None
        if name == b"content-length":
            lengths.append(value)
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None


class Answering(Protocol):
    """A gateway, as far as it answers requests that come again."""

    telemetry: Telemetry

    @property
    def repeated(self) -> Repeated | None:
        """The heads that are known now."""
        ...


class AtHand:
    """What a server asks before it parses a request: see gateway.protocol."""

    def __init__(self, gateway: Answering) -> None:
        self._gateway = gateway

    def answer(self, head: bytes, body: bytes, peer: str | None) -> bytes | None:
        """All of the answer to a request, as HTTP/1.1 has it; None if it has to go the usual way."""
        repeated = self._known
        try:
            return None if repeated is None else repeated.answer(head, body, peer)
        except Exception as error:  # noqa: BLE001 - the usual way meets it too, and says so to whom it concerns
            log.debug("a request was not answered at once", exc_info=error)
            return None

    def expected(self, head: bytes, peer: str | None) -> int:
        """The length of the body behind a head that is known; -1 for any other head."""
        repeated = self._known
        return -1 if repeated is None else repeated.expected(head, peer)

    @property
    def _known(self) -> Repeated | None:
        repeated = self._gateway.repeated
        # What is logged goes through what writes its line.
        return None if repeated is None or not repeated.used or self._gateway.telemetry.writes else repeated
