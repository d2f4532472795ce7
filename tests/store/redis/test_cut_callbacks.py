"""An exception in any callback of the async connection: no reply reaches another caller, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from askonce.store import StoreTrouble
from askonce.store.redis.async_wire import AsyncWire
from askonce.testing.servers import Server
from tests.injection.inject import INJECTS, Injection, noting, raising
from tests.store.puppet import Puppet, address, filled, get, reply
from tests.took import Took

pytestmark = [
    pytest.mark.servers,
    pytest.mark.concurrency,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    *INJECTS,
]

ERRORS = (KeyboardInterrupt, asyncio.CancelledError, MemoryError)
TIMEOUT = 0.1  # s
LONG = 2.0  # s after which a caller counts as waiting for ever
Loop = asyncio.AbstractEventLoop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that may be left by an exception, and run again."""
    made = asyncio.new_event_loop()
    made.set_exception_handler(lambda *_: None)  # asyncio's report of a callback that raised
    yield made
    made.close()


@pytest.fixture
def wire(valkey: Server) -> AsyncWire:
    filled(valkey)
    return AsyncWire(address(valkey, TIMEOUT))


async def fetched(wire: AsyncWire, name: str) -> Any:
    (said,) = await wire.ask(get(name), 1)
    return said


async def ended(tasks: list[asyncio.Task[Any]]) -> None:
    _, waiting = await asyncio.wait(tasks, timeout=LONG)
    assert not waiting, "a caller waits for ever"


def asked(loop: Loop, wire: AsyncWire, injection: Injection | None = None) -> None:
    """Some ask at once, and the sweep comes after them; the loop is run again where it was left."""
    tasks = [loop.create_task(fetched(wire, f"n{number}")) for number in range(4)]
    try:
        loop.run_until_complete(ended(tasks))
        if injection is None or not injection.done:
            loop.run_until_complete(asyncio.sleep(2 * TIMEOUT))
    except ERRORS:
        loop.run_until_complete(ended(tasks))
    for number, task in enumerate(tasks):
        wrong = (asyncio.CancelledError, MemoryError, KeyboardInterrupt, StoreTrouble)
        if not task.cancelled() and not isinstance(task.exception(), wrong):
            assert task.result() == b"value of n%d" % number


def test_an_exception_at_any_point_shifts_no_reply_and_leaves_nobody_waiting(loop: Loop, wire: AsyncWire):
    asked(loop, wire)  # connected
    with noting(2) as points:
        asked(loop, wire)
    assert len(points) > 60
    slow = []
    for number, point in enumerate(points):
        with raising(point, ERRORS[number % 3]) as injection:
            asked(loop, wire, injection)
        took = Took()
        for name in ("n7", "n8"):
            assert loop.run_until_complete(asyncio.wait_for(fetched(wire, name), LONG)) == b"value of " + name.encode()
        if took.seconds > 3 * TIMEOUT:
            slow.append(str(point))
    loop.run_until_complete(wire.close())
    assert len(slow) < 3, slow  # more than one: not the machine


def test_what_a_caller_gave_up_before_it_was_sent_is_not_sent():
    seen: list[bytes] = []

    def act(connection: socket.socket, command: list[bytes]) -> None:
        seen.append(command[1])
        connection.sendall(reply(command[1].decode()))

    async def given_up(wire: AsyncWire) -> None:
        assert await fetched(wire, "n0") == b"n0"
        task = asyncio.create_task(fetched(wire, "n1"))
        await asyncio.sleep(0)  # asked, and written in the next turn
        task.cancel()
        assert await fetched(wire, "n2") == b"n2"
        await wire.close()

    with Puppet(act) as puppet:
        asyncio.run(given_up(AsyncWire(address(puppet))))
    assert seen == [b"n0", b"n2"]
