"""Finding the primary of a Sentinel service: ask the sentinels, connect to what they name, ask it for its role.

The steps are written once, as a generator of attempts. Each attempt connects to one server, sends something, and gets
the replies or the trouble. Two drivers make the attempts, one in a thread and one in an event loop. The connection of
the last attempt is the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import Report, SentinelAddress, Service, Survey
from askonce.store.redis.trouble import Refusal, unconnected

HELLO = pack(b"HELLO", b"3")
LEAST = 0.1  # s for each sentinel
Said = list[Any] | StoreTrouble


class Attempt(NamedTuple):
    """Connect to a server, send `data`, and read so many `replies`; all in `limit` s."""

    server: RedisAddress
    limit: float
    data: bytes
    replies: int


R = TypeVar("R")
Steps = Generator[Attempt, Said, R]


def search(address: SentinelAddress, epoch: int, until: float) -> Steps[int]:
    """The attempts to find the primary until then (monotonic s); StoreTrouble if it is not found.

    The result is the epoch of the connection. It is of no use if that is over.
    """
    service = address.service
    reports = service.recent(epoch) or (yield from survey(service, until)).candidates()
    while True:
        known = address.epoch.newest(reports)
        try:
            primary = yield from _first_primary(address, known, until)
        except StoreTrouble:
            service.doubt()
            raise
        if address.epoch.newest(known) is known:  # otherwise another search has found a newer one meanwhile
            return address.found(epoch, known, primary)


def _first_primary(address: SentinelAddress, reports: list[Report], until: float) -> Steps[Report]:
    """The first of these servers that says that it is a primary."""
    trouble: StoreTrouble | None = None
    for at, report in enumerate(reports):
        limit = _left(until) / (len(reports) - at)
        said = yield Attempt(address.at(report.host, report.port), limit, HELLO, 1)
        if isinstance(said, StoreTrouble):
            trouble = trouble or said  # that of the likeliest one
        elif is_primary(said[0]):
            return report
        else:
            trouble = trouble or _no_primary(report.host, report.port)
    raise trouble or unconnected(address.timeout)


def survey(service: Service, until: float) -> Steps[Survey]:
    """The attempts to ask the sentinels, and what they say."""
    asked = Survey(service)
    while not asked.settled:
        sentinel = asked.left[0]
        share = 0.0 if sentinel in service.lost else _left(until) / (len(asked.left) + 1)
        asked.hear(sentinel, (yield Attempt(sentinel, max(LEAST, share), service.question, 2)))
    if asked.ignorant is not None and not asked.reports:
        names = yield Attempt(asked.ignorant, max(LEAST, _left(until)), pack(b"SENTINEL", b"MASTERS"), 1)
        asked.hear_names(names)
    return asked


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _no_primary(host: str, port: int) -> StoreTrouble:
    said = f"the sentinels name {host}:{port}, which is no primary"
    return StoreTrouble("store-readonly", said, "connecting", "failover")


def is_primary(said: Any) -> bool:
    """Whether the reply to a HELLO is a primary's; a server that does not say is taken for one."""
    if type(said) is Refusal:
        return False
    role = said.get(b"role", said.get("role")) if isinstance(said, dict) else None
    return role not in {b"replica", b"slave", "replica", "slave"}


class Blocking(Protocol):
    """A connection that a thread uses."""

    timeout: float

    def end_by(self, until: float) -> None:
        """Make the next read or write end by then (monotonic s)."""
        ...

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send, and read the replies."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Multiplexed(Protocol):
    """A connection of an event loop."""

    def ask(self, data: bytes, count: int, until: float = 0.0) -> asyncio.Future[list[Any]]:
        """A future of the replies."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


B = TypeVar("B", bound=Blocking)
M = TypeVar("M", bound=Multiplexed)


def find(steps: Steps[R], connect: Callable[[RedisAddress, float], B]) -> tuple[B, R]:
    """Make the attempts, by a thread; the connection of the last one, and the result of the steps.

    `connect` takes a server and the seconds that it may need.
    """
    connection: B | None = None
    said: Any = None
    try:
        while True:
            attempt = steps.send(said)
            if connection is not None:
                connection.close()
                connection = None
            until = time.monotonic() + attempt.limit
            try:
                connection = connect(attempt.server, attempt.limit)
                connection.end_by(until)
                said = connection.exchange(attempt.data, attempt.replies)
            except (StoreTrouble, TimeoutError) as trouble:
                said = trouble if isinstance(trouble, StoreTrouble) else unconnected(attempt.limit)
    except StopIteration as over:
        assert connection is not None
        return connection, over.value
    except BaseException:
        if connection is not None:
            connection.close()
        raise


async def find_on_loop(steps: Steps[R], connect: Callable[[RedisAddress, float], Awaitable[M]]) -> tuple[M, R]:
    """The same by a task."""
    connection: M | None = None
    said: Any = None
    try:
        while True:
            attempt = steps.send(said)
            if connection is not None:
                connection.close()
                connection = None
            until = asyncio.get_running_loop().time() + attempt.limit
            try:
                connection = await connect(attempt.server, attempt.limit)
                said = await connection.ask(attempt.data, attempt.replies, until)
            except StoreTrouble as trouble:
                said = trouble
    except StopIteration as over:
        assert connection is not None
        return connection, over.value
    except BaseException:
        if connection is not None:
            connection.close()
        raise
