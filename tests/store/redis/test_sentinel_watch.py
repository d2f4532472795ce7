"""What the sentinels announce, and whoever was connecting, asking or silent meanwhile: each schedule is forced."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from askonce.store import StoreTrouble
from askonce.store.redis import asking, connecting, multiplexed, sentinel, watch
from askonce.store.redis import link as links
from askonce.store.redis.asking import Attempt, search
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import Connection
from askonce.store.redis.multiplexed import open_multiplexed
from askonce.store.redis.sentinel import Report, SentinelAddress
from askonce.testing.servers import Server
from tests.store.puppet import until
from tests.store.redis.told import address_of, at, opened, patient, told

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
LONG = 60.0  # s that no test waits


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentinel, "RECENT", 0.0)  # each connection asks
    monkeypatch.setattr(watch, "LOOK", 0.02)


def to(url: str) -> SentinelAddress:
    return address_of(opened(url))


@contextlib.contextmanager
def connected(address: SentinelAddress) -> Iterator[Connection]:
    connection = open_connection(address)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def listening() -> Callable[[], bool]:
    """Whether a thread listens to sentinels that did not before this test."""
    before = set(threading.enumerate())
    return lambda: any(one.name == "askonce-sentinel" for one in set(threading.enumerate()) - before)


# --- which sentinels are asked last -------------------------------------------------------------------------------


@pytest.mark.servers
@MODES
def test_a_silent_sentinel_that_can_be_reached_counts_as_lost_until_it_answers(pair, mode: str, monkeypatch):
    patient(monkeypatch, 2.0)  # a part of it is spent on the silent one
    for name in ("ASK", "AGAIN"):
        monkeypatch.setattr(watch, name, 0.05)
    with told("silent", at(pair[0]), at(pair[0])) as (url, (silent, *_)):
        address = to(url)
        (first,) = [one for one in address.service.sentinels if one.place == silent.place]

        async def over() -> None:
            connection = await open_multiplexed(address)
            await asyncio.to_thread(meanwhile)
            connection.close()

        def meanwhile() -> None:
            until(lambda: len(silent.listeners) >= 3)  # the thread that listens has connected, again and again
            assert first in address.service.lost
            silent.says = at(pair[0])
            until(lambda: first not in address.service.lost)

        if mode == "async":
            asyncio.run(over())
        else:
            with connected(address):
                meanwhile()


# --- who hears what -----------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_silent_sentinel_does_not_keep_the_thread_from_hearing_the_others(pair, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as mute, told(at(pair[0])) as (url, (speaking,)):
        address = to(url.replace("//", f"//127.0.0.1:{mute.getsockname()[1]},"))
        (first,) = [one for one in address.service.sentinels if one.place != speaking.place]
        address.service.lose(first)
        with connected(address) as connection:
            first.connect_timeout = LONG
            until(lambda: speaking.listeners)
            speaking.listeners.clear()
            speaking.connections[-1].shutdown(socket.SHUT_RDWR)
            until(lambda: speaking.listeners)
            speaking.announce("+switch-master", "s 127.0.0.1 1 127.0.0.1 2")
            until(lambda: address.epoch.number > connection.epoch)


@pytest.mark.servers
def test_a_thread_that_begins_again_connects_at_once(pair, listening, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN", LONG)
    with told(at(pair[0])) as (url, (only,)):
        address = to(url)
        for turn in range(2):
            with connected(address):
                until(lambda turn=turn: len(only.listeners) == turn + 1)
            until(lambda: not listening())


@pytest.mark.servers
@MODES
@pytest.mark.parametrize("closed", [True, False])
def test_each_store_of_a_process_is_warned_whichever_came_first(
    pair, valkey: Server, closed: bool, mode: str, listening, monkeypatch
):
    """Nothing is announced: the answer to a question tells."""
    monkeypatch.setattr(watch, "ASK", 0.05)
    with told(at(pair[0])) as (url, (only,)), contextlib.ExitStack() as stack:
        first, second = to(url), to(url)
        earlier = open_connection(first)
        stack.callback(earlier.close)
        until(lambda: only.listeners)
        only.announce("+switch-master", "s 127.0.0.1 1 127.0.0.1 2")
        until(lambda: first.epoch.number > earlier.epoch)
        if closed:
            earlier.close()
            until(lambda: not listening())

        async def over() -> int:
            connection = await open_multiplexed(second)
            await asyncio.to_thread(meanwhile, connection)
            connection.close()
            return connection.epoch

        def meanwhile(connection: Any) -> None:
            only.says = at(valkey, 2)
            until(lambda: second.epoch.number > connection.epoch)

        if mode == "async":
            asyncio.run(over())
        else:
            meanwhile(stack.enter_context(connected(second)))
        assert stack.enter_context(connected(second)).sock.getpeername()[1] == valkey.port


@pytest.mark.servers
def test_the_thread_has_the_credentials_of_the_newest_store(pair, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN", 0.05)
    with told(at(pair[0])) as (url, (only,)), contextlib.ExitStack() as stack:
        for turn, word in enumerate(("older", "newer")):
            only.password = word
            stack.enter_context(connected(to(f"{url}&sentinel_password={word}")))
            if only.listeners:
                with contextlib.suppress(OSError):  # it has left already
                    only.listeners[-1].shutdown(socket.SHUT_RDWR)
            until(lambda turn=turn: len(only.listeners) > turn)


@pytest.mark.servers
def test_replies_that_come_late_and_together_are_told_apart(pair):
    with told(at(pair[0])) as (url, (only,)):
        address = to(url)
        service = address.service
        listener = watch._Listener(address.epoch, open_connection)
        heard = watch._Heard(open_connection(service.sentinels[0]))
        only.together = 3
        for left in (1, 0):
            heard.ask(service.question)
            if left:
                heard.ask(service.question)
            until(lambda: only.asked % 2 == 0 and only.asked >= 4)
            select.select([heard.connection.sock], [], [])
            listener._tend("", heard, [service], readable=True)
            assert len(heard.replies) == left
        heard.connection.close()
        listener.close()


@pytest.mark.servers
def test_a_sentinel_that_hangs_up_as_it_is_subscribed_to_leaves_no_socket_open(pair, monkeypatch):
    monkeypatch.setattr(watch, "AGAIN", 0.02)
    made: list[Connection] = []

    class Deaf(watch._Heard):
        def ask(self, question: bytes) -> None:
            made.append(self.connection)
            raise BrokenPipeError

    monkeypatch.setattr(watch, "_Heard", Deaf)
    with told(at(pair[0])) as (url, _), connected(to(url)):
        until(lambda: len(made) >= 3)
    until(lambda: all(one.closed for one in made))


# --- what is connecting while the primary is replaced -------------------------------------------------------------


@pytest.mark.servers
@MODES
def test_a_connection_that_is_made_while_the_primary_is_replaced_leads_to_the_new_one(
    pair, valkey: Server, mode: str, monkeypatch
):
    with told(at(pair[0], 1)) as (url, (only,)):
        address = to(url)

        def replaced() -> None:
            if only.says != at(valkey, 2):
                only.says = at(valkey, 2)
                address.epoch.end()  # as when it is announced

        if mode == "sync":
            find = asking.find

            def finding_here(*both: Any) -> Any:
                made = find(*both)
                replaced()
                return made

            monkeypatch.setattr(connecting, "find", finding_here)
            with connected(address) as connection:
                assert connection.sock.getpeername()[1] == valkey.port
                assert connection.epoch == address.epoch.number
        else:
            find_on_loop = asking.find_on_loop

            async def finding(*both: Any) -> Any:
                made = await find_on_loop(*both)
                replaced()
                return made

            monkeypatch.setattr(multiplexed, "find_on_loop", finding)
            asyncio.run(leads_to(address, valkey.port))


async def leads_to(address: SentinelAddress, port: int) -> None:
    connection = await open_multiplexed(address)
    assert connection._transport.get_extra_info("peername")[1] == port
    assert connection.epoch == address.epoch.number
    connection.close()


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["single", "sentinel"])
def test_a_link_that_connects_while_an_epoch_ends_does_not_wait_on_that_connection(pair, kind: str, monkeypatch):
    with told(at(pair[0])) as (url, _):
        link = opened(url if kind == "sentinel" else pair[0].url).link()
        assert isinstance(link, links.RedisLink)
        made: list[Connection] = []

        def opening(address: Any) -> Connection:
            made.append(open_connection(address))
            if len(made) == 1:
                address.epoch.end()  # it wakes the link only if that has a connection
            return made[-1]

        monkeypatch.setattr(links, "open_connection", opening)
        assert link.begin_poll() > 0
        assert [one.closed for one in made] == [True, False]
        link.close()


# --- epochs -------------------------------------------------------------------------------------------------------


def named(report: Report) -> list[Any]:
    """What a sentinel replies."""
    host, port = report.host.encode(), str(report.port).encode()
    return [
        [host, port],
        {b"ip": host, b"port": port, b"flags": b"master", b"config-epoch": str(report.epoch).encode()},
    ]


PRIMARY = [{b"role": b"master"}]
REFUSED = StoreTrouble("store-refused", "nobody there")


class Search:
    """One search, step by step. `heard` is what it heard; it has connected when `ends`."""

    def __init__(self, address: SentinelAddress, heard: list[Report]) -> None:
        self.began = address.epoch.number
        self._steps = search(address, self.began, time.monotonic() + LONG)
        attempt = next(self._steps)
        for report in heard:
            attempt = self._steps.send(named(report))
        self.tries: Attempt = attempt

    @property
    def port(self) -> int:
        return self.tries.server.port

    def refused(self) -> None:
        self.tries = self._steps.send(REFUSED)

    def connects(self) -> None:
        """It reaches a primary, and goes on."""
        self.tries = self._steps.send(PRIMARY)

    def ends(self) -> int:
        """The epoch of its connection."""
        while True:
            try:
                self.connects()
            except StopIteration as over:
                return int(over.value)


OLD, NEW = Report("h", 1, 7), Report("h", 2, 8)


def test_a_search_that_began_before_an_announcement_leads_nowhere():
    address = to("redis+sentinel://nowhere/announced")
    assert Search(address, [OLD]).ends() == address.epoch.number
    slow = Search(address, [OLD])
    address.epoch.end()
    late = Search(address, [OLD])  # its sentinel has not heard of it
    assert Search(address, [NEW]).ends() == address.epoch.number
    now = address.epoch.number
    assert slow.ends() != now
    late.connects()
    assert late.port == NEW.port
    assert late.ends() == address.epoch.number == now


def test_an_older_answer_does_not_lead_back_while_the_newer_primary_answers(monkeypatch):
    address = to("redis+sentinel://nowhere/behind")
    assert Search(address, [NEW]).ends() == address.epoch.number
    behind = Search(address, [OLD])
    assert behind.port == NEW.port
    assert behind.ends() == address.epoch.number
    behind = Search(address, [OLD])
    behind.refused()
    assert behind.port == OLD.port
    ended = address.epoch.number
    assert behind.ends() == address.epoch.number != ended
    assert Search(address, [NEW]).ends() == address.epoch.number
    monkeypatch.setattr(sentinel, "NEWS", -1.0)  # sentinels that were set up anew count from 0
    assert Search(address, [OLD]).port == OLD.port


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("search"), st.integers(1, 3), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("announce"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def both() -> list[SentinelAddress]:
    """Two stores of one service."""
    return [to("redis+sentinel://nowhere/shared") for _ in range(2)]


@given(steps=STEPS)
@example([("search", 1, 0), ("search", 2, 0), ("announce", 0, 0), ("end", 0, 0), ("end", 0, 0)])
def test_all_connections_of_an_epoch_lead_to_one_server_in_whatever_order_searches_end(both, steps):
    """Each search may end at any time after others have begun and ended."""
    first, _ = both
    under_way: list[tuple[Search, int]] = []
    led: dict[int, int] = {}
    announced = -1
    for turn, (what, which, epoch) in enumerate(steps):
        if what == "announce":
            first.epoch.end()
            announced = turn
        elif what == "search":
            under_way.append((Search(both[turn % 2], [Report("h", which, epoch)]), turn))
        elif under_way:
            one, began = under_way.pop(which % len(under_way))
            if one.ends() == first.epoch.number:  # others are of no use, and closed
                assert led.setdefault(first.epoch.number, one.port) == one.port
                assert began > announced
